"""The three figures of a sweep, as the original report has them: each as PNG and as SVG.

| figure | what it draws |
| --- | --- |
| loss-by-network | training loss against step, a line a row trained with cross entropy |
| accuracy-by-loss | validation top-3 against step, a line a loss on the same network |
| failed-training | loss and validation top-3 of the mistake shown on purpose, beside a right row |

Losses of different kinds cannot share an axis: hence accuracy in the second. Training loss is
that of some batches at a time and jitters; its lines are running means, and the figure says of
how many points. Points that are not finite are left out, and so is a figure without lines.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from quickdraw_core.drawing import Float64Array
from quickdraw_core.reporting.figure import COLOURS, apart
from quickdraw_core.sweep.results import RowResult
from quickdraw_core.system.files import open_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GREY = "#222222", "#777777"
_LOSS, _ACCURACY = "train/loss", "validation/top_3"
_RIGHT, _LOG_FORGOTTEN = "cross_entropy", "nll_without_log"


class Line(NamedTuple):
    """A curve of a figure: float64 [n] each."""

    label: str
    steps: Float64Array
    values: Float64Array


def draw_figures(rows: Sequence[RowResult], folder: Path) -> tuple[Path, ...]:
    """Draws what the rows' curves allow; returns the files, `NAME.png` and `NAME.svg` each."""
    import matplotlib

    drawn: list[Path] = []
    makers: dict[str, Callable[[Sequence[RowResult]], Figure | None]] = {
        "loss-by-network": _loss_by_network,
        "accuracy-by-loss": _accuracy_by_loss,
        "failed-training": _failed_training,
    }
    for name, make in makers.items():
        with matplotlib.rc_context({"text.parse_math": False}):  # a row may be named with dollars
            figure = make(rows)
        if figure is not None:
            drawn += [_save(figure, folder / f"{name}{suffix}") for suffix in (".png", ".svg")]
    return tuple(drawn)


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
    found = row.curves[curve]
    there = np.isfinite(found.values)
    values = np.asarray(found.values[there], np.float64)
    return Line(label, np.asarray(found.steps[there], np.float64), smoothed(values, points))


def _has(row: RowResult, curve: str) -> bool:
    """Whether there is a point of the curve to draw."""
    found = row.curves.get(curve)
    return found is not None and bool(np.isfinite(found.values).any())


def _points_of(rows: Sequence[RowResult]) -> int:
    """How many points a running mean takes: a twentieth of the longest curve."""
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
    figure = _canvas()
    axes = figure.add_subplot()
    _draw(axes, lines)
    mean = f", mean of {points} points" if points > 1 else ""
    _dress(axes, "Training loss by network and optimizer", f"cross entropy, nats{mean}")
    return figure


def _accuracy_by_loss(rows: Sequence[RowResult]) -> "Figure | None":
    """On the network that was trained with most losses, a row a loss: its first."""
    tried = [row for row in rows if not row.shown_as_failed and _has(row, _ACCURACY)]
    losses = {row.model: {other.loss for other in tried if other.model == row.model}
              for row in tried}  # fmt: skip
    model = max(losses, key=lambda name: len(losses[name]), default=None)
    first: dict[str, RowResult] = {}
    for row in tried:
        if row.model == model:
            first.setdefault(row.loss, row)
    if len(first) < 2:
        return None
    figure = _canvas()
    axes = figure.add_subplot()
    lines = [_line(row, _ACCURACY, f"{loss}\n({row.optimizer})") for loss, row in first.items()]
    _draw(axes, [line for line in lines if line is not None], marker="o")
    _dress(axes, f"Accuracy by loss function, {model}", "validation top-3")
    _as_share(axes)
    return figure


def _failed_training(rows: Sequence[RowResult]) -> "Figure | None":
    """The first row shown as failed; its accuracy where there is any to show."""
    failed = next((row for row in rows if row.shown_as_failed and _has(row, _LOSS)), None)
    if failed is None:
        return None
    right = _right_beside(failed, rows)
    same_loss = right is not None and right.loss == failed.loss
    points = _points_of([failed])
    loss = _line(failed, _LOSS, failed.name if same_loss else failed.loss, points)
    assert loss is not None
    pair = [_line(row, _ACCURACY, row.name if same_loss else row.loss)
            for row in (right, failed) if row is not None]  # fmt: skip
    judged = [line for line in pair if line is not None]
    figure = _canvas(width=11.5 if judged else 9.0)
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
    axes.annotate("0: the least that a right loss can be", (0.01, 0.02), color=_GREY, fontsize=9,
                  xycoords=axes.get_yaxis_transform(), va="bottom")  # fmt: skip
    axes.annotate("−1: every drawing right, and sure of it", (0.01, -0.98), color=_GREY,
                  fontsize=9, xycoords=axes.get_yaxis_transform(), va="bottom")  # fmt: skip


def _right_beside(failed: RowResult, rows: Sequence[RowResult]) -> RowResult | None:
    """The row with the right loss that is most like the failed one."""
    right = [row for row in rows if row.loss == _RIGHT and not row.shown_as_failed]

    def unlike(row: RowResult) -> tuple[bool, bool]:
        return (row.model != failed.model, row.optimizer != failed.optimizer)

    return min((row for row in right if _has(row, _ACCURACY)), key=unlike, default=None)


def row_labels(rows: Sequence[RowResult]) -> list[str]:
    """Of each row what tells it from the others: network and optimizer, with the schedule where
    that does not suffice; else its name.
    """
    short = [f"{row.model}, {row.optimizer}" for row in rows]
    longer = [f"{label}, {row.schedule}" for label, row in zip(short, rows, strict=True)]
    found = [
        label if short.count(label) == 1 else more
        for label, more in zip(short, longer, strict=True)
    ]
    return [
        label if found.count(label) == 1 else row.name
        for label, row in zip(found, rows, strict=True)
    ]


def _canvas(width: float = 9.0) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 5.2), layout="constrained", facecolor="white")


def _draw(
    axes: "Axes", lines: Sequence[Line], marker: str = "", colours: Sequence[str] = COLOURS
) -> None:
    """Lines with their names at their ends, where no legend covers them."""
    for place, line in enumerate(lines):
        axes.plot(line.steps, line.values, color=colours[place % len(colours)], linewidth=2,
                  marker=marker, markersize=4)  # fmt: skip
    low, high = axes.get_ylim()
    room = max(1, max(line.label.count("\n") + 1 for line in lines))
    ends = [float(line.values[-1]) for line in lines]
    for place, height in enumerate(apart(ends, 0.05 * room * (high - low), low, high)):
        line = lines[place]
        axes.annotate(
            line.label,
            xy=(line.steps[-1], ends[place]),
            xytext=(1.04, (height - low) / (high - low)),
            textcoords="axes fraction",
            color=colours[place % len(colours)],
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colours[place % len(colours)],
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkB": 3,
            },
        )
    axes.set_ylim(low, high)


def _dress(axes: "Axes", title: str, values: str) -> None:
    axes.set_title(title, loc="left", color=_INK)
    axes.set_xlabel("step")
    axes.set_ylabel(values)
    axes.margins(x=0)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def _as_share(axes: "Axes") -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _save(figure: "Figure", path: Path) -> Path:
    import matplotlib

    is_vector = path.suffix == ".svg"
    options = {"metadata": {"Date": None}} if is_vector else {"dpi": 150}
    # Names of an SVG's parts are random without a salt; text stays text, to be searched.
    with (
        matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}),
        open_atomic(path, sync=False) as file,
    ):
        figure.savefig(file, format=path.suffix[1:], **options)
    return path
