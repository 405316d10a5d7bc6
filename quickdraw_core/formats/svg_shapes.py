"""SVG → the shapes that a browser would draw, where it would draw them: `drawn_shapes`.

Styles (`svg_styles`) and transforms are worked out here, once for each element; svgelements reads
what a path, a length or a transform says. Its own reader draws what is in symbols, masks and
markers, and what is transparent; and it reads the transforms of all ancestors again for each
element.
Only containers and shapes are entered, so whatever else holds a shape hides it: definitions, clip
paths, patterns, markers, elements of other namespaces. Clips and masks are not applied.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from quickdraw_core.errors import PictureError
from quickdraw_core.formats.scanning.simplification import MAX_POINTS
from quickdraw_core.formats.svg_styles import (
    INHERITED,
    Style,
    StyleSheets,
    is_painted,
    number,
    numbers,
)

if TYPE_CHECKING:
    from svgelements import Matrix, Path

MAX_PIECES = 20_000
"""Lines and curves of a file."""
_MAX_CLOSES = 100
"""Of a part of a path between two moves: the library looks back to the move for each."""

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_CONTAINERS = ("svg", "g", "a", "switch")
_GEOMETRY: dict[str, tuple[str, ...]] = {
    "path": (),
    "line": ("x1", "y1", "x2", "y2"),
    "polyline": ("points",),
    "polygon": ("points",),
    "rect": ("x", "y", "width", "height", "rx", "ry"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_SIZES = {"rect": ("width", "height"), "circle": ("r",), "ellipse": ("rx", "ry")}
"""Attributes without which, or with zero for which, a shape is not drawn."""
_CURVES = {"circle": 4, "ellipse": 4, "rect": 4}
"""What a shape is made of."""
_VIEWPORT = ("x", "y", "width", "height", "viewBox", "preserveAspectRatio")

_COMMANDS = "MmLlHhVvCcSsQqTtAaZz"
_COMMAND = re.compile(f"([{_COMMANDS}])([^{_COMMANDS}]*)")
_NUMBERS_EACH = {"m": 2, "l": 2, "h": 1, "v": 1, "c": 6, "s": 4, "q": 4, "t": 2, "a": 7}

_CURVE_SHARES = np.linspace(0, 1, 16)[1:-1]
"""Where points are taken along a curve, but for its ends."""

Strokes = list[tuple[list[float], list[float]]]
Box = tuple[float, float, float, float]
"""Left, upper, right and lower end."""


class DrawnShape(NamedTuple):
    """strokes: in the file's outermost units. is_stroked: whether its stroke is painted, else its
    inside is. is_background: whether it is a rectangle as large as the whole.
    """

    strokes: Strokes
    is_stroked: bool
    is_background: bool


class _Context(NamedTuple):
    """What an element has of those around it. width, height: of the viewport, for percentages."""

    style: Style
    matrix: "Matrix"
    width: float
    height: float


def drawn_shapes(root: Element) -> list[DrawnShape]:
    """The shapes below a root that are painted, in their order. Those that are filled end where
    the first is that has a stroke, and either kind where it has more than `MAX_POINTS`.

    The number and depth of the elements, and the length of their attributes, are bounded by the
    caller. Raises `PictureError`: too many lines and curves.
    """
    return _Walk(root).shapes


def name_of(element: Element) -> str:
    """The name of an element of SVG, in its namespace or in none; else an empty text."""
    tag = element.tag.removeprefix(_NAMESPACE)
    return "" if tag.startswith("{") else tag


class _Walk:
    """Goes through a tree from its root."""

    def __init__(self, root: Element) -> None:
        from svgelements import Matrix

        self.shapes: list[DrawnShape] = []
        self._pieces = 0
        self._points = {True: 0, False: 0}  # of shapes that have a stroke, and of others
        self._whole: tuple[float, float] | None = None
        self._has_size = False
        self._sheets = StyleSheets(e for e in root.iter() if name_of(e) == "style")
        self._enter(root, _Context(INHERITED, Matrix(), 0, 0))

    def _enter(self, element: Element, parent: _Context) -> None:
        """Adds the shapes of an element and of what it contains."""
        name = name_of(element)
        if name not in _CONTAINERS and name not in _GEOMETRY:
            return
        own = self._sheets.own_style(name, element)
        if own.get("display") == "none" or number(own.get("opacity", "1")) <= 0:
            return
        inherited = {key: own[key] for key in INHERITED if key in own}
        context = parent._replace(style={**parent.style, **inherited})
        if "transform" in own:
            matrix = _matrix(own["transform"], parent)
            if matrix.a * matrix.d == matrix.b * matrix.c:  # nothing has an area there
                return
            context = context._replace(matrix=matrix * parent.matrix)
        if name in _GEOMETRY:
            self._add(name, element, context)
            return
        inside = self._viewport(element, context) if name == "svg" else context
        if inside is not None:
            for child in element:
                self._enter(child, inside)

    def _viewport(self, element: Element, context: _Context) -> _Context | None:
        """The context inside an <svg>; None if it has no size."""
        from svgelements import SVG, Matrix
        from svgelements.svgelements import DEFAULT_PPI

        svg = SVG({key: element.attrib[key] for key in _VIEWPORT if key in element.attrib})
        box = svg.viewbox
        width, height = context.width, context.height
        if self._whole is None:  # in nothing: as large as its content, by what is known
            width, height = (1000, 1000) if box is None else (box.width, box.height)
        svg.render(ppi=DEFAULT_PPI, width=width, height=height)
        if self._whole is None:
            self._whole = svg.width, svg.height
            self._has_size = box is not None or {"width", "height"} <= set(element.keys())
            svg.x = svg.y = 0
        if not svg.width or not svg.height or (box and (not box.width or not box.height)):
            return None
        if box is None:
            inner, width, height = Matrix.translate(svg.x, svg.y), svg.width, svg.height
        else:
            inner, width, height = Matrix(svg.viewbox_transform), box.width, box.height
        return _Context(context.style, inner * context.matrix, width, height)

    def _add(self, name: str, element: Element, context: _Context) -> None:
        """Adds a shape if it is painted, and something of it is in the viewport."""
        style = context.style
        is_stroked = is_painted(style, "stroke") and number(style["stroke-width"]) > 0
        is_hidden = style["visibility"] in ("hidden", "collapse")
        is_filled = name != "line" and is_painted(style, "fill")
        if is_hidden or not (is_stroked or is_filled):
            return
        if any(number(element.get(key, "0")) <= 0 for key in _SIZES.get(name, ())):
            return
        self._count(name, element)
        if self._points[is_stroked] > MAX_POINTS or (not is_stroked and self._points[True]):
            return  # refused, or not asked for
        path = _path(name, element, context)
        strokes = [] if path is None else _strokes_of(path)
        box = _box(strokes)
        if box is None or (self._has_size and not self._is_inside(box, is_stroked, context)):
            return
        is_background = name == "rect" and self._is_whole(box)
        if not is_background:
            self._points[is_stroked] += sum(len(x) for x, _ in strokes)
        self.shapes.append(DrawnShape(strokes, is_stroked, is_background))

    def _count(self, name: str, element: Element) -> None:
        """Counts lines and curves. Raises `PictureError`: too many."""
        if name == "path":
            self._pieces += _pieces_of(element.get("d", ""))
        elif name in _CURVES:
            is_round = name == "rect" and not {"rx", "ry"}.isdisjoint(element.keys())
            self._pieces += 4 * is_round + _CURVES[name]
        else:
            self._pieces += 1 + numbers(element.get("points", "")) // 2
        if self._pieces > MAX_PIECES:
            raise PictureError(
                f"the SVG has more than {MAX_PIECES:,} lines and curves; simplify it"
            )

    def _is_inside(self, box: Box, is_stroked: bool, context: _Context) -> bool:
        """Whether a shape, as wide as its stroke, and the whole have something in common."""
        width, height = self._whole or (0, 0)
        matrix = context.matrix
        scale = max(np.hypot(matrix.a, matrix.b), np.hypot(matrix.c, matrix.d))
        pen = scale * number(context.style["stroke-width"]) / 2 if is_stroked else 0
        left, upper, right, lower = box
        return not (
            right < -pen or lower < -pen or left > width + pen or upper > height + pen
        )  # so that what is no number is left to be refused

    def _is_whole(self, box: Box) -> bool:
        width, height = self._whole or (0, 0)
        left, upper, right, lower = box
        return right - left >= 0.99 * width > 0 and lower - upper >= 0.99 * height > 0


def _path(name: str, element: Element, context: _Context) -> "Path | None":
    """A shape as lines and curves in the outermost units; None if it has no extent."""
    import svgelements as library
    from svgelements.svgelements import DEFAULT_PPI

    kind = {"line": "SimpleLine"}.get(name, name.capitalize())
    given = {key: element.attrib[key] for key in _GEOMETRY[name] if key in element.attrib}
    shape = getattr(library, kind)(given)
    if name == "path":
        with suppress(ValueError):  # it is drawn up to its fault
            shape.parse(element.get("d", ""))
    shape.transform = context.matrix
    shape.render(ppi=DEFAULT_PPI, width=context.width, height=context.height)
    return None if shape.is_degenerate() else library.Path(shape).reify()


def _strokes_of(path: "Path") -> Strokes:
    """The strokes of a path: one for each of its moves."""
    from svgelements import Close, Line, Move

    strokes: Strokes = []
    for piece in path:
        if isinstance(piece, Move) or not strokes:
            strokes.append(([], []))
        if not isinstance(piece, Move | Line | Close):
            for x, y in piece.npoint(_CURVE_SHARES).tolist():
                strokes[-1][0].append(x)
                strokes[-1][1].append(y)
        if piece.end is not None:
            strokes[-1][0].append(float(piece.end.x))
            strokes[-1][1].append(float(piece.end.y))
    return [stroke for stroke in strokes if stroke[0]]


def _box(strokes: Strokes) -> Box | None:
    """Around all strokes; None if there are none."""
    if not strokes:
        return None
    x = [value for xs, _ in strokes for value in xs]
    y = [value for _, ys in strokes for value in ys]
    return min(x), min(y), max(x), max(y)


def _matrix(text: str, parent: _Context) -> "Matrix":
    from svgelements import Matrix
    from svgelements.svgelements import DEFAULT_PPI

    matrix = Matrix(text)
    matrix.render(ppi=DEFAULT_PPI, width=parent.width, height=parent.height)
    return matrix


def _pieces_of(path: str) -> int:
    """How many lines and curves a path has. Raises `PictureError`: closed without end."""
    pieces = closes = 0
    for command, count in _commands(path):
        if command == "z":
            pieces, closes = pieces + 1, closes + 1
        else:
            is_move = command == "m"
            pieces += max(0, count // _NUMBERS_EACH[command] - is_move)
            closes = 0 if is_move else closes
        if closes > _MAX_CLOSES:
            raise PictureError(
                f"the SVG has a path that is closed more than {_MAX_CLOSES} times; simplify it"
            )
    return pieces


def _commands(path: str) -> Iterator[tuple[str, int]]:
    """The commands of a path, in small letters, each with how many numbers follow."""
    for match in _COMMAND.finditer(path):
        yield match[1].lower(), numbers(match[2])
