"""The report's figures: curves, classes, confusion, calibration."""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quickdraw_core.diagnosis.curves import Curve, Curves
from quickdraw_core.drawing import Float64Array
from quickdraw_core.metrics.judgement import ClassJudgement, Judgement
from quickdraw_core.metrics.metrics import CalibrationBin, Estimate
from quickdraw_core.reporting.confusion_order import in_order, most_confused
from quickdraw_core.reporting.figure import (
    BLUE,
    DPI,
    INK,
    LINE,
    MUTED,
    RED,
    SETTINGS,
    RenderedFigure,
    as_png,
    finished,
    lay_out,
    new_panel,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = (
    "loss",
    "map_at_3",
    "learning_rate",
    "classes",
    "classes_named",
    "confusion",
    "calibration",
)
CONFUSED_CLASSES = 30
FEW = 10
"""Drawings of a class: fewer say little of it."""
POINTS = 300
"""Of a curve, at most: more than that no eye tells apart at this size."""
_ROWS = 70
_PANEL = (4.4, 2.9)
_NAMED_DPI = 110
# What is bold in a cell must leave the number in it readable, on white and on black.
_DEEPEST = 0.6


def draw_figures(judgement: Judgement, curves: Curves) -> dict[str, RenderedFigure]:
    """Those of FIGURES that there is something to draw of, by name.

    curves: by the names that training gives them.
    """
    import matplotlib

    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # Of a word in letters that the font has not; in the page it is text, and fine.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        drawn = [
            *_curve_figures(curves),
            _classes(judgement),
            _classes_named(judgement),
            *_confusion(judgement),
            _calibration(judgement.calibration, judgement.n),
        ]
    return {figure.name: figure for figure in drawn}


def thinned(curve: Curve, at_most: int) -> tuple[Float64Array, Float64Array]:
    """Steps and values of a curve of any length at no more than so many points: means of
    neighbours, float64 [M] each.
    """
    groups = min(at_most, len(curve))
    cuts = np.linspace(0, len(curve), groups + 1).astype(np.int64)[:-1]
    sizes = np.diff([*cuts, len(curve)])
    x, y = (
        np.add.reduceat(v.astype(np.float64), cuts) / sizes for v in (curve.steps, curve.values)
    )
    return x, y


def _curve_figures(curves: Curves) -> list[RenderedFigure]:
    panels = (
        ("loss", "Loss over the steps", ("train/loss", "validation/loss")),
        ("map_at_3", "Validation MAP@3 over the steps", ("validation/map_at_3",)),
        ("learning_rate", "Learning rate over the steps", ("train/learning_rate",)),
    )
    drawn = []
    for name, caption, wanted in panels:
        found = {key: curves[key] for key in wanted if key in curves and len(curves[key])}
        if found:
            drawn.append(_curve_figure(name, caption, found))
    return drawn


def _curve_figure(name: str, caption: str, curves: Curves) -> RenderedFigure:
    figure, axes = new_panel(_PANEL)
    for key, curve in curves.items():
        is_validation = key.startswith("validation/")
        axes.plot(
            *thinned(curve, POINTS),
            color=RED if is_validation else BLUE,
            linewidth=1.6,
            marker="o" if is_validation and len(curve) <= 60 else "",
            markersize=3,
            label=key.split("/")[0],
        )
    if len(curves) > 1:
        axes.legend(frameon=False, loc="upper right", labelcolor=INK)
    if name == "learning_rate":
        axes.set_ylim(bottom=0)
    axes.set_title(caption.removesuffix(" over the steps"))
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params("x", nbins=5, integer=True)
    axes.grid(axis="y")
    said = (
        f"{key.replace('/', ' ').replace('_', ' ')} from {curve.values[0]:.3g} at step "
        f"{curve.steps[0]:,} to {curve.values[-1]:.3g} at step {curve.steps[-1]:,}"
        for key, curve in curves.items()
    )
    return finished(name, f"{caption}: {'; '.join(said)}.", figure)


