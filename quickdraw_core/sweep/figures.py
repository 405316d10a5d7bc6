"""The three figures of any sweep, as in the original report: each as PNG and as SVG.

| figure | what it draws |
| --- | --- |
| loss-by-network | training loss against step, a line per row with cross entropy |
| accuracy-by-loss | validation top-3 against step, a line per loss on the same network |
| failed-training | loss and validation top-3 of the row shown as failed, beside a right row |

Losses of different kinds cannot share an axis, so the second shows accuracy. Training loss is
noisy, so its lines are running means; the figure says of how many points. Points that are not
finite are left out, and so is a figure without lines.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quickdraw_core.drawing import Float64Array
from quickdraw_core.reporting.figure import COLOURS, dress, label_heights, new_figure, save_figure
from quickdraw_core.sweep.results import RowResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#777777"
_SIZE = (9.0, 5.2)
_LOSS, _ACCURACY = "train/loss", "validation/top_3"
_RIGHT, _LOG_FORGOTTEN = "cross_entropy", "nll_without_log"


class Line(NamedTuple):
    """A curve of a figure: float64 [n] each."""

    label: str
    steps: Float64Array
    values: Float64Array


def draw_figures(rows: Sequence[RowResult], folder: Path) -> tuple[Path, ...]:
    """Draws the figures that the rows have curves for; returns the files."""
    import matplotlib

    paths: list[Path] = []
    makers: dict[str, Callable[[Sequence[RowResult]], Figure | None]] = {
        "loss-by-network": _loss_by_network,
        "accuracy-by-loss": _accuracy_by_loss,
        "failed-training": _failed_training,
    }
    for name, make in makers.items():
        with matplotlib.rc_context({"text.parse_math": False}):  # a row may be named with dollars
            figure = make(rows)
        if figure is not None:
            for form in ("png", "svg"):
                paths.append(folder / f"{name}.{form}")
                save_figure(figure, paths[-1], form)
    return tuple(paths)


def smoothed(values: Float64Array, points: int) -> Float64Array:
    """The mean of each point and the `points` - 1 before it, fewer at the beginning: [n]."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - points)
    means: Float64Array = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _line(row: RowResult, curve: str, label: str, points: int = 1) -> Line | None:
    if not _has(row, curve):
        return None
    steps, values = row.curves[curve].steps, row.curves[curve].values
    finite = np.isfinite(values)
    smooth = smoothed(values[finite].astype(np.float64), points)
    return Line(label, steps[finite].astype(np.float64), smooth)


def _has(row: RowResult, curve: str) -> bool:
    """Whether there is a point of the curve to draw."""
    points = row.curves.get(curve)
    return points is not None and bool(np.isfinite(points.values).any())


