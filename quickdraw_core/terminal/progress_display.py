"""How the command line shows progress: live bars on a terminal, plain lines everywhere else.

All of it goes to standard error, so that standard output holds only what was asked for.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from quickdraw_core.errors import ConfigError
from quickdraw_core.progress import SILENT, Bar, report_to
from quickdraw_core.terminal.progress_lines import LineReporter, rate_text


class _AmountColumn(ProgressColumn):
    """How much of how much."""

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), task.total
        if task.fields["unit"] == "bytes":
            whole = decimal(int(total)) if total is not None else "?"
            return Text(f"{decimal(done)}/{whole}", style="green")
        whole = f"{int(total)}" if total is not None else "?"
        return Text(f"{done:>{len(whole)}}/{whole}", style="green")


class _RateColumn(ProgressColumn):
    """Units a second: over the last seconds while work goes on, over all of it at the end."""

    def render(self, task: Task) -> Text:
        speed, unit = task.finished_speed or task.speed, task.fields["unit"]
        return Text(rate_text(speed, unit) if speed else unit, style="cyan")


class _RichBar:
    """One line of the display."""

    def __init__(self, display: Progress, task: TaskID) -> None:
        self.display, self.task = display, task

    def advance(self, amount: float) -> None:
        self.display.advance(self.task, amount)

    def expect(self, total: float) -> None:
        self.display.update(self.task, total=total)

    def note(self, text: str) -> None:
        self.display.update(self.task, note=text)

    def log(self, text: str) -> None:
        self.note(text)


class RichReporter:
    """Shows each bar as a line; a finished one stays as a record."""

    def __init__(self, display: Progress, starting: str | None) -> None:
        self._display = display
        self._starting: TaskID | None = None
        if starting is not None:
            self._starting = self.open("start", None, "").task
            display.update(self._starting, note=starting)

    def open(self, name: str, total: float | None, unit: str) -> _RichBar:
        """Adds a line. The display begins with the first one: none, and nothing is shown."""
        self._display.start()
        if self._starting is not None:
            self._display.remove_task(self._starting)
            self._starting = None
        task = self._display.add_task(name, total=total, unit=unit, note="")
        return _RichBar(self._display, task)

    def close(self, bar: Bar) -> None:
        """Stops the line's clock."""
        if isinstance(bar, _RichBar):
            self._display.stop_task(bar.task)


@contextmanager
def _live(starting: str | None) -> Iterator[None]:
    """Live bars, which rich redraws."""
    one_line = Column(no_wrap=True)
    display = Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<8}", table_column=one_line),
        BarColumn(bar_width=16),
        _AmountColumn(table_column=one_line),
        _RateColumn(table_column=one_line),
        TimeRemainingColumn(
            compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)
        ),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        console=Console(stderr=True, highlight=False, emoji=False, force_terminal=True),
    )
    try:
        with report_to(RichReporter(display, starting)):
            yield
    finally:
        display.stop()


def _plain(starting: str | None) -> AbstractContextManager[None]:
    """Lines, except for a start that takes a few seconds."""
    return report_to(LineReporter())


def _none(starting: str | None) -> AbstractContextManager[None]:
    return report_to(SILENT)


DISPLAYS: dict[str, Callable[[str | None], AbstractContextManager[None]]] = {
    "plain": _plain,
    "rich": _live,
    "none": _none,
}
"""By the name that `--progress` takes."""

_asked: ContextVar[str | None] = ContextVar("quickdraw_display", default=None)


@contextmanager
def display_as(name: str | None) -> Iterator[None]:
    """A block whose progress is shown in the way of this name; None: by what standard error is.

    Raises `ConfigError` for a name that DISPLAYS lacks.
    """
    if name is not None and name not in DISPLAYS:
        raise ConfigError(f"unknown progress {name!r}; known: {', '.join(DISPLAYS)}")
    token = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(token)


@contextmanager
def show_progress(starting: str | None = None) -> Iterator[None]:
    """Shows the progress of everything called inside the block.

    starting: what is going on until the first bar opens.
    """
    with DISPLAYS[_asked.get() or _fitting()](starting):
        yield


def _fitting() -> str:
    """The display for what standard error is connected to."""
    if sys.stderr is None:  # closed, by `2>&-`
        return "none"
    is_terminal = sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal
    return "rich" if is_terminal else "plain"
