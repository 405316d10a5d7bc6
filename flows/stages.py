"""A stage of the work as a Prefect task that is skipped if its outputs hold, whoever made them.

The task's state is *Cached* if Prefect kept a result of the same inputs, too (the key:
fingerprints of what goes in, options, where it goes to, version of the code). A key alone would
skip a stage whose output somebody deleted.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from prefect import Task, task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run

from flows.artifacts import reported
from quickdraw_core.config import Config
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.stage import RETRIES, RETRY_SECONDS, Opened, Prepared, Stage, is_worth_retrying

C = TypeVar("C", bound=Config)
R = TypeVar("R")

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
    """What the command or flow around this has open; its own if nothing is shared."""
    return _opened.get() or Opened()


def worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """What `is_worth_retrying` says of what a task raised, as Prefect asks it."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001 — which one it is decides
        return is_worth_retrying(error)
    return False


class StageTask(Generic[C, R]):
    """A stage of the core as a task. Called in a flow, with the stage's configuration.

    task: the Prefect task, for its settings. Its result is small and is kept, so that a retried
    run, or another one with the same inputs, finds it.
    """

    def __init__(
        self,
        stage: Stage[C, R],
        description: str,
        show: Callable[[R], None] = lambda result: None,
        slots: Callable[[C], AbstractContextManager[object]] = lambda config: nullcontext(),
        announce: Callable[[Prepared[R]], None] = lambda prepared: None,
    ) -> None:
        """description: for people, in Prefect's UI. show: makes the artifacts of a result, of one
        too that an error brings as its `result`. slots: a block that holds what the work needs of
        the server's limits. announce: makes the artifacts of work that is about to begin.
        """
        self.stage, self._show, self._slots, self._announce = stage, show, slots, announce
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
        """Runs the stage, or takes its earlier result. Raises what the stage raises."""
        with sharing(opened or opened_here()) as here:
            state = self.task.with_options(refresh_cache=not self._is_finished(config, here))(
                config, return_state=True
            )
            # Not the kept result, of which an earlier version of this program may have made less.
            finished = self.stage.finished(config, here) if state.name == "Cached" else None
        if finished is None:
            result: R = state.result()
            return result
        self._say_skipped()
        return finished

    def _run(self, config: C) -> R:
        with reported(self.stage.name):
            opened = opened_here()
            if max(task_run.run_count, flow_run.run_count) > 1:
                opened.forget()
                config = self.stage.going_on(config, begun(), opened)
            result = self.stage.finished(config, opened)
            if result is not None:
                self._say_skipped()
            else:
                try:
                    with self._slots(config):
                        prepared = self.stage.prepared(config, opened)
                        self._announce(prepared)
                        result = prepared.run()
                except Exception as error:
                    self._show_of(error)
                    raise
            self._show(result)
        return result

    def _say_skipped(self) -> None:
        get_run_logger().info(
            "%s: nothing to do, its outputs are there and whole", self.stage.name
        )

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


def begun() -> float:
    """When the flow run was first begun, in seconds since the epoch; 0 if it begins now."""
    context = FlowRunContext.get()
    started = context.flow_run.start_time if context and context.flow_run else None
    return started.timestamp() if started else 0.0
