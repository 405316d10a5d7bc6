"""A drawing as nested lists → the store's packed bytes: what the tolerant JSON readers share."""

from quickdraw_core.formats.rows import RowError, shown

_MAX_STROKE_POINTS = 65_535


def pack_strokes(strokes: object) -> tuple[bytes, bytes, bytes]:
    """Packs a decoded drawing, `[[[x, …], [y, …]], …]`, as (x, y, stroke lengths).

    x and y: one byte a point; stroke lengths: points a stroke, little-endian uint16. Raises
    `RowError` when it is not a non-empty list of strokes of as many x as y, at least one, all
    of them integers 0..255.
    """
    if not isinstance(strokes, list) or not strokes:
        raise RowError("drawing has no stroke", shown(strokes))
    xs, ys, lengths = bytearray(), bytearray(), bytearray()
    for stroke in strokes:
        x, y = _pack_stroke(stroke)
        xs += x
        ys += y
        lengths += len(x).to_bytes(2, "little")
    return bytes(xs), bytes(ys), bytes(lengths)


def _pack_stroke(stroke: object) -> tuple[bytes, bytes]:
    if not isinstance(stroke, list) or len(stroke) != 2:
        raise RowError("stroke is not a pair of x and y", shown(stroke))
    x, y = stroke
    if not isinstance(x, list) or not isinstance(y, list):
        raise RowError("stroke is not a pair of x and y", shown(stroke))
    if len(x) != len(y):
        raise RowError("x and y differ in length", f"found {len(x)} and {len(y)}")
    if not x:
        raise RowError("stroke is empty", shown(stroke))
    if len(x) > _MAX_STROKE_POINTS:
        raise RowError("stroke has more than 65535 points", f"found {len(x):,}")
    return _pack_axis(x), _pack_axis(y)


def _pack_axis(values: list[object]) -> bytes:
    types = set(map(type, values))  # not isinstance: true and false count as int in Python
    if types != {int}:
        what = "an integer" if types <= {int, float} else "a number"
        wrong = next(value for value in values if type(value) is not int)
        raise RowError(f"coordinate is not {what}", shown(wrong))
    try:
        return bytes(values)  # type: ignore[arg-type]
    except ValueError as error:
        wrong = next(v for v in values if isinstance(v, int) and not 0 <= v <= 255)
        raise RowError("coordinate is outside 0..255", shown(wrong)) from error