def _sorted(judgement: Judgement) -> list[ClassJudgement]:
    """Best first; of equal ones by the word."""
    return sorted(judgement.classes, key=lambda row: (-row.scores["map_at_3"].value, row.word))


def _intervals(axes: "Axes", found: Sequence[Estimate], upright: bool) -> None:
    """Dots with their intervals at 0, 1, 2 …; hollow ones for few drawings."""
    dense = 1.0 if len(found) <= 100 else 0.6
    places = np.arange(len(found), dtype=np.float64)
    lines = axes.vlines if upright else axes.hlines
    lows, highs = [e.low for e in found], [e.high for e in found]
    lines(places, lows, highs, color=BLUE, linewidth=2.4 * dense, alpha=0.4)
    for is_few in (False, True):
        mine = np.array([(e.n < FEW) == is_few for e in found])
        values = np.array([e.value for e in found])[mine]
        axes.plot(
            *((places[mine], values) if upright else (values, places[mine])),
            "o",
            color=BLUE,
            markerfacecolor="none" if is_few else BLUE,
            markersize=4 * dense,
        )


def _classes(judgement: Judgement) -> RenderedFigure:
    rows = _sorted(judgement)
    found = [row.scores["map_at_3"] for row in rows]
    figure, axes = new_panel((5.2, 3.0))
    _intervals(axes, found, upright=True)
    mean = judgement.scores["map_at_3"].value
    axes.axhline(mean, color=RED, linewidth=1.2, linestyle=(0, (4, 3)))
    least = min(estimate.low for estimate in found)
    axes.set_ylim(max(0.0, math.floor(10 * least) / 10), 1.02)
    axes.set_xlim(-0.7, len(rows) - 0.3)
    axes.set_title("MAP@3 by class, best to worst")
    axes.set_xlabel(f"the {len(rows):,} classes; dashed: all drawings, {mean:.3f}")
    axes.set_xticks([])
    axes.grid(axis="y")
    alt = (
        f"MAP@3 of {len(rows):,} classes, best to worst: from {found[0].value:.3f} "
        f"({rows[0].word}) to {found[-1].value:.3f} ({rows[-1].word}); half of the classes "
        f"lie above {np.median([e.value for e in found]):.3f}."
    )
    return finished("classes", alt, figure)


def _classes_named(judgement: Judgement) -> RenderedFigure:
    """Tall, in columns: each class by name."""
    rows = _sorted(judgement)
    columns = math.ceil(len(rows) / _ROWS)
    height = math.ceil(len(rows) / columns)
    from matplotlib.figure import Figure

    size = (max(4.4, 3.3 * columns), 1.1 + 0.19 * height)
    figure = Figure(figsize=size, dpi=_NAMED_DPI, layout="constrained", facecolor="white")
    axes = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    for column, each in enumerate(axes):
        mine = rows[column * height : (column + 1) * height]
        _intervals(each, [row.scores["map_at_3"] for row in mine], upright=False)
        each.axvline(judgement.scores["map_at_3"].value, color=RED, linewidth=0.9)
        each.set_yticks([])
        for place, row in enumerate(mine):
            each.text(-0.05, place, row.word, ha="right", va="center", fontsize=8)
        each.set_ylim(height - 0.4, -0.6)
        each.set_xlim(-0.02, 1.02)
        each.grid(axis="x")
    mean = judgement.scores["map_at_3"].value
    figure.suptitle(
        f"MAP@3 by class with 95 % intervals; red: all drawings, {mean:.3f}",
        x=0.01,
        ha="left",
        fontsize=10.5,
    )
    alt = "MAP@3 of each class by name, with 95 % intervals"
    lay_out(figure)
    return RenderedFigure("classes_named", alt, as_png(figure, _NAMED_DPI), "")


