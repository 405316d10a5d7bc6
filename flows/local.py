"""Running a flow from the command line, with or without a Prefect server."""

import signal
import threading

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings


def start_local_server() -> None:
    """Starts Prefect's temporary server for this process, unless a server is configured.

    Prefect would start it by itself at the first flow, but as a child that Ctrl-C ends together
    with everything else on the terminal; the flow then waits minutes for a server to report its
    own end to. A signal that is blocked stays blocked in a child, so it is started that way.
    """
    settings = get_current_settings()
    if settings.api.url is not None or not settings.server.ephemeral.enabled:
        return
    blockable = hasattr(signal, "pthread_sigmask") and (
        threading.current_thread() is threading.main_thread()
    )
    if blockable:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        if blockable:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
