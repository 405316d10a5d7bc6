"""What all figures share: colours, axes, files; and a figure as PNG and as SVG for the report.

The SVG is made for a page: its colours are the page's own (so that it follows a dark scheme and
prints on white), its text is text, and its ids are unique.
"""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from quickdraw_core.system.files import open_atomic

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
    # A word may hold a dollar sign, which does not begin a formula.
    "text.parse_math": False,
}
DPI = 160
_COMPRESSION = 2
"""Of PNG: Pillow's default, 6, saves a tenth of the bytes and costs a tenth more time."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C2E", "#6A3D9A")
"""Okabe and Ito's, which people of any colour vision can distinguish. The last two are our own,
since their yellow is lost on white.
"""


class RenderedFigure(NamedTuple):
    """A figure. name: of its file. alt: its description for those who do not see it. svg: for the
    page; empty if it is too large for one.
    """

    name: str
    alt: str
    png: bytes
    svg: str


def new_figure(
    size: tuple[float, float], dpi: int | None = None, background: str = "white"
) -> "Figure":
    """A figure without panels; size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=dpi, layout="constrained", facecolor=background)


def new_panel(size: tuple[float, float]) -> tuple["Figure", "Axes"]:
    """A figure of one panel with a transparent background; size in inches."""
    # The DPI of the files, so that text sizes that the layout measured are used again.
    figure = new_figure(size, DPI, "none")
    return figure, figure.add_subplot()


def render_figure(name: str, alt: str, figure: "Figure") -> RenderedFigure:
    """Lays the figure out and renders it in both forms."""
    lay_out(figure)
    return RenderedFigure(name, alt, as_png(figure, DPI), page_svg(_svg(figure), name))


def lay_out(figure: "Figure") -> None:
    """Lays a figure out once, not again for each file, which takes as long as drawing it.

    A figure that keeps any layout engine, even "none", is drawn twice per file.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)


def as_png(figure: "Figure", dpi: int) -> bytes:
    """The figure as a PNG file, on white."""
    file = io.BytesIO()
    pil = {"compress_level": _COMPRESSION}
    figure.savefig(file, format="png", dpi=dpi, facecolor="white", pil_kwargs=pil)
    return file.getvalue()


def _svg(figure: "Figure") -> str:
    import matplotlib

    file = io.StringIO()
    # Without a salt the ids of its parts are random.
    with matplotlib.rc_context({"svg.hashsalt": "report"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def page_svg(svg: str, name: str) -> str:
    """An SVG file of matplotlib's as an element of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def write_figure(figure: "Figure", file: BinaryIO, form: str = "png", dpi: int = 150) -> None:
    """Writes a figure as "png" or "svg"; the same figure always gives the same bytes."""
    import matplotlib

    options: dict[str, Any] = {"dpi": dpi, "metadata": {"Software": None}}
    if form == "svg":
        options = {"metadata": {"Date": None}}
    # Without a salt the ids of an SVG's parts are random; text stays text, to be searched.
    with matplotlib.rc_context({"svg.hashsalt": "quickdraw", "svg.fonttype": "none"}):
        figure.savefig(file, format=form, **options)


def save_figure(figure: "Figure", path: Path, form: str = "png", dpi: int = 150) -> None:
    """Writes a figure to a file, which appears whole."""
    with open_atomic(path, sync=False) as file:
        write_figure(figure, file, form, dpi)


def dress(
    axes: "Axes", title: str, x: str, y: str, hidden: Sequence[str] = ("right", "top")
) -> None:
    """Title, labels and grid of a panel. hidden: spines to leave out."""
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[list(hidden)].set_visible(False)


def label_heights(
    heights: Sequence[float], least: float, low: float = -math.inf, high: float = math.inf
) -> list[float]:
    """Heights for labels: near their lines' ends, at least `least` apart, between low and high.

    If there is no room for that, they are closer to each other.
    """
    count = len(heights)
    least = min(least, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda index: heights[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(heights[index], low, placed[-1] + least if placed else low))
    # Labels above the top are moved down, and push those beneath them.
    ceiling = high
    for i in reversed(range(count)):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - least
    moved = [0.0] * count
    for height, index in zip(placed, order, strict=True):
        moved[index] = height
    return moved
