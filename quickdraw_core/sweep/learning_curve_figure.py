"""The figure of a learning curve, as PNG and as SVG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quickdraw_core.metrics.metrics import METRICS
from quickdraw_core.reporting.figure import (
    BLUE,
    INK,
    LINE,
    MUTED,
    RED,
    dress,
    lay_out,
    new_figure,
    save_figure,
)
from quickdraw_core.sweep.learning_curve import ASKED, FAR, LearningCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "learning-curve"
_POINTS = 120
"""Of a drawn fit."""


def draw_learning_curve(curve: LearningCurve, folder: Path) -> tuple[Path, ...]:
    """Draws points, fit and published values; returns the files, none if there is no point."""
    import matplotlib

    if not curve.points:
        return ()
    with matplotlib.rc_context({"text.parse_math": False}):  # a note may hold a dollar sign
        figure = new_figure((9.0, 5.2))
        axes = figure.add_subplot()
        metric = METRICS[curve.metric]
        title = f"{metric.name} by train drawings a class, {curve.classes} classes"
        dress(axes, title, "train drawings a class, mean over classes", metric.name)
        axes.grid(axis="x", color=LINE, linewidth=0.6)
        if curve.fit is None:
            why: Any = {
                "color": MUTED,
                "fontsize": 8.5,
                "ha": "right",
                "xycoords": "axes fraction",
            }
            axes.annotate(f"no fit: {curve.without_fit}", xy=(0.99, 0.02), **why)
        else:
            _draw_fit(axes, curve)
        _draw_points(axes, curve)
        _draw_published(axes, curve)
        if metric.is_share:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        _scale(axes)
        corner: Any = "upper right" if metric.lower_is_better else "upper left"
        axes.legend(frameon=False, loc=corner, labelcolor=INK, fontsize=9)
        lay_out(figure)
        paths = tuple(folder / f"{NAME}.{form}" for form in ("png", "svg"))
        for path in paths:
            save_figure(figure, path, path.suffix[1:])
    return paths


def _scale(axes: "Axes") -> None:
    """A logarithmic axis of drawings between two powers of ten, so that at least two are named."""
    low, high = axes.dataLim.intervalx
    axes.set_xscale("log")
    axes.set_xlim(0.8 * 10 ** np.floor(np.log10(low)), 1.25 * 10 ** np.ceil(np.log10(high)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter("")


def _draw_fit(axes: "Axes", curve: LearningCurve) -> None:
    """Solid where rows were trained, dashed beyond; the band is the 95 % interval."""
    end = max(*ASKED, *(value.drawings_a_class for value in curve.published))
    drawings = np.geomspace(curve.points[0].drawings, max(end, curve.most), _POINTS)
    fitted = [curve.at(n) for n in drawings]
    values = np.array([interval.value for interval in fitted])
    lows, highs = [i.low for i in fitted], [i.high for i in fitted]
    axes.fill_between(drawings, lows, highs, color=BLUE, alpha=0.15, linewidth=0)
    # One point is in both, so that there is no gap.
    tried = int(np.searchsorted(drawings, curve.most))
    axes.plot(drawings[: tried + 1], values[: tried + 1], color=BLUE, linewidth=1.8, label="fit")
    style: Any = {"color": BLUE, "linewidth": 1.4, "linestyle": (0, (4, 3))}
    axes.plot(drawings[tried:], values[tried:], label="extrapolated", **style)
    if end > FAR * curve.most:
        axes.axvline(FAR * curve.most, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.annotate(
            f"beyond {FAR} times the most\ndrawings tried: a guess",
            xy=(FAR * curve.most, 0.02),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=MUTED,
            fontsize=8.5,
        )


def _draw_points(axes: "Axes", curve: LearningCurve) -> None:
    measured = [point.measured for point in curve.points]
    axes.errorbar(
        [point.drawings for point in curve.points],
        [estimate.value for estimate in measured],
        yerr=[[e.value - e.low for e in measured], [e.high - e.value for e in measured]],
        fmt="o",
        color=BLUE,
        markersize=5,
        capsize=3,
        linewidth=1.4,
        label="measured, with 95 % interval",
    )


def _draw_published(axes: "Axes", curve: LearningCurve) -> None:
    """Hollow, with what they are of beside them: mostly other classes than the sweep's."""
    for index, value in enumerate(curve.published):
        low, high = value.span
        middle, n = (low + high) / 2, value.drawings_a_class
        label = "published by others" if not index else None
        style: Any = {"color": RED, "linewidth": 1.4, "markerfacecolor": "white"}
        axes.errorbar(
            [n], [middle], yerr=(high - low) / 2, fmt="D", markersize=5, label=label, **style
        )
        axes.annotate(
            value.note,
            xy=(n, low),
            xytext=(0, -9),
            textcoords="offset points",
            ha="center",
            va="top",
            color=RED,
            fontsize=8.5,
        )
