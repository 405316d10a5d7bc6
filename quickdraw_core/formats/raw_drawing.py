"""Strokes of any unit → a drawing, by the published simplification: what an ingest does to raw
files, for strokes that come from a page, a picture or an SVG file.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import InputError
from quickdraw_core.formats.scanning.simplification import simplify_points

Axis = Sequence[float] | npt.NDArray[np.floating]
RawStrokes = Sequence[tuple[Axis, Axis]]
"""Strokes of as many x as y, in any unit, y downwards."""


def drawing_of_raw(strokes: RawStrokes) -> DrawingBatch:
    """One drawing of raw strokes, simplified to integers 0..255 (`simplification.py`).

    Strokes without points are passed over. Raises `InputError`: x and y differ in length, nothing
    was drawn, a coordinate is no finite number, there are too many points.
    """
    lengths = np.array([len(x) for x, _ in strokes], np.int64)
    for number, (x, y) in enumerate(strokes, 1):
        if len(x) != len(y):
            raise InputError(f"stroke {number} of the drawing has {len(x)} x and {len(y)} y")
    if not lengths.sum():
        raise InputError("the drawing has no point; draw something first")
    try:
        xs = np.concatenate([np.asarray(x, np.float64) for x, _ in strokes])
        ys = np.concatenate([np.asarray(y, np.float64) for _, y in strokes])
        kept_x, kept_y, kept_lengths = simplify_points(xs, ys, lengths)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"the drawing cannot be read: {error}") from error
    return DrawingBatch(
        kept_x,
        kept_y,
        kept_lengths.astype(np.uint16),
        np.array([0, len(kept_x)], np.int64),
        np.array([0, len(kept_lengths)], np.int64),
    )
