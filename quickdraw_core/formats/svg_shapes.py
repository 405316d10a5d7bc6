"""SVG → the shapes that a browser would draw, where it would draw them: `drawn_shapes`.

Styles and transforms are worked out here, once for each element; svgelements reads what a path, a
length, a colour or a transform says. Its own reader draws what is in symbols, masks and markers,
and what is transparent; and it reads the transforms of all ancestors again for each element.
Only containers and shapes are entered, so whatever else holds a shape hides it: definitions, clip
paths, patterns, markers, elements of other namespaces.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element

from quickdraw_core.errors import PictureError

if TYPE_CHECKING:
    from svgelements import Matrix, Path

MAX_PIECES = 20_000
"""Lines and curves of a file."""
_MAX_CLOSES = 100
"""Of a part of a path between two moves: the library looks back to the move for each."""

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_CONTAINERS = ("svg", "g", "a", "switch")
_INHERITED = {
    "visibility": "visible",
    "color": "black",
    "fill": "black",
    "stroke": "none",
    "fill-opacity": "1",
    "stroke-opacity": "1",
    "stroke-width": "1",
}
"""Properties that an element takes from its parent, if it has none of its own; the defaults."""
_PROPERTIES = (*_INHERITED, "display", "opacity", "transform")
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
_VIEWPORT = ("x", "y", "width", "height", "viewBox", "preserveAspectRatio")

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_AT_RULE = re.compile(r"@[^{};]*(?:;|\{(?:[^{}]*\{[^{}]*\})*[^{}]*\})")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_COMMANDS = "MmLlHhVvCcSsQqTtAaZz"
_COMMAND = re.compile(f"([{_COMMANDS}])([^{_COMMANDS}]*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_NUMBERS_EACH = {"m": 2, "l": 2, "h": 1, "v": 1, "c": 6, "s": 4, "q": 4, "t": 2, "a": 7}

Style = dict[str, str]


class DrawnShape(NamedTuple):
    """path: in the file's outermost units. is_stroked: whether its stroke is painted, else its
    inside is. is_background: whether it is a rectangle as large as the whole.
    """

    path: "Path"
    is_stroked: bool
    is_background: bool


class _Context(NamedTuple):
    """What an element has of those around it. width, height: of the viewport, for percentages."""

    style: Style
    matrix: "Matrix"
    width: float
    height: float


def drawn_shapes(root: Element) -> list[DrawnShape]:
    """The shapes below a root that are painted, in their order.

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
        self._whole: tuple[float, float] | None = None
        texts = [element.text or "" for element in root.iter() if name_of(element) == "style"]
        self._rules = _rules_of("\n".join(texts))
        self._enter(root, _Context(_INHERITED, Matrix(), 0, 0))

    def _enter(self, element: Element, parent: _Context) -> None:
        """Adds the shapes of an element and of what it contains."""
        name = name_of(element)
        if name not in _CONTAINERS and name not in _GEOMETRY:
            return
        own = self._own_style(name, element)
        if own.get("display") == "none" or _number(own.get("opacity", "1")) <= 0:
            return
        inherited = {key: own[key] for key in _INHERITED if own.get(key, "inherit") != "inherit"}
        context = parent._replace(style={**parent.style, **inherited})
        if "transform" in own:
            context = context._replace(matrix=_matrix(own["transform"], parent) * parent.matrix)
        if name in _GEOMETRY:
            self._add(name, element, context)
            return
        inside = self._viewport(element, context) if name == "svg" else context
        if inside is not None:
            for child in element:
                self._enter(child, inside)

    def _own_style(self, name: str, element: Element) -> Style:
        """Properties of an element by its attributes, the style sheets and its own style."""
        classes = dict.fromkeys(element.get("class", "").split())
        selectors = ["*", name, *(f".{c}" for c in classes), *(f"{name}.{c}" for c in classes)]
        style = {key: element.attrib[key] for key in _PROPERTIES if key in element.attrib}
        for selector in (*selectors, f"#{element.get('id')}"):
            style |= self._rules.get(selector, {})
        return style | _declarations(element.get("style", ""))

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
            svg.x = svg.y = 0
        if not svg.width or not svg.height or (box and (not box.width or not box.height)):
            return None
        if box is None:
            inner, width, height = Matrix.translate(svg.x, svg.y), svg.width, svg.height
        else:
            inner, width, height = Matrix(svg.viewbox_transform), box.width, box.height
        return _Context(context.style, inner * context.matrix, width, height)

    def _add(self, name: str, element: Element, context: _Context) -> None:
        """Adds a shape if it is painted."""
        import svgelements as library
        from svgelements.svgelements import DEFAULT_PPI

        style = context.style
        is_stroked = _is_painted(style, "stroke") and _number(style["stroke-width"]) > 0
        is_hidden = style["visibility"] in ("hidden", "collapse")
        is_filled = name != "line" and _is_painted(style, "fill")
        if is_hidden or not (is_stroked or is_filled):
            return
        text = element.get("d", "")
        if name == "path":
            self._pieces += _pieces_of(text)
        else:
            self._pieces += 1 + _numbers(element.get("points", "")) // 2
        if self._pieces > MAX_PIECES:
            raise PictureError(
                f"the SVG has more than {MAX_PIECES:,} lines and curves; simplify it"
            )
        kind = {"line": "SimpleLine"}.get(name, name.capitalize())
        if any(_number(element.get(key, "0")) <= 0 for key in _SIZES.get(name, ())):
            return
        given = {key: element.attrib[key] for key in _GEOMETRY[name] if key in element.attrib}
        shape = getattr(library, kind)(given)
        if name == "path":
            with suppress(ValueError):  # it is drawn up to its fault
                shape.parse(text)
        shape.transform = context.matrix
        shape.render(ppi=DEFAULT_PPI, width=context.width, height=context.height)
        if shape.is_degenerate():
            return
        path = library.Path(shape).reify()
        box = path.bbox() if name == "rect" else None
        width, height = self._whole or (0, 0)
        is_whole = box is not None and (
            box[2] - box[0] >= 0.99 * width > 0 and box[3] - box[1] >= 0.99 * height > 0
        )
        self.shapes.append(DrawnShape(path, is_stroked, is_whole))


