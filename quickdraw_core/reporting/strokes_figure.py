"""The report's figure of partial drawings: MAP@3 and top-1 by the number of strokes."""

from collections.abc import Sequence

from quickdraw_core.metrics.by_strokes import AfterStrokes
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.reporting.figure import (
    BLUE,
    MUTED,
    RED,
    RenderedFigure,
    new_panel,
    render_figure,
)


def strokes_figure(after: Sequence[AfterStrokes]) -> RenderedFigure:
    """Scores by strokes with their intervals, the whole drawings at the right, and the share of
    the drawings that have no more strokes.
    """
    figure, axes = new_panel((5.2, 3.4))
    partial = [each for each in after if each.strokes is not None]
    counts = [each.strokes for each in partial if each.strokes is not None]
    at_whole = counts[-1] + max(1.0, 0.12 * counts[-1])
    positions = [*map(float, counts), at_whole]
    curves: dict[str, tuple[str, list[Estimate]]] = {
        "MAP@3": (BLUE, [each.map_at_3 for each in after]),
        "top-1 accuracy": (RED, [each.top_1 for each in after]),
    }
    for name, (colour, scores) in curves.items():
        values = [score.value for score in scores]
        lows, highs = [score.low for score in scores], [score.high for score in scores]
        axes.fill_between(
            positions[:-1], lows[:-1], highs[:-1], color=colour, alpha=0.2, linewidth=0
        )
        axes.vlines(at_whole, lows[-1], highs[-1], color=colour, linewidth=2.4, alpha=0.4)
        axes.plot(positions[:-1], values[:-1], "o-", color=colour, markersize=4, label=name)
        axes.plot(positions[-2:], values[-2:], "o", color=colour, markersize=4)
        axes.plot(positions[-2:], values[-2:], color=colour, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.plot(
        counts,
        [each.whole_share for each in partial],
        color=MUTED,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label="drawings that are whole by then",
    )
    axes.set_xticks(positions, [*map(str, counts), "all"])
    axes.set_ylim(0, 1.02)
    axes.set_xlim(counts[0] - 0.4, at_whole + 0.4)
    axes.set_title("Recognised after so many strokes")
    axes.set_xlabel("strokes")
    axes.legend(frameon=False, loc="lower right", labelcolor=MUTED)
    axes.grid(axis="y")
    first, last = after[0], after[-1]
    middle = after[len(after) // 2]
    alt = (
        f"Scores of {last.top_1.n:,} drawings by strokes drawn. MAP@3 is "
        f"{first.map_at_3.value:.3f} after {_strokes(first)}, {middle.map_at_3.value:.3f} after "
        f"{_strokes(middle)} and {last.map_at_3.value:.3f} of whole drawings; the first guess is "
        f"right in {first.top_1.value:.0%}, {middle.top_1.value:.0%} and {last.top_1.value:.0%}."
    )
    return render_figure("strokes", alt, figure)


def _strokes(after: AfterStrokes) -> str:
    if after.strokes is None:
        return "all strokes"
    return "1 stroke" if after.strokes == 1 else f"{after.strokes} strokes"
