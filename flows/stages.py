"""A stage of the work as a Prefect task that is skipped where its outputs hold.

Two things must be so for a stage to be skipped: a result of the same inputs was kept (the key:
fingerprints of what goes in, options, where it goes to, version of the code), and what it left
was looked at now and is whole. A key alone would skip a stage whose output somebody deleted.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

from prefect import Task, task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run

from flows.policy import worth_retrying
from flows.telling import told
from quickdraw_core.code_version import package_version
from quickdraw_core.config import Config
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.stage import RETRIES, RETRY_SECONDS, Opened
from quickdraw_core.stage import Stage as CoreStage

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


_opened: ContextVar[Opened | None] = ContextVar("quickdraw_opened", default=None)


@contextmanager
def sharing(opened: Opened) -> Iterator[Opened]:
    """A block whose stages work on what is open already."""
    token = _opened.set(opened)
    try:
        yield opened
    finally:
        _opened.reset(token)


def opened_here() -> Opened:
    """What the command or flow around this has open; of its own where nobody shares."""
    return _opened.get() or Opened()


class StageTask(Generic[C, R]):
    """A stage of the core as a task. Called in a flow, with the stage's configuration.

    task: the Prefect task, for its settings. Its result is small and is kept, so that a retried
    run, or another one with the same inputs, finds it.
    """

    def __init__(
        self,
        stage: CoreStage[C, R],
        description: str,
        show: Callable[[R], None] = lambda result: None,
        slots: Callable[[C], AbstractContextManager[object]] = lambda config: nullcontext(),
    ) -> None:
        """description: for people, in Prefect's UI. show: makes the artifacts of a result, of one
        too that an error brings as its `result`. slots: a block that holds what the work needs of
        the server's limits.
        """
        self.stage, self._show, self._slots = stage, show, slots
        self.task: Task[[C], R] = task(
            name=stage.name,
            description=description,
            retries=RETRIES,
            retry_delay_seconds=RETRY_SECONDS,
            retry_condition_fn=worth_retrying,
            persist_result=True,
            cache_key_fn=self._key,
        )(self._run)

    def __call__(self, config: C, opened: Opened | None = None) -> R:
        """Runs the stage, or takes its result of before. Raises what the stage raises."""
        with sharing(opened or opened_here()) as here:
            state = self.task.with_options(refresh_cache=not self._is_finished(config, here))(
                config, return_state=True
            )
            result: R = state.result()
        if state.name != "Cached":
            return result
        get_run_logger().info("%s: nothing to do, its outputs are there and whole", self._name)
        return _as_skipped(result)

    @property
    def _name(self) -> str:
        return self.stage.name

    def _run(self, config: C) -> R:
        with told(self._name):
            opened = opened_here()
            if max(task_run.run_count, flow_run.run_count) > 1:
                opened.forget()
                config = self.stage.going_on(config, _begun(), opened)
            result = self.stage.finished(config, opened)
            if result is None:
                try:
                    with self._slots(config):
                        result = self.stage.prepared(config, opened).run()
                except Exception as error:
                    self._show_of(error)
                    raise
            self._show(result)
        return result

    def _show_of(self, error: Exception) -> None:
        result = getattr(error, "result", None)
        if result is not None:
            self._show(result)

    def _is_finished(self, config: C, opened: Opened) -> bool:
        try:
            return self.stage.finished(config, opened) is not None
        except (QuickdrawError, OSError):
            return False  # the work itself then says why

    def _key(self, context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
        try:
            return self.stage.prepared(parameters["config"], opened_here()).key()
        except (QuickdrawError, OSError):
            return None


def _begun() -> float:
    """When the flow run was first begun, in seconds since the epoch."""
    context = FlowRunContext.get()
    begun = context.flow_run.start_time if context and context.flow_run else None
    return begun.timestamp() if begun else 0.0


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
