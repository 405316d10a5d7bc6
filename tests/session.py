"""What all tests of a run share, whichever worker of pytest-xdist they are in.

Each costly thing is started once, by the first test that asks for it, and ends with the run. The
run's first process (the one that starts the workers) makes a folder and a fork server; servers are
children of the fork server, so they live as long as the run and not longer.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import pytest
from budget import uncounted
from forkserver import FLOWS, LEDGER, PROGRAM, REAL_PYTHON, ForkServer

FOLDER = "QUICKDRAW_TEST_SESSION"
"""Environment variable: the folder of this run."""
_RUNNING: list[object] = []
"""Processes that go on running: to forget a `Popen` of one is a warning, which fails a test."""


def begin(config: pytest.Config) -> None:
    """In each process of the run, before a test is collected."""
    if not hasattr(config, "workerinput"):
        # Else every process of a test compiles the project's modules anew.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        folder = tempfile.mkdtemp(prefix="quickdraw-tests-")
        config.add_cleanup(lambda: end(Path(folder)))
        server = ForkServer()
        config.add_cleanup(server.stop)
        os.environ |= {FOLDER: folder, PROGRAM: str(server.program), REAL_PYTHON: sys.executable}
    else:
        # Prefect and Dask, seconds of imports, which no case's time should hold. The fork server
        # has not loaded them, as they read their settings then.
        import_module("flows.pipeline")
    os.environ[LEDGER] = str(Path(os.environ[FOLDER], f"spent-{os.getpid()}"))
    sys.executable = python()  # the workers are forked, too


def end(folder: Path) -> None:
    """Ends what the tests of the run shared."""
    for made in folder.glob("*/process"):
        with suppress(ProcessLookupError):
            os.killpg(int(made.read_text()), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def python() -> str:
    """The program that stands for the interpreter, and forks."""
    return os.environ[PROGRAM]


def once(name: str, make: Callable[[Path], str]) -> str:
    """What `make` returns, given a folder of its own; called by the first who asks in this run."""
    folder = Path(os.environ[FOLDER]) / name
    with locked(name):
        answer = folder / "made.json"
        if not answer.is_file():
            shutil.rmtree(folder, ignore_errors=True)  # of one who asked before, and failed
            folder.mkdir()
            with uncounted():
                answer.write_text(json.dumps(make(folder)))
        return str(json.loads(answer.read_text()))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """A block that one process of the run is in at a time."""
    with (Path(os.environ[FOLDER]) / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prefect_python() -> str:
    """A program like `python`, of processes that have Prefect and the flows imported already, too:
    for commands that are flows.
    """

    def start(folder: Path) -> str:
        server = ForkServer(FLOWS, folder)
        (folder / "process").write_text(str(server.process))
        _RUNNING.append(server)
        return str(server.program)

    return once("prefect-forks", start)


def prefect_api() -> str:
    """Address of a Prefect server that all tests share, each with its own flows and folders."""

    def start(folder: Path) -> str:
        from service import Service

        service = Service(folder)
        service.start_server()
        assert service.server is not None
        (folder / "process").write_text(str(service.server.pid))
        _RUNNING.append(service.server)
        return service.api

    return once("prefect", start)
