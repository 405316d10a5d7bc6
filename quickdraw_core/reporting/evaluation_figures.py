"""The report's figures of an evaluation: classes, confusion, calibration; and the list of all."""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quickdraw_core.diagnosis.curves import Curves
from quickdraw_core.metrics.by_strokes import StrokeJudgement
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
    lay_out,
    new_figure,
    new_panel,
    render_figure,
)
from quickdraw_core.reporting.strokes_figure import strokes_figure
from quickdraw_core.reporting.training_figures import CURVE_FIGURES, curve_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = (*CURVE_FIGURES, "classes", "classes_named", "confusion", "calibration", "strokes")
CONFUSED_CLASSES = 30
FEW = 10
"""A class with fewer drawings has a hollow dot: its interval says too little."""
_ROWS = 70
_NAMED_DPI = 110
# The deepest colour of a cell must leave its number readable, on white and on black.
_DEEPEST = 0.6


def draw_figures(
    judgement: Judgement, curves: Curves, by_strokes: StrokeJudgement | None = None
) -> dict[str, RenderedFigure]:
    """Those of FIGURES that there is data for, by name. curves: of the training, by name."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # For a word in letters that the font lacks. In the page it is text, which is fine.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figures = [
            *curve_figures(curves),
            _classes(judgement),
            _classes_named(judgement),
            *_confusion(judgement),
            _calibration(judgement.calibration, judgement.n),
            *([strokes_figure(by_strokes.after)] if by_strokes is not None else []),
        ]
    return {figure.name: figure for figure in figures}


def _sorted(judgement: Judgement) -> list[ClassJudgement]:
    """Best first; equal ones by word."""
    return sorted(judgement.classes, key=lambda row: (-row.scores["map_at_3"].value, row.word))


def _intervals(axes: "Axes", estimates: Sequence[Estimate], upright: bool) -> None:
    """Dots with their intervals at 0, 1, 2 …; hollow ones for fewer than FEW drawings."""
    dense = 1.0 if len(estimates) <= 100 else 0.6
    positions = np.arange(len(estimates), dtype=np.float64)
    lines = axes.vlines if upright else axes.hlines
    lows, highs = [e.low for e in estimates], [e.high for e in estimates]
    lines(positions, lows, highs, color=BLUE, linewidth=2.4 * dense, alpha=0.4)
    for is_few in (False, True):
        mine = np.array([(e.n < FEW) == is_few for e in estimates])
        values = np.array([e.value for e in estimates])[mine]
        axes.plot(
            *((positions[mine], values) if upright else (values, positions[mine])),
            "o",
            color=BLUE,
            markerfacecolor="none" if is_few else BLUE,
            markersize=4 * dense,
        )


def _classes(judgement: Judgement) -> RenderedFigure:
    rows = _sorted(judgement)
    scores = [row.scores["map_at_3"] for row in rows]
    figure, axes = new_panel((5.2, 3.0))
    _intervals(axes, scores, upright=True)
    mean = judgement.scores["map_at_3"].value
    axes.axhline(mean, color=RED, linewidth=1.2, linestyle=(0, (4, 3)))
    least = min(score.low for score in scores)
    axes.set_ylim(max(0.0, math.floor(10 * least) / 10), 1.02)
    axes.set_xlim(-0.7, len(rows) - 0.3)
    axes.set_title("MAP@3 by class, best to worst")
    axes.set_xlabel(f"the {len(rows):,} classes; dashed: all drawings, {mean:.3f}")
    axes.set_xticks([])
    axes.grid(axis="y")
    alt = (
        f"MAP@3 of {len(rows):,} classes, best to worst: from {scores[0].value:.3f} "
        f"({rows[0].word}) to {scores[-1].value:.3f} ({rows[-1].word}); half of the classes "
        f"lie above {np.median([score.value for score in scores]):.3f}."
    )
    return render_figure("classes", alt, figure)


def _classes_named(judgement: Judgement) -> RenderedFigure:
    """All classes by name, in columns."""
    rows = _sorted(judgement)
    columns = math.ceil(len(rows) / _ROWS)
    height = math.ceil(len(rows) / columns)
    figure = new_figure((max(4.4, 3.3 * columns), 1.1 + 0.19 * height), _NAMED_DPI)
    axes = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    for column, each in enumerate(axes):
        mine = rows[column * height : (column + 1) * height]
        _intervals(each, [row.scores["map_at_3"] for row in mine], upright=False)
        each.axvline(judgement.scores["map_at_3"].value, color=RED, linewidth=0.9)
        each.set_yticks([])
        for y, row in enumerate(mine):
            each.text(-0.05, y, row.word, ha="right", va="center", fontsize=8)
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
    ticks = range(len(words))
    axes.set_xticks(ticks, words, rotation=90, fontsize=8, color=INK)
    axes.set_yticks(ticks, words, fontsize=8, color=INK)
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
    return [render_figure("confusion", alt, figure)]


def _calibration(bins: Sequence[CalibrationBin], total: int) -> RenderedFigure:
    figure = new_figure((4.4, 4.2), DPI, "none")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = [b.from_confidence for b in bins]
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
    confidences = [b.confidence for b in bins]
    axes.vlines(confidences, lows, highs, color=BLUE, linewidth=2.2, alpha=0.4)
    axes.plot(confidences, [b.accuracy for b in bins], "o-", color=BLUE, markersize=4)
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
    largest = max(bins, key=lambda b: b.n)
    alt = (
        f"Accuracy by confidence in {len(bins)} groups of {total:,} drawings. The largest group, "
        f"of {largest.n:,}, is {largest.confidence:.0%} sure on average and right in "
        f"{largest.accuracy:.0%}."
    )
    return render_figure("calibration", alt, figure)


def proportion_interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n, by Wilson's score (Wilson, "Probable inference", 1927):
    it stays within 0 and 1, and holds for few drawings too.
    """
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