def _points_of(rows: Sequence[RowResult]) -> int:
    """Points of a running mean: a twentieth of the longest curve."""
    longest = max((len(row.curves[_LOSS].steps) for row in rows if _LOSS in row.curves), default=0)
    return max(1, longest // 20)


def _loss_by_network(rows: Sequence[RowResult]) -> "Figure | None":
    right = [row for row in rows if row.loss == _RIGHT and not row.shown_as_failed]
    points = _points_of(right)
    lines = [
        line
        for row, label in zip(right, row_labels(right), strict=True)
        if (line := _line(row, _LOSS, label, points)) is not None
    ]
    if not lines:
        return None
    figure = new_figure(_SIZE)
    axes = figure.add_subplot()
    _draw(axes, lines)
    mean = f", mean of {points} points" if points > 1 else ""
    _dress(axes, "Training loss by network and optimizer", f"cross entropy, nats{mean}")
    return figure


def _accuracy_by_loss(rows: Sequence[RowResult]) -> "Figure | None":
    """For the network that was trained with most losses, the first row of each loss."""
    tried = [row for row in rows if not row.shown_as_failed and _has(row, _ACCURACY)]
    losses: dict[str, set[str]] = {}
    for row in tried:
        losses.setdefault(row.model, set()).add(row.loss)
    model = max(losses, key=lambda name: len(losses[name]), default=None)
    first: dict[str, RowResult] = {}
    for row in tried:
        if row.model == model:
            first.setdefault(row.loss, row)
    if len(first) < 2:
        return None
    figure = new_figure(_SIZE)
    axes = figure.add_subplot()
    lines = [_line(row, _ACCURACY, f"{loss}\n({row.optimizer})") for loss, row in first.items()]
    _draw(axes, [line for line in lines if line is not None], marker="o")
    _dress(axes, f"Accuracy by loss function, {model}", "validation top-3")
    _as_share(axes)
    return figure


def _failed_training(rows: Sequence[RowResult]) -> "Figure | None":
    """The first row shown as failed, with its accuracy if there is any."""
    failed = next((row for row in rows if row.shown_as_failed and _has(row, _LOSS)), None)
    if failed is None:
        return None
    right = _right_beside(failed, rows)
    same_loss = right is not None and right.loss == failed.loss
    points = _points_of([failed])
    loss = _line(failed, _LOSS, failed.name if same_loss else failed.loss, points)
    assert loss is not None
    pair = [row for row in (right, failed) if row is not None]
    lines = [_line(row, _ACCURACY, row.name if same_loss else row.loss) for row in pair]
    judged = [line for line in lines if line is not None]
    figure = new_figure((11.5, 5.2) if judged else _SIZE)
    left = figure.add_subplot(1, 2 if judged else 1, 1)
    mean = f", mean of {points} points" if points > 1 else ""
    if failed.loss == _LOG_FORGOTTEN:
        left.set_ylim(-1.08, max(0.12, float(loss.values.max()) + 0.08))
        _mark_where_a_loss_can_be(left)
        title = "The log forgotten: loss below zero"
    else:
        title = f"Failed on purpose: {failed.name}"
    _draw(left, [loss], colours=COLOURS[1:])
    _dress(left, title, f"training loss{mean}")
    if judged:
        other = figure.add_subplot(1, 2, 2)
        _draw(other, judged, marker="o", colours=COLOURS if right is not None else COLOURS[1:])
        _dress(other, "What it learns meanwhile", "validation top-3")
        _as_share(other)
    return figure


def _mark_where_a_loss_can_be(axes: "Axes") -> None:
    """The least that a right loss can be, and what one without its log comes to."""
    axes.axhline(0, color=_GREY, linewidth=1)
    axes.axhline(-1, color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    text: Any = {"color": _GREY, "fontsize": 9, "va": "bottom"}
    text["xycoords"] = axes.get_yaxis_transform()
    axes.annotate("0: the least that a right loss can be", (0.01, 0.02), **text)
    axes.annotate("−1: every drawing right, and sure of it", (0.01, -0.98), **text)


def _right_beside(failed: RowResult, rows: Sequence[RowResult]) -> RowResult | None:
    """The row with the right loss that is most like the failed one."""
    right = [row for row in rows if row.loss == _RIGHT and not row.shown_as_failed]

    def unlike(row: RowResult) -> tuple[bool, bool]:
        return (row.model != failed.model, row.optimizer != failed.optimizer)

    return min((row for row in right if _has(row, _ACCURACY)), key=unlike, default=None)


def row_labels(rows: Sequence[RowResult]) -> list[str]:
    """Labels: network and optimizer, with the schedule if those are not unique; else the name."""
    short = [f"{row.model}, {row.optimizer}" for row in rows]
    longer = [f"{label}, {row.schedule}" for label, row in zip(short, rows, strict=True)]
    labels = [
        label if short.count(label) == 1 else more
        for label, more in zip(short, longer, strict=True)
    ]
    return [
        label if labels.count(label) == 1 else row.name
        for label, row in zip(labels, rows, strict=True)
    ]


def _draw(
    axes: "Axes", lines: Sequence[Line], marker: str = "", colours: Sequence[str] = COLOURS
) -> None:
    """Lines with their names at their ends, so that no legend covers them."""
    line_colours = [colours[index % len(colours)] for index in range(len(lines))]
    for line, colour in zip(lines, line_colours, strict=True):
        style: Any = {"color": colour, "linewidth": 2, "marker": marker, "markersize": 4}
        axes.plot(line.steps, line.values, **style)
    low, high = axes.get_ylim()
    room = max(1, max(line.label.count("\n") + 1 for line in lines))
    ends = [float(line.values[-1]) for line in lines]
    heights = label_heights(ends, 0.05 * room * (high - low), low, high)
    for line, colour, height in zip(lines, line_colours, heights, strict=True):
        axes.annotate(
            line.label,
            xy=(line.steps[-1], line.values[-1]),
            xytext=(1.04, (height - low) / (high - low)),
            textcoords="axes fraction",
            color=colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkB": 3,
            },
        )
    axes.set_ylim(low, high)


def _dress(axes: "Axes", title: str, values: str) -> None:
    dress(axes, title, "step", values)
    axes.margins(x=0)
    axes.set_xlim(left=0)


def _as_share(axes: "Axes") -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
