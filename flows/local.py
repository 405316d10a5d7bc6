"""Running a flow from the command line, with or without a Prefect server."""

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
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from flows.server import REMEDY, require_home, require_server
from quickdraw_core.child_environment import child_environment
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.parent_death import die_with_parent

_START_SECONDS = 180
"""Some 6 on an idle machine; more than 20 were seen where others compute."""
_STOP_SECONDS = 5
_HOST = "127.0.0.1"
_ERROR = re.compile(r"^[\w.]+\.\w*(?:Error|Exception): (.+)$", re.MULTILINE)


def start_local_server() -> None:
    """Starts a temporary Prefect server for this process, unless a server is configured.

    Prefect would do so by itself at the first flow. But it imports its whole server into this
    process for that, which takes longer than the flow of a small job; and its server is a child
    that Ctrl-C ends together with everything else on the terminal, so that the flow then waits
    minutes for a server to report its own end to.
    """
    require_home()
    require_server()
    settings = get_current_settings()
    if settings.api.url is not None or not settings.server.ephemeral.enabled:
        return
    with socket.socket() as free:
        free.bind((_HOST, 0))
        address = f"http://{_HOST}:{free.getsockname()[1]}/api"
    _reach_without_proxy(_HOST)
    with tempfile.TemporaryFile() as log:  # open in the server for as long as that lives
        with _ctrl_c_blocked():
            server = _start(address, log)
        atexit.register(_stop, server)
        _wait_for(server, address, log)
    os.environ["PREFECT_API_URL"] = address
    refresh_global_settings_context()


def _reach_without_proxy(host: str) -> None:
    """Keeps this process's requests to its own host from a proxy that the environment names.

    The proxy of a company's network cannot reach the server, and the command waits in vain.
    """
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
    """As Prefect starts its own temporary server."""
    port = address.removesuffix("/api").rpartition(":")[2]
    kind = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    kind |= {"PREFECT__SERVER_FINAL": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "0"}
    ours = get_current_settings().to_environment_variables(exclude_unset=True)
    where = ["--host", _HOST, "--port", port, "--log-level", "error", "--lifespan", "on"]
    where += ["--app-dir", os.devnull]  # which is no folder: by default it is the working folder
    app = ["--factory", "prefect.server.api.server:create_app"]
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *app, *where],
        env={**child_environment(), **kind, **ours},
        stdout=log,
        stderr=log,
        preexec_fn=die_with_parent,
    )


def _wait_for(server: "subprocess.Popen[bytes]", address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urlopen(f"{address}/health", timeout=5):
                return
        except (URLError, OSError):
            if server.poll() is not None:
                log.seek(0)
                raise QuickdrawError(
                    "Prefect's temporary server does not start: "
                    f"{_last_error(log.read().decode(errors='replace')) or server.returncode}; "
                    f"{REMEDY}"
                ) from None
            if time.monotonic() > deadline:
                raise QuickdrawError(
                    f"Prefect's temporary server does not answer after {_START_SECONDS} s; start "
                    "one with `prefect server start`, and set PREFECT_API_URL to its address"
                ) from None
            time.sleep(0.05)


def _last_error(output: str) -> str:
    """What a traceback ends with, in one line; nothing where there is none."""
    errors = _ERROR.findall(output)
    return errors[-1].strip() if errors else ""


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
