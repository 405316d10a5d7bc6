"""A figure, once as PNG, for files and MLflow, and once as SVG, for the page.

The SVG is the same drawing made to live in a page: its colours are the page's own (so that it
follows a dark scheme and prints on white), its text is text, and its ids are its alone.
"""

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, BLUE, RED = "#222222", "#6b6b6b", "#dddddd", "#0072b2", "#d55e00"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", BLUE: "blue", RED: "red"}
SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    # A word may hold a dollar sign, which is no formula.
    "text.parse_math": False,
}
DPI = 160
_COMPRESSION = 2
"""Of PNG: at Pillow's 6, a tenth of the bytes less takes a tenth of the time to draw more."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C2E", "#6A3D9A")
"""Okabe and Ito's, which people of any colour vision tell apart; two of our own at the end, since
their yellow is lost on white.
"""


class RenderedFigure(NamedTuple):
    """A figure. name: of its file; alt: what is to be seen, for those who see no pictures; svg: to
    stand in a page, empty for one that is too large for it.
    """

    name: str
    alt: str
    png: bytes
    svg: str


def new_panel(size: tuple[float, float]) -> tuple["Figure", "Axes"]:
    """A figure of one panel, without a ground of its own; size in inches."""
    from matplotlib.figure import Figure

    # With the files' DPI, sizes of text that the layout took are used again.
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="none")
    return figure, figure.add_subplot()


def finished(name: str, alt: str, figure: "Figure") -> RenderedFigure:
    """The figure laid out and drawn in both forms."""
    lay_out(figure)
    return RenderedFigure(name, alt, as_png(figure, DPI), page_svg(_svg(figure), name))


def lay_out(figure: "Figure") -> None:
    """Once, and not again for each file, which would take as long as drawing it.

    A figure that has any engine after that, be it the one called "none", is drawn twice a file.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)


def as_png(figure: "Figure", dpi: int) -> bytes:
    """The figure as a file, on white."""
    file = io.BytesIO()
    pil = {"compress_level": _COMPRESSION}
    figure.savefig(file, format="png", dpi=dpi, facecolor="white", pil_kwargs=pil)
    return file.getvalue()


def _svg(figure: "Figure") -> str:
    import matplotlib

    file = io.StringIO()
    # Names of its parts are random without a salt.
    with matplotlib.rc_context({"svg.hashsalt": "report"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def page_svg(svg: str, name: str) -> str:
    """An SVG file of matplotlib's as an element of a page: see the top of this module."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def apart(
    heights: Sequence[float], least: float, low: float = -math.inf, high: float = math.inf
) -> list[float]:
    """Heights for labels: near their lines' ends, at least `least` apart, from low to high.

    Where more are asked for than there is room, they come closer to each other.
    """
    count = len(heights)
    least = min(least, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda index: heights[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(heights[index], low, placed[-1] + least if placed else low))
    # What was pushed out at the top comes back, and pushes those beneath it.
    ceiling = high
    for place in reversed(range(count)):
        placed[place] = min(placed[place], ceiling)
        ceiling = placed[place] - least
    moved = [0.0] * count
    for height, index in zip(placed, order, strict=True):
        moved[index] = height
    return moved
