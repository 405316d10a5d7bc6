"""SVG → strokes: `strokes_of_svg`.

Paths, lines, polylines, polygons, rectangles, circles and ellipses, as far as they are visible,
with their transforms. What has a stroke was drawn; in a file without any, the outlines of what is
filled. Text, pictures and references to other files are passed over: nothing is fetched.
"""

import io
from xml.etree.ElementTree import Element, ParseError, iterparse

from quickdraw_core.errors import PictureError, cannot_load, first_line
from quickdraw_core.formats.raw_drawing import RawStrokes
from quickdraw_core.formats.scanning.simplification import MAX_POINTS
from quickdraw_core.formats.svg_shapes import Strokes, drawn_shapes, name_of

MAX_BYTES = 1 << 20
_MAX_DEPTH, _MAX_ELEMENTS = 64, 10_000
_LONG = ("transform", "class", "style")
_MAX_TRANSFORM, _MAX_STYLE = 2_000, 20_000
"""Characters of an element's transform, class and style, and of all style sheets together."""


def is_svg(head: bytes) -> bool:
    """Whether a file that begins with these bytes (some hundreds) is an SVG."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(b"<") and b"<svg" in text


def strokes_of_svg(data: bytes) -> RawStrokes:
    """The strokes of an SVG file, in its own units, y downwards.

    Raises `PictureError`: too large, no XML, entities of its own, nothing drawn. `ReaderError`: a
    library is missing.
    """
    if len(data) > MAX_BYTES:
        raise PictureError(f"the SVG has {len(data):,} bytes, and {MAX_BYTES:,} are allowed")
    if b"<!ENTITY" in data:
        raise _not_plain("defines entities")
    strokes: Strokes = []
    try:
        shapes = drawn_shapes(_checked(data))
        stroked = [shape for shape in shapes if shape.is_stroked]
        points = 0
        for shape in stroked or [shape for shape in shapes if not shape.is_background]:
            for stroke in shape.strokes:
                points += len(stroke[0])
                strokes.append(stroke)
                if points > MAX_POINTS:
                    raise PictureError(f"the SVG has more than {MAX_POINTS:,} points; simplify it")
    except PictureError:
        raise
    except ParseError as error:
        raise PictureError(
            f"the SVG is no whole XML: {first_line(error)}; save it again"
        ) from error
    except ImportError as error:
        raise cannot_load(error, "SVG") from error
    except Exception as error:  # whatever the library makes of odd attributes
        raise PictureError(f"the SVG cannot be read: {first_line(error)}") from error
    if not strokes:
        raise PictureError("the SVG draws nothing: it has no path, line or other visible shape")
    return strokes


def _not_plain(what: str) -> PictureError:
    return PictureError(f"the SVG {what}, which is not read; save it as plain paths")


def _checked(data: bytes) -> Element:
    """The root, unless it would take long to read. Raises `PictureError`, `ParseError`."""
    depth = elements = style = 0
    root: Element | None = None
    for event, element in iterparse(io.BytesIO(data), ("start", "end")):
        root = element if root is None else root
        name = name_of(element)
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
        if any(len(element.get(key, "")) > _MAX_TRANSFORM for key in _LONG):
            raise _not_plain("has a very long transform, class or style")
    if root is None:
        raise ParseError("no element found")
    return root
