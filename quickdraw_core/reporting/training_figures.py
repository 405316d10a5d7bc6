"""The report's figures of a training: loss, MAP@3 and learning rate over the steps."""

import numpy as np

from quickdraw_core.diagnosis.curves import Curve, Curves
from quickdraw_core.drawing import Float64Array
from quickdraw_core.reporting.figure import (
    BLUE,
    INK,
    RED,
    RenderedFigure,
    new_panel,
    render_figure,
)

CURVE_FIGURES = {
    "loss": ("Loss over the steps", ("train/loss", "validation/loss")),
    "map_at_3": ("Validation MAP@3 over the steps", ("validation/map_at_3",)),
    "learning_rate": ("Learning rate over the steps", ("train/learning_rate",)),
}
"""Name → caption, and the curves by the names that training gives them."""

_POINTS = 300
"""Most points of a curve; at this size more cannot be distinguished."""
_PANEL = (4.4, 2.9)


def thinned(curve: Curve, at_most: int) -> tuple[Float64Array, Float64Array]:
    """Steps and values of a curve at `at_most` points: means of neighbours, float64 [M] each."""
    groups = min(at_most, len(curve))
    cuts = np.linspace(0, len(curve), groups + 1).astype(np.int64)[:-1]
    sizes = np.diff([*cuts, len(curve)])
    x, y = (
        np.add.reduceat(v.astype(np.float64), cuts) / sizes for v in (curve.steps, curve.values)
    )
    return x, y


def curve_figures(curves: Curves) -> list[RenderedFigure]:
    """Those of CURVE_FIGURES that there are curves for."""
    figures = []
    for name, (caption, wanted) in CURVE_FIGURES.items():
        present = {key: curves[key] for key in wanted if key in curves and len(curves[key])}
        if present:
            figures.append(_curve_figure(name, caption, present))
    return figures


def _curve_figure(name: str, caption: str, curves: Curves) -> RenderedFigure:
    figure, axes = new_panel(_PANEL)
    for key, curve in curves.items():
        is_validation = key.startswith("validation/")
        axes.plot(
            *thinned(curve, _POINTS),
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
    ranges = (
        f"{key.replace('/', ' ').replace('_', ' ')} from {curve.values[0]:.3g} at step "
        f"{curve.steps[0]:,} to {curve.values[-1]:.3g} at step {curve.steps[-1]:,}"
        for key, curve in curves.items()
    )
    return render_figure(name, f"{caption}: {'; '.join(ranges)}.", figure)
