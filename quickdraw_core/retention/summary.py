"""What was cleaned up, as a table of the terminal and of Prefect's UI."""

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.filesize import decimal

from quickdraw_core.retention.clean import CleanResult
from quickdraw_core.retention.plan import Kind
from quickdraw_core.retention.remove import Outcome
from quickdraw_core.system.durations import in_words

HEADS = ["what", "where", "unused for", "size", "", "why"]
_MANY = (Kind.CHECKPOINT, Kind.INDEX, Kind.RESULT)
"""Kinds of which there may be hundreds: those of one folder with one reason are one line."""


def clean_table(result: CleanResult) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: what each thing weighs, whether it went, and why."""
    ordered = sorted(result.outcomes, key=_line_of)
    lines = [list(outcomes) for _, outcomes in groupby(ordered, _line_of)]
    return HEADS, [_row(outcomes, result.dry_run) for outcomes in lines]


def clean_facts(result: CleanResult) -> dict[str, str]:
    """The sums."""
    removed = [outcome for outcome in result.outcomes if outcome.removed]
    kept = [outcome for outcome in result.outcomes if not outcome.removed]
    facts = {
        "would remove" if result.dry_run else "removed": _sum(removed),
        "would keep" if result.dry_run else "kept": _sum(kept),
    }
    if result.dry_run:
        facts["dry run"] = "nothing was removed"
    return facts


def clean_markdown(result: CleanResult) -> str:
    """The sums and the table, in Markdown."""
    heads, rows = clean_table(result)
    facts = "\n".join(f"- {name}: {value}" for name, value in clean_facts(result).items())
    problems = "\n".join(f"- problem: {problem}" for problem in result.problems)
    cells = [heads, ["---"] * len(heads), *[[_cell(text) for text in row] for row in rows]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return "\n".join(filter(None, [facts, problems])) + f"\n\n{table}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _line_of(outcome: Outcome) -> tuple[int, bool, str, str]:
    """What is the same of all things of a line."""
    thing = outcome.thing
    is_one = thing.kind not in _MANY
    place = thing.name if is_one else str(Path(thing.name).parent)
    return (list(Kind).index(thing.kind), outcome.removed, place, outcome.reason)


def _row(outcomes: Sequence[Outcome], dry_run: bool) -> list[str]:
    first, count = outcomes[0], len(outcomes)
    kind, place = str(first.thing.kind), _shown(first.thing.name)
    if first.thing.kind in _MANY:
        place = _shown(str(Path(first.thing.name).parent))
        kind = f"{count:,} {_plural(kind, count)}"
    size = sum(outcome.thing.size_bytes for outcome in outcomes)
    went = ("would go" if dry_run else "removed") if first.removed else "kept"
    return [kind, place, _ages(outcomes), decimal(size), went, first.reason]


def _plural(kind: str, count: int) -> str:
    if count == 1:
        return kind
    return f"{kind[:-2]}ices" if kind.endswith("index") else f"{kind}s"


def _ages(outcomes: Sequence[Outcome]) -> str:
    used = [outcome.thing.used for outcome in outcomes if outcome.thing.used]
    if not used:
        return ""
    youngest, oldest = (in_words(time.time() - moment) for moment in (max(used), min(used)))
    return youngest if youngest == oldest else f"{youngest} to {oldest}"


def _sum(outcomes: Sequence[Outcome]) -> str:
    size = sum(outcome.thing.size_bytes for outcome in outcomes)
    return f"{decimal(size)} in {len(outcomes):,} thing{'' if len(outcomes) == 1 else 's'}"


def _shown(name: str) -> str:
    """A path from the working folder, if it is in there."""
    path, here = Path(name), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else name
