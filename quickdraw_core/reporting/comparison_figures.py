"""Two figures of a comparison: all metrics with their intervals, and the words that changed."""

from pathlib import Path
from typing import TYPE_CHECKING

from quickdraw_core.metrics.comparison_text import plus_minus
from quickdraw_core.metrics.differences import ClassChange, Comparison, Difference
from quickdraw_core.metrics.metrics import METRICS
from quickdraw_core.reporting.figure import INK, LINE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORDS = 40
"""Words in the figure of changes: those that changed most."""

_DPI = 120
_BETTER, _WORSE, _UNCLEAR = "#0072B2", "#D55E00", "#9A9A9A"


def draw_differences(comparison: Comparison, path: Path) -> None:
    """Writes a PNG with a row per metric, each on its own scale; better is to the right."""
    figure = new_figure((8, 0.5 * len(METRICS) + 1.2))
    rows = figure.subplots(len(METRICS), 1)
    for axes, (name, metric) in zip(rows, METRICS.items(), strict=True):
        _draw_metric(axes, comparison.differences[name], metric.name)
    figure.suptitle(
        f"{_short(comparison.second)}\nagainst {_short(comparison.first)}\n"
        "difference and 95 % interval:  ← worse    better →",
        fontsize=11,
        color=INK,
    )
    save_figure(figure, path, dpi=_DPI)


def _draw_metric(axes: "Axes", difference: Difference, name: str) -> None:
    sign = -1 if difference.lower_is_better else 1
    ends = sorted((sign * difference.estimate.low, sign * difference.estimate.high))
    colour = _colour(difference.significant, difference.gain)
    reach = max(abs(ends[0]), abs(ends[1]), 1e-9) * 1.15
    axes.axvline(0, color=INK, linewidth=1)
    axes.plot(ends, [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot([difference.gain], [0], "o", color=colour, markersize=7)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.annotate(
        name, xy=(-0.01, 0.5), xycoords="axes fraction", ha="right", va="center", color=INK
    )
    axes.annotate(
        plus_minus(difference, signed=True),
        xy=(1.01, 0.5),
        xycoords="axes fraction",
        va="center",
        color=colour if difference.significant else INK,
    )
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#F6F5F2")


def draw_class_changes(comparison: Comparison, path: Path) -> None:
    """Writes a PNG of the words whose MAP@3 changed most; changes beyond chance in colour."""
    words = sorted(comparison.classes, key=lambda row: -abs(row.estimate.value))[:WORDS]
    words.sort(key=lambda row: row.estimate.value)
    figure = new_figure((8, 0.23 * len(words) + 1.6))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    for y, row in enumerate(words):
        colour = _colour(row.significant, row.estimate.value)
        ends = (row.estimate.low, row.estimate.high)
        axes.plot(ends, [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([row.estimate.value], [y], "o", color=colour, markersize=5)
    axes.set_yticks(range(len(words)), [row.word for row in words], fontsize=9)
    axes.set_ylim(-0.8, len(words) - 0.2)
    axes.set_xlabel(
        f"change in MAP@3: {_short(comparison.second)} less {_short(comparison.first)}"
    )
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(_class_title(comparison, words), loc="left", fontsize=11, color=INK)
    axes.spines[["left", "top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=_DPI)


def _class_title(comparison: Comparison, words: list[ClassChange]) -> str:
    most = (
        f"the {len(words)} that changed most of " if len(words) < len(comparison.classes) else ""
    )
    return (
        f"MAP@3 by word: {most}{len(comparison.classes)}, 95 % intervals\n"
        f"in colour: the {len(comparison.changed)} that changed beyond chance"
    )


def _colour(significant: bool, gain: float) -> str:
    if not significant:
        return _UNCLEAR
    return _BETTER if gain > 0 else _WORSE


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:18]}…{name[-20:]}"
