"""When a failed stage is tried again."""

from typing import Any

from quickdraw_core.errors import QuickdrawError


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """Not after a refused option or input (exit code 2): a second try finds the same.

    A lost training process or a cluster that went away is worth it, since every stage goes on
    from what it has finished.
    """
    try:
        state.result()
    except QuickdrawError as error:
        return error.exit_code != 2
    except Exception:  # noqa: BLE001 — whatever else it was, the next try may do
        return True
    return False
