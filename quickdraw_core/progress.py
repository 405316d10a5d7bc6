"""How long work reports its progress, without knowing who looks.

A stage opens a bar and advances it; the command line shows it with rich, a test or a plain
call of a flow shows nothing. The reporter stands in a context variable, so that no function
between the two has to pass it on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Bar(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: float) -> None:
        """Reports `amount` more units done."""

    def expect(self, total: float) -> None:
        """Corrects the total, if it becomes clear while the work goes on."""

    def note(self, text: str) -> None:
        """Shows a short text beside the bar, instead of the one before."""

    def log(self, text: str) -> None:
        """Reports an event, such as a validation: a line in a log, a note on a display."""


class Reporter(Protocol):
    """Opens bars. `unit` is a plural noun (`rows`, `images`); `total` None means unknown."""

    def open(self, name: str, total: float | None, unit: str) -> Bar:
        """Starts a bar."""

    def close(self, bar: Bar) -> None:
        """Ends a bar; it may stay on the screen as a line of record."""


class _Silent:
    """Reports nothing."""

    def open(self, name: str, total: float | None, unit: str) -> "_Silent":
        return self

    def close(self, bar: Bar) -> None:
        pass

    def advance(self, amount: float) -> None:
        pass

    def expect(self, total: float) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def log(self, text: str) -> None:
        pass


SILENT = _Silent()
_reporter: ContextVar[Reporter] = ContextVar("quickdraw_progress", default=SILENT)


@contextmanager
def report_to(reporter: Reporter) -> Iterator[None]:
    """Sends the progress of everything called inside the block to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def current_reporter() -> Reporter:
    """To whom progress goes now, for one who wants to look on beside it."""
    return _reporter.get()


@contextmanager
def progress(name: str, total: float | None, unit: str) -> Iterator[Bar]:
    """Opens a bar on the current reporter for the length of the block."""
    reporter = _reporter.get()
    bar = reporter.open(name, total, unit)
    try:
        yield bar
    finally:
        reporter.close(bar)


class _Of:
    """Opens bars whose names begin with whose they are."""

    def __init__(self, owner: str, reporter: Reporter) -> None:
        self._owner, self._reporter = owner, reporter

    def open(self, name: str, total: float | None, unit: str) -> Bar:
        return self._reporter.open(f"{self._owner}: {name}", total, unit)

    def close(self, bar: Bar) -> None:
        self._reporter.close(bar)


def reporter_of(owner: str) -> Reporter:
    """The current reporter, with `owner` before the name of each bar."""
    return _Of(owner, _reporter.get())


def duration_text(seconds: float) -> str:
    """A duration, to the second: `24 s`, `1 min 50 s`, `2 h 5 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
