"""Where a drawing stands in its 255 × 255 square before it is drawn.

A simplified drawing is aligned to the top-left corner; here its bounding box is moved to the
middle, so that a network sees the same doodle at the same place whatever its aspect.
"""

from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array, Int64Array, UInt8Array
from quickdraw_core.system.compiled import compiled


class Points(NamedTuple):
    """Coordinates of all points of a batch, float32 [P] each, in 0..255, y downwards."""

    x: Float32Array
    y: Float32Array


def centred(batch: DrawingBatch) -> Points:
    """The batch's points with each drawing's bounding box in the middle of the square."""
    x = np.empty(len(batch.x), np.float32)
    y = np.empty(len(batch.y), np.float32)
    _centre(batch.x, batch.point_offsets, x)
    _centre(batch.y, batch.point_offsets, y)
    return Points(x, y)


@compiled()
def _centre(values: UInt8Array, offsets: Int64Array, out: Float32Array) -> None:
    for drawing in range(len(offsets) - 1):
        start, end = offsets[drawing], offsets[drawing + 1]
        if start == end:
            continue
        lowest, highest = 255, 0
        for k in range(start, end):
            lowest = min(lowest, values[k])
            highest = max(highest, values[k])
        shift = np.float32(255 - lowest - highest) / np.float32(2)
        for k in range(start, end):
            out[k] = np.float32(values[k]) + shift
