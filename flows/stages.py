"""A stage of the work as a Prefect task that is skipped where its outputs hold.

Two things must be so for a stage to be skipped: a result of the same inputs was kept (the key:
fingerprints of what goes in, options, where it goes to, version of the code), and what it left
was looked at now and is whole. A key alone would skip a stage whose output somebody deleted.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

from prefect import Task, task
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from flows.policy import worth_retrying
from flows.telling import told
from quickdraw_core.code_version import package_version
from quickdraw_core.config import Config
from quickdraw_core.errors import QuickdrawError

C = TypeVar("C", bound=Config)
R = TypeVar("R")


class Stage(Generic[C, R]):
    """One call into the core, as a task. Called in a flow, with the stage's configuration.

    task: the Prefect task, for its settings. Its result is small and is kept, so that a retried
    run, or another one with the same inputs, finds it.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[C], R],
        inputs: Callable[[C], object],
        is_finished: Callable[[C], bool],
    ) -> None:
        self._name, self._inputs, self._is_finished = name, inputs, is_finished

        def run(config: C) -> R:
            with told(name):
                return work(config)

        run.__doc__ = work.__doc__
        self.task: Task[[C], R] = task(
            name=name,
            retries=1,
            retry_delay_seconds=10,
            retry_condition_fn=worth_retrying,
            persist_result=True,
            cache_key_fn=self._key,
        )(run)

    def __call__(self, config: C) -> R:
        """Runs the stage, or takes its result of before. Raises what the work raises."""
        held = not getattr(config, "fresh", False) and self._is_finished(config)
        state = self.task.with_options(refresh_cache=not held)(config, return_state=True)
        result: R = state.result()
        if state.name != "Cached":
            return result
        get_run_logger().info("%s: nothing to do, its outputs are there and whole", self._name)
        return _as_skipped(result)

    def _key(self, context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
        """None where the inputs cannot be looked at: the work itself then says why."""
        try:
            inputs = self._inputs(parameters["config"])
        except (QuickdrawError, OSError):
            return None
        text = json.dumps([self._name, package_version(), inputs], sort_keys=True, default=str)
        return f"{self._name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def options_of(config: Config, *but: str) -> dict[str, Any]:
    """A configuration's values but those that decide nothing, as a key may hold them."""
    return config.model_dump(mode="json", exclude={"fresh", *but})


def _as_skipped(result: R) -> R:
    """The result of a stage that had nothing to do, which says so where it can."""
    if not is_dataclass(result) or isinstance(result, type):
        return result
    if not any(field.name == "skipped" for field in fields(result)):
        return result
    return replace(result, skipped=True)
