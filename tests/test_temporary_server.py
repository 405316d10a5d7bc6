"""The temporary Prefect server of a command: cheap for the command, and gone with it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from command_line import environment_of
from forkserver import real_python
from service import until

from flows import temporary_server
from quickdraw_core.commands import jobs
from quickdraw_core.commands.running import STOPPED

START = (
    "import json, os, sys, time; from flows.temporary_server import start_temporary_server\n"
    "start_temporary_server()\n"
    "imported = [name for name in sys.modules if name.startswith('prefect.server.')]\n"
    "print(json.dumps([os.environ['PREFECT_API_URL'], imported]), flush=True)\n"
    "sys.stdin.readline()\n"
)
BEGIN = (
    "import json, sys; from flows import temporary_server\n"
    "temporary_server.begin_temporary_server()\n"
    "print(json.dumps([temporary_server._starting.process.pid, []]), flush=True)\n"
    "sys.stdin.readline()\n"
)


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that started a server, or does what the test's parameter says, and lives until it
    reads a line. Its environment names a proxy, as in a company's network, which does not answer,
    and files in its folder are named as modules of Python's.
    """
    for name in ("random", "types", "email"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user's file was run')\n")
    environment = {k: v for k, v in environment_of(tmp_path).items() if k.lower() != "no_proxy"}
    environment |= dict.fromkeys(["http_proxy", "HTTP_PROXY"], "http://127.0.0.1:9")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [real_python(), "-P", "-c", getattr(request, "param", START)],
        cwd=tmp_path,
        env=environment,
        text=True,
        **pipes,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def told_by(command: "subprocess.Popen[str]") -> tuple[str, list[str]]:
    """The server's address, and what the command imported of Prefect's server."""
    assert command.stdout is not None
    address, imported = json.loads(command.stdout.readline())
    return address, imported


def test_it_answers_and_ends_with_the_command(command: "subprocess.Popen[str]") -> None:
    address, imported = told_by(command)
    assert answers(address)
    assert not imported
    command.communicate("\n", timeout=300)
    assert command.returncode == 0
    assert not answers(address)


@pytest.mark.services  # its kernel's doing, as of one that has only begun: below
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's parent-death signal")
def test_it_ends_when_the_command_is_killed(command: "subprocess.Popen[str]") -> None:
    address, _ = told_by(command)
    assert answers(address)
    command.kill()
    command.wait()
    until(lambda: not answers(address), 300, "the server's end")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's parent-death signal")
@pytest.mark.parametrize("command", [BEGIN], indirect=True, ids=["begun"])
@pytest.mark.parametrize("ending", [None, signal.SIGINT, signal.SIGKILL])
def test_one_that_is_not_waited_for_ends_with_the_command(
    ending: signal.Signals | None, command: "subprocess.Popen[str]"
) -> None:
    assert command.stdout is not None
    server = Path("/proc", str(json.loads(command.stdout.readline())[0]))
    assert server.is_dir()
    if ending is not None:
        command.send_signal(ending)
    command.communicate("\n", timeout=300)
    until(lambda: not server.is_dir(), 300, "the server's end")


def test_ctrl_c_while_the_demo_draws_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_values: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(temporary_server, "begin_temporary_server", lambda: None)
    monkeypatch.setattr(jobs, "generate_csvs_into", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs.demo(tmp_path / "demo")
    assert capsys.readouterr().err.endswith(f"{STOPPED}\n")


def test_demo_draws_nothing_where_the_server_does_not_answer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quickdraw_core.cli", "demo"],
        cwd=tmp_path,
        env=environment_of(tmp_path) | {"PREFECT_API_URL": "http://127.0.0.1:1/api"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Prefect at http://127.0.0.1:1/api does not answer")
    assert not (tmp_path / "demo").exists()
