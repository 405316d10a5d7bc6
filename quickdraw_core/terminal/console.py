"""What the command line prints: facts, tables, errors. All of it with rich."""

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quickdraw_core.system.output_files import standard_stream

_is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: closed, by `>&-`
# No emoji: `:cat:` in the name of a folder stays as it is.
console = Console(highlight=False, emoji=False, width=None if _is_terminal else 120)
errors = Console(stderr=True, highlight=False, emoji=False)


def leave_stdout_to(*outputs: Path | None) -> None:
    """Prints to standard error from now on if one of a command's files is standard output."""
    files = [standard_stream(path) for path in outputs if path is not None]
    console.stderr = any(file is sys.stdout for file in files)


def show_facts(facts: dict[str, str]) -> None:
    """Prints name and value, a line each; nothing is wrapped, so that paths can be copied."""
    for name, value in facts.items():
        console.print(f"[bold]{name:<12}[/] {escape(value)}", soft_wrap=True)


def show_lines(lines: list[str]) -> None:
    """Prints lines as they are: brackets in them are no markup, and nothing is wrapped."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def show_table(heads: list[str], rows: list[list[str]], numbers: bool = True) -> None:
    """Prints a table. The first column is text, the others are numbers, or else text as well: the
    last one is then wrapped if it is too wide.
    """
    table = Table(box=None, header_style="bold")
    for column, head in enumerate(heads):
        is_last = 0 < column == len(heads) - 1
        table.add_column(
            head,
            justify="right" if column and numbers else "left",
            no_wrap=numbers or not is_last,
        )
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
