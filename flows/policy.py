"""When a failed task is tried again."""

from typing import Any

from quickdraw_core.stage import is_worth_retrying


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """What `is_worth_retrying` says of what a task raised."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001 — which one it is decides
        return is_worth_retrying(error)
    return False
