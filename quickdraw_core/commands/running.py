"""Running a flow from the command line."""

import resource
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from quickdraw_core.console import errors
from quickdraw_core.errors import ConfigError
from quickdraw_core.progress_display import show_progress

T = TypeVar("T")

_OPEN_FILES = 64

STOPPED = "stopped; the same command goes on from here"
STOPPED_FRESH = "stopped; the same command (without --fresh) goes on from here"


def run(work: Callable[[], T]) -> T:
    """Runs a flow under a progress display, on Prefect's temporary server where none is set."""
    _require_open_files()
    from flows.local import start_local_server
    from flows.rerun import started_here
    from flows.server import answering

    try:
        with show_progress(starting="Prefect"), answering():
            start_local_server()
            with started_here():
                return work()
    except KeyboardInterrupt:
        errors.print(how_to_go_on(sys.argv), soft_wrap=True)
        raise


def _require_open_files() -> None:
    """Prefect waits without end where it cannot open its files. Raises `ConfigError`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < _OPEN_FILES:
        raise ConfigError(
            f"{limit} files may be open at once, and a flow takes {_OPEN_FILES}; raise the limit "
            "(ulimit -n 1024)"
        )


def how_to_go_on(arguments: Sequence[str]) -> str:
    """The last word after Ctrl-C: with --fresh, what is done would be thrown away."""
    fresh = any(word == "--fresh" or word.endswith("fresh=true") for word in arguments)
    return STOPPED_FRESH if fresh else STOPPED
