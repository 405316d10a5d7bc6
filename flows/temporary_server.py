"""The temporary Prefect server of one command: started if none is configured, ended with it."""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from flows.server import REMEDY, require_home, require_server
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.parent_death import die_with_parent

_START_SECONDS = 180
"""It takes some 6 on an idle machine, and took more than 20 on a busy one."""
_STOP_SECONDS = 5
_HOST = "127.0.0.1"
_ERROR = re.compile(r"^[\w.]+\.\w*(?:Error|Exception): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class _Server:
    """A temporary server that was started. log: what it prints."""

    process: "subprocess.Popen[bytes]"
    address: str
    log: IO[bytes]


_starting: _Server | None = None
"""The server that was started and has not answered yet."""


def start_temporary_server() -> None:
    """Starts a temporary Prefect server for this process, unless a server is configured, and waits
    until it answers.

    Prefect would do so by itself at the first flow. But it imports its whole server into this
    process for that, which takes longer than the flow of a small job; and its server is a child
    that Ctrl-C ends together with everything else on the terminal, so that the flow then waits
    minutes for a server to report its own end to.
    """
    global _starting
    begin_temporary_server()
    if _starting is None:
        return
    with _starting.log:  # open in the server for as long as that lives
        _wait_for(_starting)
    os.environ["PREFECT_API_URL"] = _starting.address
    refresh_global_settings_context()
    _starting = None


def begin_temporary_server() -> None:
    """The first half of `start_temporary_server`, which then only waits: for a caller that has
    other work to do while the server starts. The server ends with this process.
    """
    global _starting
    require_home()
    require_server()
    settings = get_current_settings()
    if _starting or settings.api.url is not None or not settings.server.ephemeral.enabled:
        return
    with socket.socket() as free:
        free.bind((_HOST, 0))
        address = f"http://{_HOST}:{free.getsockname()[1]}/api"
    _reach_without_proxy(_HOST)
    log = tempfile.TemporaryFile()  # noqa: SIM115 — closed when the server answers
    with _ctrl_c_blocked():
        process = _start(address, log)
    atexit.register(_stop, process)
    _starting = _Server(process, address, log)


def _reach_without_proxy(host: str) -> None:
    """Has this process reach its own host without the environment's proxy."""
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if excepted != "*" and host not in excepted.split(","):
        value = ",".join(filter(None, [excepted, host]))
        os.environ.update({"no_proxy": value, "NO_PROXY": value})


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """A block whose new children are deaf to Ctrl-C: a blocked signal stays blocked in a child."""
    blockable = hasattr(signal, "pthread_sigmask") and (
        threading.current_thread() is threading.main_thread()
    )
    if blockable:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if blockable:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start(address: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Starts a server as Prefect starts its own temporary one."""
    port = address.removesuffix("/api").rpartition(":")[2]
    kind = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    kind |= {"PREFECT__SERVER_FINAL": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "0"}
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    options = ["--host", _HOST, "--port", port, "--log-level", "error", "--lifespan", "on"]
    options += ["--app-dir", os.devnull]  # not a folder: the default is the working folder
    app = ["--factory", "prefect.server.api.server:create_app"]
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *app, *options],
        env={**child_environment(), **kind, **settings},
        stdout=log,
        stderr=log,
        preexec_fn=die_with_parent,
    )


def _wait_for(server: _Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urlopen(f"{server.address}/health", timeout=5):
                return
        except (URLError, OSError):
            if server.process.poll() is not None:
                server.log.seek(0)
                output = server.log.read().decode(errors="replace")
                raise QuickdrawError(
                    "Prefect's temporary server does not start: "
                    f"{last_error(output) or server.process.returncode}; {REMEDY}"
                ) from None
            if time.monotonic() > deadline:
                raise QuickdrawError(
                    f"Prefect's temporary server does not answer after {_START_SECONDS} s; start "
                    "one with `prefect server start`, and set PREFECT_API_URL to its address"
                ) from None
            time.sleep(0.05)


def last_error(output: str) -> str:
    """What a traceback ends with, in one line; empty if there is none."""
    errors = _ERROR.findall(output)
    return errors[-1].strip() if errors else ""


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
