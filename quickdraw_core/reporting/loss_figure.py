"""The figure of loss against margin: the value of each loss by how wrong an answer is.

In: the rows of LOSSES, computed for two classes. Out: a PNG or SVG. The 0-1 loss, which has no
gradient to follow, is drawn with them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from quickdraw_core.drawing import Float64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.losses import LOSSES, LossConfig, build_loss
from quickdraw_core.reporting.figure import (
    COLOURS,
    INK,
    dress,
    label_heights,
    new_figure,
    write_figure,
)
from quickdraw_core.system.output_files import is_stream, opened_output, require_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGINS: Float64Array = np.linspace(-2, 3, 501)
SUFFIXES = (".png", ".svg")
ZERO_ONE = "0-1 loss"

_PALE = "#F1EFEA"


class Curve(NamedTuple):
    """Losses that are equal for two classes, and their values at MARGINS."""

    names: tuple[str, ...]
    values: Float64Array


def zero_one_loss(margins: Float64Array) -> Float64Array:
    """1 if the answer is wrong, 0 if it is right; a draw is wrong."""
    return np.where(margins > 0, 0.0, 1.0)


def loss_curves(margins: Float64Array = MARGINS) -> list[Curve]:
    """Every loss of LOSSES at float64 [M] margins, for two classes scored (1 ± margin) / 2.

    Losses with the same values share a curve. Sorted by the value at the first margin, descending.
    """
    scores = torch.from_numpy(np.stack(((1 + margins) / 2, (1 - margins) / 2), 1))
    label = torch.zeros(1, dtype=torch.int64)
    curves: list[Curve] = []
    for name in LOSSES:
        loss = build_loss(LossConfig(name=name))
        # These scores sum to 1 as probabilities do, which nll refuses at its first call.
        loss(torch.tensor([[2.0, 0.0]], dtype=torch.float64), label)
        values = np.array([float(loss(score[None], label)) for score in scores])
        twin = next((c for c in curves if np.allclose(c.values, values, atol=1e-9)), None)
        if twin is None:
            curves.append(Curve((name,), values))
        else:
            curves[curves.index(twin)] = Curve((*twin.names, name), twin.values)
    return sorted(curves, key=lambda curve: -curve.values[0])


def draw_loss_figure(path: Path) -> None:
    """Writes the figure, as PNG or SVG by the file's suffix; to standard output (`-`), a pipe or
    a device without a suffix as PNG.

    Raises `ConfigError` for another suffix or if nothing can be written there, `WriteError` if
    writing fails.
    """
    suffix = path.suffix.lower() or (".png" if is_stream(path) else "")
    if suffix not in SUFFIXES:
        raise ConfigError(f"the figure is drawn as .png or .svg, found {path.name!r}; rename it")
    require_output(path, folder_is_made=True)
    with opened_output(path) as file:
        write_figure(_figure(), file, suffix[1:])


def _figure() -> "Figure":
    figure = new_figure((9, 5.4))
    axes = figure.add_subplot()
    curves = [*loss_curves(), Curve((ZERO_ONE,), zero_one_loss(MARGINS))]
    axes.axvspan(MARGINS[0], 0, color=_PALE, zorder=0)
    top = 1.05 * max(curve.values[0] for curve in curves)
    heights = label_heights([curve.values[0] for curve in curves], 0.048 * top)
    for index, (curve, height) in enumerate(zip(curves, heights, strict=True)):
        is_step = curve.names == (ZERO_ONE,)
        colour = INK if is_step else COLOURS[index % len(COLOURS)]
        axes.plot(
            MARGINS,
            curve.values,
            color=colour,
            linewidth=1.6 if is_step else 2.2,
            drawstyle="steps-post" if is_step else "default",
            zorder=2 if is_step else 3,
        )
        axes.annotate(
            ", ".join(curve.names),
            xy=(MARGINS[0], curve.values[0]),
            xytext=(-0.015, height),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            ha="right",
            va="center",
        )
    axes.set_xlim(MARGINS[0], MARGINS[-1])
    axes.set_ylim(min(0.0, *(curve.values.min() for curve in curves)) - 0.02 * top, top)
    margin = "margin: score of the right class less the other's"
    title = "Loss against margin, two classes"
    dress(axes, title, margin, "loss of one drawing", hidden=("left", "top"))
    axes.yaxis.set_label_position("right")
    axes.yaxis.tick_right()
    axes.text(-0.06, 0.97 * top, "wrong", ha="right", va="top", color="#777777")
    axes.text(0.06, 0.97 * top, "right", ha="left", va="top", color="#777777")
    return figure
