"""A comparison as one HTML page, which loads nothing: how much better, why, and at which words."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quickdraw_core.metrics.comparison_text import (
    class_cells,
    difference_table,
    sentence,
    sentences,
    short_name,
)
from quickdraw_core.metrics.differences import ClassChange, Comparison, Difference
from quickdraw_core.metrics.metrics import METRICS
from quickdraw_core.reporting.pages import render_page

_REACH = 1.15
"""Of a metric's bar: how much longer the line is than the farther end of the interval."""


class WhyText(NamedTuple):
    """What differs between two trainings. lines: the answer, and what is not recorded. rows: group
    (at its first row), name, and both values.
    """

    lines: Sequence[str]
    rows: Sequence[Sequence[str]] = ()


class Bar(NamedTuple):
    """An interval on a line whose middle is 0, in per cent of its width; better is to the right.

    verdict: "better", "worse" or "" if it is not more than noise.
    """

    low: float
    value: float
    high: float
    verdict: str


def comparison_page(
    comparisons: Sequence[Comparison], whys: Sequence[WhyText], facts: Mapping[str, str]
) -> str:
    """The page. whys: for each comparison what differs between the trainings, if it was asked
    for. facts: what was compared and how, name → value.
    """
    answers: Sequence[WhyText | None] = whys or [None] * len(comparisons)
    parts = [
        _part(number, comparison, answer)
        for number, (comparison, answer) in enumerate(zip(comparisons, answers, strict=True), 1)
    ]
    values = {"first": comparisons[0].first, "parts": parts, "facts": facts}
    return render_page("comparison.html.jinja", values)


def _part(number: int, comparison: Comparison, answer: WhyText | None) -> dict[str, object]:
    heads, rows = difference_table(comparison)
    differences = [comparison.differences[name] for name in METRICS]
    changed = comparison.changed
    names = comparison.first, comparison.second
    reach = max((_farther(row) for row in changed), default=1.0)
    unchanged = [row for row in comparison.classes if not row.significant]
    return {
        "id": f"comparison-{number}",
        "first": comparison.first,
        "second": comparison.second,
        "heads": heads,
        "short": (short_name(comparison.first), short_name(comparison.second)),
        "sentence": sentence(comparison),
        "further": sentences(comparison)[1:],
        "metrics": [
            (cells, _bar(d, d.lower_is_better, d.significant, _farther(d) or 1.0))
            for cells, d in zip(rows, differences, strict=True)
        ],
        "why": None if answer is None else answer._replace(lines=_begun(answer.lines, names)),
        "changed": [(class_cells(row), _bar(row, False, True, reach)) for row in changed],
        "unchanged": [class_cells(row) for row in sorted(unchanged, key=_by_change)],
    }


def _begun(lines: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """The lines with a capital at the beginning; a name that begins one stays as it is."""
    return [line if line.startswith(names) else f"{line[:1].upper()}{line[1:]}" for line in lines]


def _by_change(row: ClassChange) -> tuple[float, str]:
    return -row.estimate.value, row.word


def _farther(row: Difference | ClassChange) -> float:
    return max(abs(row.estimate.low), abs(row.estimate.high))


def _bar(
    row: Difference | ClassChange, lower_is_better: bool, significant: bool, reach: float
) -> Bar:
    sign = -1 if lower_is_better else 1
    value = sign * row.estimate.value
    low, high = sorted((sign * row.estimate.low, sign * row.estimate.high))

    def at(x: float) -> float:
        return 50 + 50 * x / (_REACH * reach)

    verdict = ("better" if value > 0 else "worse") if significant else ""
    return Bar(at(low), at(value), at(high), verdict)
