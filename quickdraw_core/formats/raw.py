"""A raw drawing as nested lists → simplified, packed bytes: what the tolerant readers share."""

import numpy as np

from quickdraw_core.formats.rows import RowError, shown
from quickdraw_core.formats.simplification import (
    MAX_POINTS,
    REASONS,
    TOO_LONG,
    FloatArray,
    simplify_points,
)


def pack_raw_strokes(strokes: object) -> tuple[bytes, bytes, bytes]:
    """Simplifies and packs a decoded raw drawing, `[[[x, …], [y, …], [t, …]], …]`.

    Returns x and y, one byte a point, and stroke lengths, points a stroke, little-endian uint16.
    The times are dropped, whatever they are. Raises `RowError` when it is not a non-empty list
    of strokes of as many x as y as t, at least one, all of them numbers, or when it cannot be
    simplified: see `simplification.REASONS`.
    """
    if not isinstance(strokes, list) or not strokes:
        raise RowError("drawing has no stroke", shown(strokes))
    checked = [_checked(stroke) for stroke in strokes]
    if sum(len(stroke[0]) for stroke in checked) > MAX_POINTS:
        points = sum(len(stroke[0]) for stroke in checked)
        raise RowError(REASONS[TOO_LONG], f"found {points:,} points")
    for stroke in checked:
        for name, axis in zip(("coordinate", "coordinate", "time"), stroke, strict=True):
            if not {int, float}.issuperset(map(type, axis)):  # true and false are no numbers
                wrong = next(value for value in axis if type(value) not in (int, float))
                raise RowError(f"{name} is not a number", shown(wrong))
    try:
        x, y, lengths = simplify_points(
            _joined([stroke[0] for stroke in checked]),
            _joined([stroke[1] for stroke in checked]),
            np.array([len(stroke[0]) for stroke in checked], np.int64),
        )
    except ValueError as error:
        raise RowError(str(error), shown(strokes)) from error
    return x.tobytes(), y.tobytes(), lengths.astype("<u2").tobytes()


def _checked(stroke: object) -> list[list[int | float]]:
    """A stroke that is x, y and t, as many of each."""
    if not isinstance(stroke, list) or len(stroke) != 3:
        raise RowError("stroke is not x, y and t", shown(stroke))
    if not all(isinstance(axis, list) for axis in stroke):
        raise RowError("stroke is not x, y and t", shown(stroke))
    x, y, t = stroke
    if len(x) != len(y):
        raise RowError("x and y differ in length", f"found {len(x)} and {len(y)}")
    if len(t) != len(x):
        raise RowError("t is not as long as x and y", f"found {len(t)} and {len(x)}")
    if not x:
        raise RowError("stroke is empty", shown(stroke))
    return stroke


def _joined(axes: list[list[int | float]]) -> FloatArray:
    try:
        return np.array([value for axis in axes for value in axis], np.float64)
    except OverflowError as error:  # an integer beyond 1.8e308
        wrong = next(v for axis in axes for v in axis if abs(v) >= 1 << 1023)
        raise RowError("coordinate is not a finite number", shown(wrong)) from error
