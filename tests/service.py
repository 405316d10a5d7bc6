"""A Prefect server, a worker and an MLflow server of a test's own, on loopback and free ports.

Each is started by the test and stopped by the process id that it holds; nothing outlives it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from forkserver import real_python

from quickdraw_core.launching.rendezvous import free_port

ROOT = Path(__file__).parents[1]


def until(
    found: Callable[[], Any], seconds: float = 300, what: str = "it", every: float = 0.25
) -> Any:
    """The first true value of `found`; fails where there is none for so long."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(every)


def end(process: "subprocess.Popen[bytes]", seconds: float = 20) -> None:
    """Ends a process of ours, by force where it does not listen."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Service:
    """A Prefect server with a worker. home: what Prefect keeps, and the folder that runs work in.

    state: of a flow run, by name, as the server has it.
    """

    home: Path
    port: int = field(default_factory=free_port)
    variables: dict[str, str] = field(default_factory=dict)
    server: "subprocess.Popen[bytes] | None" = None
    worker: "subprocess.Popen[bytes] | None" = None

    @property
    def api(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}/api"

    def environment(self) -> dict[str, str]:
        """Variables of all processes."""
        # mlflow tells its address to sub-processes by a variable, another test's as well.
        ours = ("PREFECT_", "MLFLOW_")
        here = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return here | {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(self.home / "results"),
            "DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "QUICKDRAW_HOME": str(self.home),
            **self.variables,
        }

    def start_server(self) -> None:
        """Starts the server, or again, and waits until it answers."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-ui"]
        words = ["-m", "prefect", "server", "start", *options]
        self.server = self._started(words, "server.log")
        until(lambda: self._answers("/ready"), 300, "the Prefect server")

    def stop_server(self) -> None:
        """Kills the server, as a machine that fails would."""
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def start_worker(self, pool: str = "cpu") -> None:
        """Starts a worker of a pool, as the containers do; it knows its runs by who is a child of
        whom, so it is not forked.
        """
        words = [str(ROOT / "infra" / "worker.py"), "--pool", pool]
        self.worker = self._started(words, "worker.log", real_python())

    def kill_worker(self) -> None:
        """Kills the worker alone; its runs' processes, sessions of their own, go on."""
        assert self.worker is not None
        os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()

    def _started(self, words: list[str], log: str, python: str = "") -> "subprocess.Popen[bytes]":
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / log).open("ab") as file:
            return subprocess.Popen(
                [python or sys.executable, *words],
                env=self.environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self, path: str) -> bool:
        try:
            return requests.get(self.api + path, timeout=5).ok
        except requests.RequestException:
            return False

    def call(self, path: str, value: Any = None, method: str = "POST") -> Any:
        """One request to the server's API; its answer."""
        answer = self._asked(path, value, method)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _asked(self, path: str, value: Any, method: str = "POST") -> requests.Response:
        """Asks again while SQLite is locked, which the server says by 503."""
        for _ in range(30):
            # Long: what else runs here may keep the server from its core.
            answer = requests.request(method, self.api + path, json=value, timeout=180)
            if answer.status_code != 503:
                break
            time.sleep(1)
        return answer

    def quickdraw(
        self, *words: object, seconds: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        """Runs `quickdraw …` against the server, in the service's folder."""
        return self._command("-m", "quickdraw_core.cli", *words, seconds=seconds)

    def run_deployment(self, name: str) -> "subprocess.CompletedProcess[str]":
        """Runs a deployment and waits for its end; the output is the run's log."""
        return self._command(ROOT / "infra" / "run_deployment.py", name)

    def _command(self, *words: object, seconds: float = 300) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *map(str, words)],
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def deployment(self, name: str) -> str:
        """The id of a deployment, by `flow/name`."""
        return str(self.call(f"/deployments/name/{name}", method="GET")["id"])

    def create_run(
        self, deployment: str, parameters: dict[str, Any] | None = None, **more: Any
    ) -> str:
        """Creates a run of a deployment, as the UI does; its id. more: of what is asked for."""
        answer = self.try_to_create(deployment, parameters or {}, **more)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def try_to_create(
        self, deployment: str, parameters: dict[str, Any], **more: Any
    ) -> requests.Response:
        """The server's answer to who wants to create a run."""
        value = {"parameters": parameters, "state": {"type": "SCHEDULED"}, **more}
        path = f"/deployments/{self.deployment(deployment)}/create_flow_run"
        return self._asked(path, value)

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run as the server has it."""
        found: dict[str, Any] = self.call(f"/flow_runs/{run_id}", method="GET")
        return found

    def state(self, run_id: str) -> str:
        """The name of a flow run's state: Completed, Failed, Crashed, …"""
        return str(self.run(run_id)["state"]["name"])

    def ended(self, run_id: str, seconds: float = 240) -> str:
        """Waits for a run's end; its state's name."""
        kinds = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(lambda: self.run(run_id)["state"]["type"] in kinds, seconds, f"the end of {run_id}")
        return self.state(run_id)

    def tasks(self, run_id: str) -> dict[str, list[str]]:
        """States of a run's tasks, each attempt of the flow its own, by the name of the stage."""
        where = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: dict[str, list[str]] = {}
        for task in self.call("/task_runs/filter", where):
            found.setdefault(task["name"].rpartition("-")[0], []).append(task["state"]["name"])
        return found

    def says(self, run_id: str, words: str) -> bool:
        """Whether a run's log comes to hold some words; its lines are sent with a delay."""
        return bool(
            until(lambda: any(words in line for line in self.logs(run_id)), 300, repr(words))
        )

    def logs(self, run_id: str) -> list[str]:
        """Lines of a run's log, in order."""
        where = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        return [line["message"] for line in self.call("/logs/filter", where)]

    def pid(self, run_id: str) -> int:
        """The process of a run, started by the worker."""

        def find() -> int | None:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    variables = (folder / "environ").read_bytes().split(b"\0")
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                ours = f"PREFECT__FLOW_RUN_ID={run_id}".encode() in variables
                if ours and any(b"prefect" in word for word in words):
                    return int(folder.name)
            return None

        found: int = until(find, 300, f"the process of {run_id}")
        return found


@contextmanager
def service(home: Path, **variables: str) -> Iterator[Service]:
    """A server and a worker of a pool that waits to be made, for the length of the block."""
    started = Service(home, variables=variables)
    try:
        started.start_server()
        started.start_worker()
        yield started
    finally:
        for process in (started.worker, started.server):
            if process is not None and process.poll() is None:
                end(process)
