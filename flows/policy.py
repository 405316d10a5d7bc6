"""When a failed stage is tried again, and with what."""

from typing import Any, TypeVar

from prefect.context import FlowRunContext
from prefect.runtime import flow_run, task_run

from quickdraw_core.config import Config
from quickdraw_core.errors import DivergedError, QuickdrawError, UnreadableError, WriteError
from quickdraw_core.store.location import Location
from quickdraw_core.store.place import modified_at

C = TypeVar("C", bound=Config)


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """Not after a refused option or input (exit code 2), a source that cannot be read, a full
    disk, or a loss that is no longer finite: a second try finds the same.

    A lost training process or a cluster that went away is worth it, since every stage goes on
    from what it has finished.
    """
    try:
        state.result()
    except QuickdrawError as error:
        found_again = isinstance(error, DivergedError | UnreadableError | WriteError)
        return error.exit_code != 2 and not found_again
    except Exception:  # noqa: BLE001 — whatever else it was, the next try may do
        return True
    return False


def fresh_once(config: C, *written: Location) -> C:
    """What this attempt is to do: `fresh` is for what was there before the flow run. What an
    attempt of it has begun anew, a later one goes on with, Prefect's or a person's Retry.

    written: files that are written once work is begun anew. One from before the flow run says
    that no attempt came so far, and `fresh` still holds.
    """
    if max(task_run.run_count, flow_run.run_count) < 2:
        return config
    context = FlowRunContext.get()
    begun = context.flow_run.start_time if context and context.flow_run else None
    times = (modified_at(file) for file in written)
    if begun and any(time is not None and time < begun.timestamp() for time in times):
        return config
    return config.updated({"fresh": False})