def _confusion(judgement: Judgement) -> list[RenderedFigure]:
    counts = judgement.confusion
    chosen = in_order(counts, most_confused(counts, CONFUSED_CLASSES))
    if not chosen:
        return []
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    words = [judgement.label_map.words[label] for label in chosen]
    shares = counts[np.ix_(chosen, chosen)] / np.maximum(counts[chosen].sum(1), 1)[:, None]
    off = shares * (1 - np.eye(len(chosen)))
    side = 0.225 * len(chosen)
    width = max(len(word) for word in words) * 0.07
    figure, axes = new_panel((max(4.0, side + width + 0.4), side + width + 0.5))
    for colour, part, deepest in ((RED, off, off.max()), (BLUE, shares - off, 1.0)):
        cells = [(int(r), int(c)) for r, c in np.argwhere(part > 0)]
        if not cells:
            continue
        boxes = [Rectangle((c - 0.5, r - 0.5), 1, 1) for r, c in cells]
        collection = PatchCollection(boxes, facecolor=colour, linewidth=0)
        collection.set_alpha([_DEEPEST * math.sqrt(part[cell] / deepest) for cell in cells])
        axes.add_collection(collection)
    for r, c in np.argwhere(np.round(100 * shares) >= 1):
        axes.text(c, r, f"{100 * shares[r, c]:.0f}", ha="center", va="center", fontsize=6.5)
    places = range(len(words))
    axes.set_xticks(places, words, rotation=90, fontsize=8, color=INK)
    axes.set_yticks(places, words, fontsize=8, color=INK)
    axes.tick_params(length=0)
    edges = np.arange(len(words) + 1) - 0.5
    for lines in (axes.hlines, axes.vlines):
        lines(edges, edges[0], edges[-1], color=LINE, linewidth=0.6, zorder=0)
    axes.set_xlim(-0.52, len(words) - 0.48)
    axes.set_ylim(len(words) - 0.48, -0.52)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    axes.set_xlabel("first guess, % of the drawings")
    axes.set_ylabel("drawing of")
    row, column = divmod(int(off.argmax()), len(words))
    alt = (
        f"First guesses of the {len(words)} most confused classes. The largest share: "
        f"{off[row, column]:.0%} of the drawings of {words[row]} were taken for {words[column]}."
    )
    return [finished("confusion", alt, figure)]


def _calibration(bins: Sequence[CalibrationBin], total: int) -> RenderedFigure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.2), dpi=DPI, layout="constrained", facecolor="none")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = [found.from_confidence for found in bins]
    width = bins[0].to_confidence - bins[0].from_confidence
    axes.plot(
        (0, 1),
        (0, 1),
        color=MUTED,
        linewidth=1,
        linestyle=(0, (4, 3)),
        label="accuracy = confidence",
    )
    lows, highs = zip(*(proportion_interval(b.accuracy, b.n) for b in bins), strict=True)
    confidences = [found.confidence for found in bins]
    axes.vlines(confidences, lows, highs, color=BLUE, linewidth=2.2, alpha=0.4)
    axes.plot(confidences, [found.accuracy for found in bins], "o-", color=BLUE, markersize=4)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, 1)
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy by confidence of the first guess")
    axes.legend(frameon=False, loc="upper left", labelcolor=MUTED)
    axes.grid(axis="both")
    below.bar(edges, [b.n for b in bins], 0.9 * width, align="edge", color=BLUE, alpha=0.55)
    below.set_ylabel("drawings")
    below.set_xlabel("confidence")
    below.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    below.locator_params("y", nbins=3, integer=True)
    below.grid(axis="y")
    largest = max(bins, key=lambda found: found.n)
    alt = (
        f"Accuracy by confidence in {len(bins)} groups of {total:,} drawings. The largest group, "
        f"of {largest.n:,}, is {largest.confidence:.0%} sure on average and right in "
        f"{largest.accuracy:.0%}."
    )
    return finished("calibration", alt, figure)


def proportion_interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n, by Wilson's score (Wilson, "Probable inference", 1927),
    which stays within 0 and 1 and is of use for few drawings too.
    """
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
