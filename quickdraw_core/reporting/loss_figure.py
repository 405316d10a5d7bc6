"""The figure of loss against margin: what each loss says of how wrong an answer is.

In: the rows of LOSSES themselves, asked with two classes. Out: a PNG or SVG. The 0-1 loss, which
nobody can follow downhill, is drawn with them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from quickdraw_core.drawing import Float64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.losses import LOSSES, LossConfig, build_loss
from quickdraw_core.reporting.figure import COLOURS, apart
from quickdraw_core.system.output_files import is_stream, opened_output, require_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGINS: Float64Array = np.linspace(-2, 3, 501)
SUFFIXES = (".png", ".svg")
ZERO_ONE = "0-1 loss"

_INK, _PALE = "#222222", "#F1EFEA"


class Curve(NamedTuple):
    """Losses that are one with two classes, and their values at MARGINS."""

    names: tuple[str, ...]
    values: Float64Array


def zero_one_loss(margins: Float64Array) -> Float64Array:
    """1 where the answer is wrong, 0 where it is right; a draw is wrong."""
    return np.where(margins > 0, 0.0, 1.0)


def loss_curves(margins: Float64Array = MARGINS) -> list[Curve]:
    """Every loss of LOSSES at float64 [M] margins, for two classes scored (1 ± margin) / 2.

    Losses with the same values share a curve. Highest first, as they stand at the first margin.
    """
    scores = torch.from_numpy(np.stack(((1 + margins) / 2, (1 - margins) / 2), 1))
    label = torch.zeros(1, dtype=torch.int64)
    curves: list[Curve] = []
    for name in LOSSES:
        loss = build_loss(LossConfig(name=name))
        # Our scores sum to 1 as probabilities do, which nll refuses where it sees them first.
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

    Raises `ConfigError` for another suffix, or where nothing can be written, `WriteError` where
    that fails all the same.
    """
    suffix = path.suffix.lower() or (".png" if is_stream(path) else "")
    if suffix not in SUFFIXES:
        raise ConfigError(f"the figure is drawn as .png or .svg, found {path.name!r}; rename it")
    require_output(path, folder_is_made=True)
    import matplotlib

    figure = _figure()
    options = {"metadata": {"Date": None}} if suffix == ".svg" else {"dpi": 150}
    # Names of an SVG's parts are random without a salt; text stays text, to be searched.
    with (
        matplotlib.rc_context({"svg.hashsalt": "loss", "svg.fonttype": "none"}),
        opened_output(path) as file,
    ):
        figure.savefig(file, format=suffix[1:], **options)


def _figure() -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.4), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    curves = [*loss_curves(), Curve((ZERO_ONE,), zero_one_loss(MARGINS))]
    axes.axvspan(MARGINS[0], 0, color=_PALE, zorder=0)
    top = 1.05 * max(curve.values[0] for curve in curves)
    heights = apart([curve.values[0] for curve in curves], 0.048 * top)
    for place, (curve, height) in enumerate(zip(curves, heights, strict=True)):
        is_step = curve.names == (ZERO_ONE,)
        colour = _INK if is_step else COLOURS[place % len(COLOURS)]
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
    _dress(axes, min(0.0, *(curve.values.min() for curve in curves)) - 0.02 * top, top)
    return figure


def _dress(axes: "Axes", bottom: float, top: float) -> None:
    axes.set_xlim(MARGINS[0], MARGINS[-1])
    axes.set_ylim(bottom, top)
    axes.set_title("Loss against margin, two classes", loc="left", color=_INK)
    axes.set_xlabel("margin: score of the right class less the other's")
    axes.set_ylabel("loss of one drawing")
    axes.yaxis.set_label_position("right")
    axes.yaxis.tick_right()
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.text(-0.06, 0.97 * top, "wrong", ha="right", va="top", color="#777777")
    axes.text(0.06, 0.97 * top, "right", ha="left", va="top", color="#777777")
    for side in ("left", "top"):
        axes.spines[side].set_visible(False)
