"""Running stages from the command line: directly, or as flows of a Prefect server."""

import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from quickdraw_core.errors import ConfigError
from quickdraw_core.system.termination import TerminatedError, ended_by_sigterm
from quickdraw_core.terminal.console import errors
from quickdraw_core.terminal.progress_display import show_progress

if TYPE_CHECKING:
    from quickdraw_core.config import Config
    from quickdraw_core.stage import Opened, Stage

C = TypeVar("C", bound="Config")
R = TypeVar("R")

_OPEN_FILES = 64

STOPPED = "stopped; the same command goes on from here"
STOPPED_ANEW = "stopped; the same command (without {}) goes on from here"


def run_stage(stage: "Stage[C, R]", config: C, prefect: bool, opened: "Opened | None" = None) -> R:
    """Prepares a stage, which refuses what is wrong, then runs it, or the flow of its name.

    opened: what is open already.
    """
    from quickdraw_core.stage import Opened, perform

    opened = opened or Opened()
    stage.prepared(config, opened)
    return run(
        lambda: perform(stage, config, opened),
        lambda: flow_of(stage.name)(config),
        opened,
        prefect,
    )


def run(direct: Callable[[], R], flow: Callable[[], R], opened: "Opened", prefect: bool) -> R:
    """Runs work and shows its progress: as a flow if a Prefect server is configured, or a
    temporary one asked for (`prefect`), else directly.

    opened: what is open already, which the flow uses as well.
    """
    from flows.configured import is_server_named

    with going_on_said():
        if not (prefect or is_server_named()):
            with show_progress():
                return direct()
        return run_flow(flow, opened)


def run_flow(flow: Callable[[], R], opened: "Opened") -> R:
    """Runs a flow and shows its progress, on a temporary server if none is configured."""
    _require_open_files()
    from flows.reruns.again import started_here
    from flows.server import answering
    from flows.stages import sharing
    from flows.temporary_server import start_temporary_server

    with show_progress(starting="Prefect"), answering():
        start_temporary_server()
        with started_here(), sharing(opened):
            return flow()


def flow_of(name: str) -> Callable[..., R]:
    """The flow of a name: the function of that name in the module of that name."""
    flow: Callable[..., R] = getattr(import_module(f"flows.{name}"), name)
    return flow


@contextmanager
def going_on_said() -> Iterator[None]:
    """A block in which Ctrl-C and SIGTERM print how to go on. SIGTERM is exit code 143."""
    try:
        with ended_by_sigterm():
            yield
    except KeyboardInterrupt as error:
        errors.print(how_to_go_on(sys.argv), soft_wrap=True)
        if isinstance(error, TerminatedError):
            raise SystemExit(128 + signal.SIGTERM) from None
        raise


def _require_open_files() -> None:
    """Raises `ConfigError` if Prefect could not open its files: it would wait without end."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < _OPEN_FILES:
        raise ConfigError(
            f"{limit} files may be open at once, and a flow takes {_OPEN_FILES}; raise the limit "
            "(ulimit -n 1024)"
        )


def how_to_go_on(arguments: Sequence[str]) -> str:
    """What Ctrl-C prints. With --fresh or --from, the same command would do again what is done."""
    asked = {
        "--fresh": any(word == "--fresh" or word.endswith("fresh=true") for word in arguments),
        "--from": any(word == "--from" or word.startswith("--from=") for word in arguments),
    }
    given = " and ".join(name for name, is_given in asked.items() if is_given)
    return STOPPED_ANEW.format(given) if given else STOPPED
