"""Running a flow from the command line."""

from collections.abc import Callable
from typing import TypeVar

from quickdraw_core.console import errors, show_progress

T = TypeVar("T")

STOPPED = "stopped; the same command goes on from here"


def run(work: Callable[[], T]) -> T:
    """Runs a flow under a progress display, on Prefect's temporary server where none is set."""
    from flows.local import start_local_server

    try:
        with show_progress(starting="Prefect"):
            start_local_server()
            return work()
    except KeyboardInterrupt:
        errors.print(STOPPED, soft_wrap=True)
        raise
