"""A comparison in words: sentences, tables, a page of Markdown. Pure."""

import math
from collections.abc import Sequence

from quickdraw_core.metrics.differences import ClassChange, Comparison, Difference
from quickdraw_core.metrics.metrics import METRICS
from quickdraw_core.metrics.significance import FALSE_DISCOVERIES

_ROUGH = 2
"""Significant digits of an estimated number of drawings."""

_WIDTH = 20
"""Characters of a model's name in a table."""


def sentence(comparison: Comparison, metric: str = "map_at_3") -> str:
    """Which is better in a metric, by how much; or that the difference is not significant."""
    difference, name = comparison.differences[metric], METRICS[metric].name
    if not difference.significant:
        return (
            f"no significant difference between {comparison.second} and {comparison.first} in "
            f"{name}: {plus_minus(difference, signed=True)} on {comparison.n:,} drawings"
        )
    lower = " (lower is better)" if difference.lower_is_better else ""
    return (
        f"{comparison.second} is {_verdict(difference)} than {comparison.first} by "
        f"{plus_minus(difference)} in {name}{lower}"
    )


def sentences(comparison: Comparison) -> list[str]:
    """One for each metric; if MAP@3 is not significant, how many drawings would be needed."""
    lines = [sentence(comparison, name) for name in METRICS]
    needed = needed_sentence(comparison)
    return [lines[0], *([needed] if needed else []), *lines[1:], classes_sentence(comparison)]


def needed_sentence(comparison: Comparison) -> str | None:
    """How many drawings would show the difference in MAP@3, if it is not significant."""
    difference = comparison.differences["map_at_3"]
    if difference.significant or difference.drawings_needed is None:
        return None
    needed = _rounded_up(difference.drawings_needed)
    return (
        f"to detect a difference of this size 95 % of the time, about {needed:,} drawings are "
        f"needed, {needed / comparison.n:,.1f} times as many"
    )


def classes_sentence(comparison: Comparison) -> str:
    """How many words changed beyond chance, and how many would seem to by chance alone."""
    words = len(comparison.classes)
    return (
        f"{len(comparison.changed):,} of {words:,} words changed beyond chance in MAP@3 (of those "
        f"named, at most {100 * FALSE_DISCOVERIES:.0f} % are expected to be named wrongly); the "
        f"intervals of {comparison.excluding_0:,} exclude 0, as about "
        f"{FALSE_DISCOVERIES * words:.2g} would if nothing changed"
    )


def plus_minus(difference: Difference, signed: bool = False) -> str:
    """`0.0123 ± 0.0041`: the size of a difference and half the width of its 95 % interval, with
    as many digits as mean something. signed: the second's value less the first's.
    """
    digits = digits_of(difference.half_width)
    value = difference.estimate.value if signed else abs(difference.estimate.value)
    # + 0.0: never -0.000.
    return f"{round(value, digits) + 0.0:.{digits}f} ± {difference.half_width:.{digits}f}"


def digits_of(half_width: float) -> int:
    """Decimals that show two digits of an uncertainty."""
    if half_width <= 0:
        return 4
    return min(6, max(2, 1 - math.floor(math.log10(half_width))))


def difference_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of all metrics: both values, the difference and its interval."""
    heads = ["metric", *_heads(comparison), "difference", "95 % interval", ""]
    rows = []
    for name, metric in METRICS.items():
        difference = comparison.differences[name]
        cells = _cells(difference, digits_of(difference.half_width))
        rows.append([metric.name, *cells, _verdict(difference)])
    return heads, rows


def class_table(comparison: Comparison, at_most: int) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the words that changed beyond chance, greatest gain first."""
    changed = sorted(comparison.changed, key=lambda row: -abs(row.estimate.value))[:at_most]
    changed.sort(key=lambda row: (-row.estimate.value, row.word))
    heads = ["MAP@3 of", *_heads(comparison), "change", "95 % interval"]
    rows = [class_cells(row) for row in changed]
    if len(comparison.changed) > at_most:
        rows.append([f"… {len(comparison.changed) - at_most} more", *[""] * 4])
    return heads, rows


def class_cells(row: ClassChange) -> list[str]:
    """A row of `class_table`: word, both values, the change and its interval."""
    return [row.word, *_cells(row, 3)]


def _cells(row: Difference | ClassChange, digits: int) -> list[str]:
    """Both values, the difference and its interval."""
    value, low, high = (f"{x:+.{digits}f}" for x in row.estimate[:3])
    return [f"{row.first:.{digits}f}", f"{row.second:.{digits}f}", value, f"{low} to {high}"]


def comparison_markdown(
    comparisons: Sequence[Comparison],
    figures: Sequence[Sequence[str]],
    sections: Sequence[Sequence[str]] = (),
    split: str = "test",
) -> str:
    """A page of all comparisons. figures: file names of each one's figures. sections: further
    lines for each, if any. split: whose drawings the models were judged on.
    """
    lines = ["# Comparison", ""]
    further = sections or [[] for _ in comparisons]
    for comparison, names, more in zip(comparisons, figures, further, strict=True):
        lines += [f"## {comparison.second} against {comparison.first}", ""]
        lines += [f"**{sentence(comparison)}**", ""]
        lines += [f"On {comparison.n:,} {split} drawings.", ""]
        lines += [f"- {line}" for line in sentences(comparison)[1:]]
        lines += ["", *markdown_table(*difference_table(comparison)), ""]
        if comparison.changed:
            lines += [*markdown_table(*class_table(comparison, len(comparison.classes))), ""]
        lines += more
        lines += [f"![{name.removesuffix('.png')}]({name})\n" for name in names]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    table = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]


def _verdict(difference: Difference) -> str:
    if not difference.significant:
        return "not significant"
    return "better" if difference.gain > 0 else "worse"


def _heads(comparison: Comparison) -> tuple[str, str]:
    return short_name(comparison.first), short_name(comparison.second)


def short_name(name: str) -> str:
    """A model's name, shortened to the width of a column."""
    return name if len(name) <= _WIDTH else f"{name[: _WIDTH // 2]}…{name[1 - _WIDTH // 2 :]}"


def _rounded_up(count: int) -> int:
    """Rounded up to two significant digits."""
    unit: int = 10 ** max(0, len(str(count)) - _ROUGH)
    return -(-count // unit) * unit
