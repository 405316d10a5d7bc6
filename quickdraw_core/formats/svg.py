"""SVG → strokes: `strokes_of_svg`.

Paths, lines, polylines, polygons, rectangles, circles and ellipses, with their transforms; read by
svgelements. What has a stroke was drawn; in a file without any, the outlines of what is filled.
Text, pictures and references to other files are passed over: nothing is fetched.
"""

import io
from xml.etree.ElementTree import ParseError, iterparse

import numpy as np

from quickdraw_core.errors import PictureError, first_line
from quickdraw_core.formats.raw_drawing import RawStrokes

MAX_BYTES = 1 << 20
_MAX_DEPTH, _MAX_ELEMENTS = 64, 10_000
_MAX_TRANSFORM, _MAX_STYLE = 2_000, 20_000
"""Characters of an element's transform and class, and of all style sheets together."""
_MAX_PIECES = 20_000
"""Lines and curves of a file."""

_CURVE_POINTS = 16


def is_svg(head: bytes) -> bool:
    """Whether a file that begins with these bytes (some hundreds) is an SVG."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(b"<") and b"<svg" in text


def strokes_of_svg(data: bytes) -> RawStrokes:
    """The strokes of an SVG file, in its own units, y downwards.

    Raises `PictureError`: too large, no XML, entities of its own, nothing drawn.
    """
    from svgelements import SVG, Path, Shape

    if len(data) > MAX_BYTES:
        raise PictureError(f"the SVG has {len(data):,} bytes, and {MAX_BYTES:,} are allowed")
    if b"<!ENTITY" in data:
        raise _not_plain("defines entities")
    try:
        _check(data)
        svg = SVG.parse(io.BytesIO(data))
        shapes = [element for element in svg.elements() if isinstance(element, Shape)]
        stroked = [shape for shape in shapes if shape.stroke.value is not None]
        strokes: list[tuple[list[float], list[float]]] = []
        for shape in stroked or [s for s in shapes if not _is_background(s, svg)]:
            path = Path(shape)
            path.reify()
            _add_strokes(path, strokes)
    except PictureError:
        raise
    except ParseError as error:
        raise PictureError(
            f"the SVG is no whole XML: {first_line(error)}; save it again"
        ) from error
    except Exception as error:  # whatever the library makes of odd attributes
        raise PictureError(f"the SVG cannot be read: {first_line(error)}") from error
    if not strokes:
        raise PictureError("the SVG draws nothing: it has no path, line or other shape")
    return strokes


def _not_plain(what: str) -> PictureError:
    return PictureError(f"the SVG {what}, which is not read; save it as plain paths")


def _check(data: bytes) -> None:
    """Refuses what would take the library long. Raises `PictureError`, `ParseError`."""
    depth = elements = style = 0
    for event, element in iterparse(io.BytesIO(data), ("start", "end")):
        name = element.tag.rpartition("}")[2]
        if event == "end":
            depth -= 1
            style += len(element.text or "") if name == "style" else 0
            if style > _MAX_STYLE:
                raise _not_plain("has a large style sheet")
            continue
        depth, elements = depth + 1, elements + 1
        if name == "use":
            raise _not_plain("repeats parts by <use>")
        if depth > _MAX_DEPTH or elements > _MAX_ELEMENTS:
            raise _not_plain(f"has over {_MAX_ELEMENTS:,} parts, or {_MAX_DEPTH} in each other")
        if any(len(element.get(key, "")) > _MAX_TRANSFORM for key in ("transform", "class")):
            raise _not_plain("has a very long transform or class")


def _is_background(shape: object, svg: object) -> bool:
    """Whether a shape is a rectangle as large as the whole."""
    from svgelements import Rect

    box = shape.bbox() if isinstance(shape, Rect) else None
    width, height = getattr(svg, "width", None), getattr(svg, "height", None)
    if box is None or not width or not height:
        return False
    return bool(box[2] - box[0] >= 0.99 * width and box[3] - box[1] >= 0.99 * height)


def _add_strokes(path: object, strokes: list[tuple[list[float], list[float]]]) -> None:
    """Appends the strokes of a path: one for each of its moves."""
    from svgelements import Close, Line, Move

    pieces = list(path)  # type: ignore[call-overload]
    if len(pieces) + sum(len(x) for x, _ in strokes) > _MAX_PIECES:
        raise PictureError(f"the SVG has more than {_MAX_PIECES:,} lines and curves; simplify it")
    for piece in pieces:
        if isinstance(piece, Move) or not strokes:
            strokes.append(([], []))
        if isinstance(piece, Move):
            shares = [1.0]
        elif isinstance(piece, Line | Close):
            shares = [0.0, 1.0]
        else:
            shares = np.linspace(0, 1, _CURVE_POINTS).tolist()
        for share in shares:
            point = piece.end if share == 1.0 else piece.point(share)
            if point is not None:
                strokes[-1][0].append(float(point[0]))
                strokes[-1][1].append(float(point[1]))
    while strokes and not strokes[-1][0]:
        strokes.pop()
