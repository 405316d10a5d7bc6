"""A stage in Prefect's UI: its log lines, its progress and its results as artifacts.

Whatever fails here costs a line in the UI, never the work. A server that is away is not waited
for.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, TypeVar

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from quickdraw_core.progress import Bar, Reporter, current_reporter, report_to

T = TypeVar("T")

EVERY_SECONDS = 5.0
"""Between two updates of the progress. Shorter stages make no artifact."""

_CORE = logging.getLogger("quickdraw_core")


@contextmanager
def reported(stage: str) -> Iterator[None]:
    """A block whose progress becomes an artifact, and whose log lines are the run's."""
    artifact = _ProgressArtifact(stage)
    try:
        with _LINES.sent_to_run(), report_to(_ToBoth(current_reporter(), artifact)):
            yield
    finally:
        artifact.end()


def add_page(key: str, markdown: Callable[[T], str], result: T) -> None:
    """Makes an artifact of a result, as a page in Markdown."""
    add_artifact(lambda: create_markdown_artifact(markdown(result), key=key))


def add_mlflow_link(key: str, page: str | None) -> None:
    """Makes an artifact that links to the page of an MLflow run, if it has one."""
    if page is not None:
        add_artifact(lambda: create_link_artifact(page, "MLflow run", key=key))


def add_artifact(make: Callable[[], Any]) -> None:
    """Makes an artifact. One that cannot be made or sent is missing; the finished work stays."""
    try:
        make()
    except Exception as error:  # noqa: BLE001 — the work is done, whatever the UI lacks
        with suppress(MissingContextError):
            get_run_logger().warning("not shown in Prefect: %s", error)


class _Lines:
    """The core's log lines, which go to the runs and nowhere else while there are any: a run's
    logger prints them where it is meant to, and a command's display is not written into.
    """

    def __init__(self) -> None:
        self._lock, self._runs = threading.Lock(), 0
        self._before = (_CORE.level, _CORE.propagate)

    @contextmanager
    def sent_to_run(self) -> Iterator[None]:
        """A block whose lines, those of this thread, go to its run."""
        handler = _ToRun()
        with self._lock:
            if not self._runs:
                self._before = (_CORE.level, _CORE.propagate)
                _CORE.setLevel(logging.INFO)
                _CORE.propagate = False
            self._runs += 1
            _CORE.addHandler(handler)
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1
                _CORE.removeHandler(handler)
                if not self._runs:
                    level, _CORE.propagate = self._before
                    _CORE.setLevel(level)


_LINES = _Lines()


class _ToRun(logging.Handler):
    """Sends the records of this very thread's run to its log."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:
            return  # of another row of a sweep, which has a handler of its own
        with suppress(MissingContextError):
            get_run_logger().log(record.levelno, record.getMessage())


class _Counts:
    """A bar's numbers, for the thread that shows them."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done, self.text = 0.0, ""

    def advance(self, amount: float) -> None:
        self.done += amount

    def expect(self, total: float) -> None:
        self.total = total

    def note(self, text: str) -> None:
        self.text = text

    def log(self, text: str) -> None:
        self.note(text)

    @property
    def percent(self) -> float:
        return min(100.0, 100 * self.done / self.total) if self.total else 0.0

    def describe(self) -> str:
        of = f" of {self.total:,.0f}" if self.total else ""
        amount = f"{self.done:,.0f}{of} {self.unit}" if self.unit else ""
        return "; ".join(filter(None, [amount, self.text])) or self.name


class _ProgressArtifact:
    """Updates one progress artifact, of the bar that was opened last, in a thread of its own."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._bar: _Counts | None = None
        self._artifact: Any = None
        self._ended = threading.Event()
        # The thread's artifact belongs to the run in whose context this is made.
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._follow,), daemon=True)
        self._thread.start()

    def open(self, name: str, total: float | None, unit: str) -> _Counts:
        self._bar = _Counts(name, total, unit)
        return self._bar

    def close(self, bar: Bar) -> None:
        """The bar stays the last one until another opens."""

    def end(self) -> None:
        """Shows the last state, and waits for that a moment at most."""
        self._ended.set()
        self._thread.join(timeout=2)

    def _follow(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._show()
        if self._artifact is not None:
            self._show()

    def _show(self) -> None:
        bar = self._bar
        if bar is None:
            return
        with suppress(Exception):
            if self._artifact is None:
                self._artifact = create_progress_artifact(
                    bar.percent, key=f"progress-{self._stage}", description=bar.describe()
                )
            else:
                update_progress_artifact(self._artifact, bar.percent, bar.describe())


class _TwoBars:
    def __init__(self, *bars: Bar) -> None:
        self.bars = bars

    def advance(self, amount: float) -> None:
        for bar in self.bars:
            bar.advance(amount)

    def expect(self, total: float) -> None:
        for bar in self.bars:
            bar.expect(total)

    def note(self, text: str) -> None:
        for bar in self.bars:
            bar.note(text)

    def log(self, text: str) -> None:
        for bar in self.bars:
            bar.log(text)


class _ToBoth:
    """Reports to two."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def open(self, name: str, total: float | None, unit: str) -> _TwoBars:
        return _TwoBars(*(reporter.open(name, total, unit) for reporter in self._reporters))

    def close(self, bar: Bar) -> None:
        assert isinstance(bar, _TwoBars)
        for reporter, each in zip(self._reporters, bar.bars, strict=True):
            reporter.close(each)
