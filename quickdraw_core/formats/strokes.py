"""A drawing as nested lists, as JSON has it → the store's packed bytes, for the tolerant readers.

Packed bytes are (x, y, stroke lengths): a byte a point, and points a stroke as little-endian
uint16. A drawing that has another form raises `RowError`.
"""

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import MAX_STROKE_POINTS
from quickdraw_core.formats.rows import RowError, shown
from quickdraw_core.formats.scanning.simplification import (
    MAX_POINTS,
    REASONS,
    TOO_LONG,
    simplify_points,
)

Packed = tuple[bytes, bytes, bytes]


def pack_strokes(strokes: object) -> Packed:
    """Packs `[[[x, …], [y, …]], …]`: one stroke or more, as many x as y, integers 0..255."""
    xs, ys, lengths = bytearray(), bytearray(), bytearray()
    for stroke in _require_strokes(strokes):
        if not isinstance(stroke, list) or len(stroke) != 2:
            raise RowError("stroke is not a pair of x and y", shown(stroke))
        x, y = stroke
        if not isinstance(x, list) or not isinstance(y, list):
            raise RowError("stroke is not a pair of x and y", shown(stroke))
        _require_points(stroke, x, y)
        if len(x) > MAX_STROKE_POINTS:
            raise RowError(f"stroke has more than {MAX_STROKE_POINTS} points", f"found {len(x):,}")
        xs += _pack_axis(x)
        ys += _pack_axis(y)
        lengths += len(x).to_bytes(2, "little")
    return bytes(xs), bytes(ys), bytes(lengths)


def pack_raw_strokes(strokes: object) -> Packed:
    """Simplifies and packs `[[[x, …], [y, …], [t, …]], …]`: strokes of as many x as y as t, at
    least one, all of them numbers. The times are dropped.

    A drawing that cannot be simplified is refused too: see `simplification.REASONS`.
    """
    checked = [_require_raw_stroke(stroke) for stroke in _require_strokes(strokes)]
    points = sum(len(x) for x, _, _ in checked)
    if points > MAX_POINTS:
        raise RowError(REASONS[TOO_LONG], f"found {points:,} points")
    for stroke in checked:
        for name, axis in zip(("coordinate", "coordinate", "time"), stroke, strict=True):
            if not {int, float}.issuperset(map(type, axis)):  # true and false are no numbers
                wrong = next(value for value in axis if type(value) not in (int, float))
                raise RowError(f"{name} is not a number", shown(wrong))
    try:
        x, y, lengths = simplify_points(
            _joined([x for x, _, _ in checked]),
            _joined([y for _, y, _ in checked]),
            np.array([len(x) for x, _, _ in checked], np.int64),
        )
    except ValueError as error:
        raise RowError(str(error), shown(strokes)) from error
    return x.tobytes(), y.tobytes(), lengths.astype("<u2").tobytes()


def _require_strokes(strokes: object) -> list[object]:
    if not isinstance(strokes, list) or not strokes:
        raise RowError("drawing has no stroke", shown(strokes))
    return strokes


def _require_points(stroke: object, x: list[object], y: list[object]) -> None:
    if len(x) != len(y):
        raise RowError("x and y differ in length", f"found {len(x)} and {len(y)}")
    if not x:
        raise RowError("stroke is empty", shown(stroke))


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


def _require_raw_stroke(stroke: object) -> list[list[int | float]]:
    """A stroke that is x, y and t, as many of each."""
    if not isinstance(stroke, list) or len(stroke) != 3:
        raise RowError("stroke is not x, y and t", shown(stroke))
    if not all(isinstance(axis, list) for axis in stroke):
        raise RowError("stroke is not x, y and t", shown(stroke))
    x, y, t = stroke
    if len(x) == len(y) != len(t):
        raise RowError("t is not as long as x and y", f"found {len(t)} and {len(x)}")
    _require_points(stroke, x, y)
    return stroke


def _joined(axes: list[list[int | float]]) -> npt.NDArray[np.float64]:
    try:
        return np.array([value for axis in axes for value in axis], np.float64)
    except OverflowError as error:  # an integer beyond 1.8e308
        wrong = next(v for axis in axes for v in axis if abs(v) >= 1 << 1023)
        raise RowError("coordinate is not a finite number", shown(wrong)) from error
