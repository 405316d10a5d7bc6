"""When a failed stage is tried again, and with what."""

from typing import Any

from quickdraw_core.errors import DivergedError, QuickdrawError, UnreadableError, WriteError


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
