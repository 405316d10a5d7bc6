"""docker-compose.yml on a private engine (`engine.py`), and what the tests ask of it."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn, TypeVar

import pytest
from engine import (
    PASSWORDS,
    ROOT,
    build_images,
    environment_of,
    package_index,
    start_engine,
    stop_engine,
    tools,
)

T = TypeVar("T")

_PROJECT = "quickdraw-test"
_ASK = """
import json, sys
from urllib.request import Request, urlopen
method, url, body = json.load(sys.stdin)
data = None if body is None else json.dumps(body).encode()
headers = {"Content-Type": "application/json"}
print(urlopen(Request(url, data, headers, method=method), timeout=60).read().decode() or "null")
"""

_ASK_SERVICE = """
import json, sys, urllib.error, urllib.request
url, body = json.loads(sys.argv[1])
data = None if body is None else json.dumps(body).encode()
try:
    answer = urllib.request.urlopen(
        urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=60)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, json.load(answer)]))
"""


def _unavailable(reason: str) -> NoReturn:
    """Skips the test, or fails it where QUICKDRAW_STACK says that the stack is required."""
    if os.environ.get("QUICKDRAW_STACK") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def compose_program(folder: Path) -> list[str]:
    """The words that `docker compose` is called by; skips where it cannot be had."""
    if shutil.which("docker"):
        found = subprocess.run(["docker", "compose", "version"], capture_output=True)
        if found.returncode == 0:
            return ["docker", "compose"]
    program = tools()
    if program is None:
        _unavailable("no docker compose on this machine")
    done = subprocess.run(
        [program, "compose_cli", folder], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        _unavailable(f"docker compose cannot be had here: {done.stderr.strip()[-200:]}")
    return [str(folder / "cfg" / "cli-plugins" / "docker-compose")]


@contextmanager
def running_engine() -> Iterator[Path]:
    """The folder of a private engine with all images in it; gone after the block.

    QUICKDRAW_STACK_ENGINE: the folder of one that is there, and stays.
    """
    program = tools()
    if program is None:
        _unavailable("the tools that make a private docker engine are not beside this checkout")
    if os.geteuid() != 0:
        _unavailable("a private docker engine takes root")
    there = os.environ.get("QUICKDRAW_STACK_ENGINE")
    if there:
        build_images(Path(there))
        yield Path(there)
        return
    # Not pytest's own folder: it keeps those of the last three runs, and this is of 15 GB.
    folder = Path(tempfile.mkdtemp(prefix="quickdraw-stack-"))
    try:
        start_engine(program, folder)
        build_images(folder)
        yield folder
    finally:
        stop_engine(program, folder)


class Stack:
    """A project of docker compose on an engine.

    engine: the engine's folder. env_file: the settings.
    """

    def __init__(self, engine: Path, env_file: Path) -> None:
        self._engine = (engine / "pids").read_text().split()[1]
        self._words = ["docker", "compose", "--project-name", _PROJECT]
        self._words += ["--env-file", str(env_file)]
        self._environment = environment_of(engine)

    def compose(self, *arguments: str, seconds: float = 600) -> str:
        """`docker compose …`; its output. Fails the test if it fails."""
        return self._run([*self._words, *arguments], seconds)

    def execute(self, service: str, *command: str, seconds: float = 600) -> str:
        """A command in a service's container; what it prints."""
        return self.compose("exec", "-T", service, *command, seconds=seconds)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine knows of the containers, of all services or of one."""
        wanted = [service] if service else []
        ids = self.compose("ps", "--all", "--quiet", *wanted).split()
        found: list[dict[str, Any]] = json.loads(self._run(["docker", "inspect", *ids], 60))
        return found

    def kill(self, service: str) -> None:
        """Kills the first process of a service's first container, with no warning, as the kernel
        does when memory ran out. (`docker kill` would count as a wish that it stays down.)
        """
        container = self.containers(service)[0]
        pid = str(container["State"]["Pid"])
        inside = ["nsenter", "--target", self._engine, "--pid", "--mount"]
        self._run([*inside, "sh", "-c", f"kill -9 {pid}"], 30)

    def ask(self, url: str, body: object = None, method: str | None = None) -> Any:
        """JSON from an address of the machine that the engine runs on: a published port."""
        method = method or ("GET" if body is None else "POST")
        command = ["nsenter", f"--net=/proc/{self._engine}/ns/net", sys.executable, "-c", _ASK]
        return json.loads(self._run(command, 90, json.dumps([method, url, body])))

    def play(self, path: str, body: object = None) -> tuple[int, Any]:
        """Status and answer of the game's API, asked for by its name."""
        asked = json.dumps([f"http://play:8000{path}", body])
        said = self.execute("prefect-worker", "python", "-c", _ASK_SERVICE, asked, seconds=90)
        status, answer = json.loads(said)
        return status, answer

    def prefect(self, path: str, body: object = None, method: str | None = None) -> Any:
        """An answer of Prefect's API."""
        return self.ask(f"http://127.0.0.1:4200/api/{path}", body, method)

    def mlflow(self, path: str, body: object = None) -> Any:
        """An answer of MLflow's API."""
        return self.ask(f"http://127.0.0.1:5000/api/2.0/mlflow/{path}", body)

    def _run(self, command: list[str], seconds: float, given: str | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout


def build_stand_in(engine: Path, image: str, dockerfile: str) -> None:
    """An image that is pulled elsewhere, and made here of packages, as no registry is reached."""
    words = ["docker", "build", "--quiet", "--tag", image]
    for option in package_index().items():
        words += ["--build-arg", "=".join(option)]
    done = subprocess.run(
        [*words, "-"],
        env=environment_of(engine),
        input=dockerfile,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{image}: {done.stdout[-4000:]}{done.stderr[-4000:]}"


@contextmanager
def running_stack(engine: Path, folder: Path, **settings: str) -> Iterator[Stack]:
    """The stack, up, with passwords of its own; down and without volumes afterwards.

    folder: where its .env goes. settings: further lines of it.
    """
    env_file = folder / ".env"
    passwords = {name: secrets.token_hex(24) for name in PASSWORDS}
    lines = [f"{k}={v}\n" for k, v in (passwords | settings).items()]
    env_file.touch(mode=0o600)
    env_file.write_text("".join(lines))
    stack = Stack(engine, env_file)
    try:
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "900", seconds=960)
        yield stack
    except BaseException:
        sys.stderr.write(stack.compose("logs", "--tail", "60"))
        raise
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 900) -> T:
    """The first answer of `look` that is something; fails after a while."""
    deadline = monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        sleep(1)


SOURCE = "/data/small/csv"
"""What the nightly pipeline reads here. It is not there when the stack comes up."""


def runs_of(stack: Stack, deployment: str) -> list[dict[str, Any]]:
    """Prefect's runs of a deployment, those to come too, by their time."""
    flow, name = deployment.split("/")
    query = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
    found: list[dict[str, Any]] = stack.prefect("flow_runs/filter", query)
    return sorted(found, key=lambda run: str(run["expected_start_time"]))


def mlflow_runs(stack: Stack, *statuses: str) -> list[dict[str, Any]]:
    """MLflow's runs, the first one first; all, or those of some statuses."""
    experiment = stack.mlflow("experiments/get-by-name?experiment_name=quickdraw")["experiment"]
    query = {"experiment_ids": [experiment["experiment_id"]], "order_by": ["start_time"]}
    found: list[dict[str, Any]] = stack.mlflow("runs/search", query).get("runs", [])
    return [run for run in found if not statuses or run["info"]["status"] in statuses]