def _rules_of(sheet: str) -> dict[str, Style]:
    """Selector (`*`, `name`, `.class`, `name.class` or `#id`) → properties, of a style sheet."""
    rules: dict[str, Style] = {}
    for selectors, text in _RULE.findall(_AT_RULE.sub("", _COMMENT.sub("", sheet))):
        style = _declarations(text)
        for selector in selectors.split(","):
            rules[selector.strip()] = {**rules.get(selector.strip(), {}), **style}
    return rules


def _declarations(text: str) -> Style:
    pairs = (declaration.partition(":") for declaration in text.split(";"))
    return {
        key: value.partition("!")[0].strip()
        for key, value in ((key.strip(), value) for key, _, value in pairs)
        if key in _PROPERTIES
    }


def _matrix(text: str, parent: _Context) -> "Matrix":
    from svgelements import Matrix
    from svgelements.svgelements import DEFAULT_PPI

    matrix = Matrix(text)
    matrix.render(ppi=DEFAULT_PPI, width=parent.width, height=parent.height)
    return matrix


def _is_painted(style: Style, what: str) -> bool:
    """Whether `fill` or `stroke` is a colour that is not transparent, or a gradient."""
    from svgelements import Color

    paint = style[what]
    if _number(style[f"{what}-opacity"]) <= 0:
        return False
    if paint.startswith("url("):
        return True
    colour = Color(style["color"] if paint.lower() == "currentcolor" else paint)
    return colour.value is not None and colour.alpha > 0


def _number(text: str) -> float:
    """The number that a text begins with; 1 if it begins with none."""
    number = _NUMBER.match(text.strip())
    return float(number[0]) if number else 1.0


def _pieces_of(path: str) -> int:
    """How many lines and curves a path has. Raises `PictureError`: closed without end."""
    pieces = closes = 0
    for command, numbers in _commands(path):
        if command == "z":
            pieces, closes = pieces + 1, closes + 1
        else:
            is_move = command == "m"
            pieces += max(0, numbers // _NUMBERS_EACH[command] - is_move)
            closes = 0 if is_move else closes
        if closes > _MAX_CLOSES:
            raise PictureError(
                f"the SVG has a path that is closed more than {_MAX_CLOSES} times; simplify it"
            )
    return pieces


def _commands(path: str) -> Iterator[tuple[str, int]]:
    """The commands of a path, in small letters, each with how many numbers follow."""
    for match in _COMMAND.finditer(path):
        yield match[1].lower(), _numbers(match[2])


def _numbers(text: str) -> int:
    return sum(1 for _ in _NUMBER.finditer(text))
