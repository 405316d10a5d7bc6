"""What a comparison tells: sentences, tables, a page of Markdown. Pure."""

import math
from collections.abc import Sequence

from quickdraw_core.metrics.differences import (
    FALSE_DISCOVERIES,
    ClassChange,
    Comparison,
    Difference,
)
from quickdraw_core.metrics.metric_info import METRICS

_ROUGH = 2
"""Digits of a number of drawings that is an estimate."""

_WIDTH = 20
"""Letters of a model's name that a table shows."""


def sentence(comparison: Comparison, metric: str = "map_at_3") -> str:
    """Which is better in a metric, by how much, or that it cannot be told."""
    found = comparison.differences[metric]
    shown = METRICS[metric].name
    if not found.told:
        between = f"between {comparison.second} and {comparison.first} in {shown}"
        return (
            f"no difference can be told {between}: {plus_minus(found, signed=True)} on "
            f"{comparison.n:,} drawings"
        )
    word = "better" if found.gain > 0 else "worse"
    lower = " (lower is better)" if found.lower_is_better else ""
    return (
        f"{comparison.second} is {word} than {comparison.first} by {plus_minus(found)} in "
        f"{shown}{lower}"
    )


def sentences(comparison: Comparison) -> list[str]:
    """One for each metric; where MAP@3 is not told, how many drawings would tell it."""
    lines = [sentence(comparison, name) for name in METRICS]
    needed = needed_sentence(comparison)
    return [lines[0], *([needed] if needed else []), *lines[1:], classes_sentence(comparison)]


def needed_sentence(comparison: Comparison) -> str | None:
    """How many drawings would tell a difference in MAP@3 of the size that was found."""
    found = comparison.differences["map_at_3"]
    if found.told or found.drawings_to_tell is None:
        return None
    needed = _rounded_up(found.drawings_to_tell)
    return (
        f"to tell a difference of this size 95 % of the time, about {needed:,} drawings are "
        f"needed, {needed / comparison.n:,.1f} times as many"
    )


def classes_sentence(comparison: Comparison) -> str:
    """How many words changed beyond chance, and what chance alone would have shown."""
    words, told = len(comparison.classes), len(comparison.changed)
    return (
        f"{told:,} of {words:,} words changed beyond chance in MAP@3 (of those named, at most "
        f"{100 * FALSE_DISCOVERIES:.0f} % are expected to be named wrongly); the intervals of "
        f"{comparison.seeming:,} leave out 0, as about {FALSE_DISCOVERIES * words:.2g} would "
        "where nothing changed"
    )


def plus_minus(found: Difference, signed: bool = False) -> str:
    """`0.0123 ± 0.0041`: the size of a difference and half the width of its 95 % interval, with
    as many digits as mean something. signed: the second's less the first's.
    """
    digits = digits_of(found.half_width)
    value = found.estimate.value if signed else abs(found.estimate.value)
    # So that nothing is shown as -0.000.
    return f"{round(value, digits) + 0.0:.{digits}f} ± {found.half_width:.{digits}f}"


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
        found = comparison.differences[name]
        digits = digits_of(found.half_width)
        low, high = found.estimate.low, found.estimate.high
        rows.append(
            [
                metric.name,
                f"{found.first:.{digits}f}",
                f"{found.second:.{digits}f}",
                f"{found.estimate.value:+.{digits}f}",
                f"{low:+.{digits}f} to {high:+.{digits}f}",
                _verdict(found),
            ]
        )
    return heads, rows


def class_table(comparison: Comparison, at_most: int) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the words that changed beyond chance, greatest gain first; of more than
    `at_most`, the greatest changes.
    """
    changed = sorted(comparison.changed, key=lambda row: -abs(row.estimate.value))[:at_most]
    changed.sort(key=lambda row: (-row.estimate.value, row.word))
    heads = ["MAP@3 of", *_heads(comparison), "change", "95 % interval"]
    rows = [_class_row(row) for row in changed]
    if len(comparison.changed) > at_most:
        rows.append([f"… {len(comparison.changed) - at_most} more", *[""] * 4])
    return heads, rows


def _class_row(row: ClassChange) -> list[str]:
    return [
        row.word,
        f"{row.first:.3f}",
        f"{row.second:.3f}",
        f"{row.estimate.value:+.3f}",
        f"{row.estimate.low:+.3f} to {row.estimate.high:+.3f}",
    ]


def comparison_markdown(
    comparisons: Sequence[Comparison], figures: Sequence[Sequence[str]]
) -> str:
    """A page of all comparisons; `figures` are the names of each one's pictures."""
    lines = ["# Comparison", ""]
    for comparison, pictures in zip(comparisons, figures, strict=True):
        lines += [f"## {comparison.second} against {comparison.first}", ""]
        lines += [f"**{sentence(comparison)}**", ""]
        lines += [f"- {line}" for line in sentences(comparison)[1:]]
        lines += ["", *markdown_table(*difference_table(comparison)), ""]
        if comparison.changed:
            lines += [*markdown_table(*class_table(comparison, len(comparison.classes))), ""]
        lines += [f"![{name.removesuffix('.png')}]({name})\n" for name in pictures]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    table = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]


def _verdict(found: Difference) -> str:
    if not found.told:
        return "not told"
    return "better" if found.gain > 0 else "worse"


def _heads(comparison: Comparison) -> tuple[str, str]:
    return _head(comparison.first), _head(comparison.second)


def _head(name: str) -> str:
    """A model's name as a column has room for it."""
    return name if len(name) <= _WIDTH else f"{name[: _WIDTH // 2]}…{name[1 - _WIDTH // 2 :]}"


def _rounded_up(count: int) -> int:
    """With two digits, and not below."""
    unit: int = 10 ** max(0, len(str(count)) - _ROUGH)
    return -(-count // unit) * unit
