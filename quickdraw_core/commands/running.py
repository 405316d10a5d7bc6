"""Running a flow from the command line."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from quickdraw_core.console import errors, show_progress

T = TypeVar("T")

STOPPED = "stopped; the same command goes on from here"
STOPPED_FRESH = "stopped; the same command (without --fresh) goes on from here"


def run(work: Callable[[], T]) -> T:
    """Runs a flow under a progress display, on Prefect's temporary server where none is set."""
    from flows.local import start_local_server

    try:
        with show_progress(starting="Prefect"):
            start_local_server()
            return work()
    except KeyboardInterrupt:
        errors.print(how_to_go_on(sys.argv), soft_wrap=True)
        raise


def how_to_go_on(arguments: Sequence[str]) -> str:
    """The last word after Ctrl-C: with --fresh, what is done would be thrown away."""
    fresh = any(word == "--fresh" or word.endswith("fresh=true") for word in arguments)
    return STOPPED_FRESH if fresh else STOPPED
