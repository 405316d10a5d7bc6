"""What the command line shows: progress bars, tables, the last word. All of it with rich."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
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
from rich.table import Column, Table
from rich.text import Text

from quickdraw_core.output_files import standard_stream
from quickdraw_core.progress import Bar, report_to

_is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: closed, by `>&-`
# No emoji: in the name of a folder `:cat:` is no picture.
console = Console(highlight=False, emoji=False, width=None if _is_terminal else 120)
errors = Console(stderr=True, highlight=False, emoji=False)


def leave_stdout_to(*outputs: Path | None) -> None:
    """Prints to standard error from now on if one of a command's files is standard output."""
    files = [standard_stream(path) for path in outputs if path is not None]
    console.stderr = any(file is sys.stdout for file in files)


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
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if unit == "bytes":
            return Text(f"{decimal(int(speed))}/s" if speed else unit, style="cyan")
        return Text(f"{speed:,.0f} {unit}/s" if speed else unit, style="cyan")


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
def show_progress(starting: str | None = None) -> Iterator[None]:
    """Shows the progress of everything called inside the block.

    starting: what is going on until the first bar opens.
    """
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
        console=console,
    )
    try:
        with report_to(RichReporter(display, starting)):
            yield
    finally:
        display.stop()


def show_facts(facts: dict[str, str]) -> None:
    """Prints name and value, a line each; nothing is wrapped, so that paths can be copied."""
    for name, value in facts.items():
        console.print(f"[bold]{name:<12}[/] {escape(value)}", soft_wrap=True)


def show_lines(lines: list[str]) -> None:
    """Prints lines as they are: brackets in them are no markup, and nothing is wrapped."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def show_table(heads: list[str], rows: list[list[str]], numbers: bool = True) -> None:
    """Prints a table; the first column is text, the others are numbers, or text as well, of which
    the last goes on in the next line where there is no room for it.
    """
    table = Table(box=None, header_style="bold")
    for place, head in enumerate(heads):
        is_last = bool(place) and place == len(heads) - 1
        table.add_column(
            head,
            justify="right" if place and numbers else "left",
            no_wrap=numbers or not is_last,
        )
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
