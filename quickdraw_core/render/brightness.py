"""How bright the points of a drawing are in an encoding that shows their order: float32 [P, 3]."""

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array, Int64Array, UInt16Array
from quickdraw_core.system.compiled import compiled

_LATEST = 0.25
"""Brightness of the last stroke or point if order is shown; the first has 1. Not 0: the
last stroke must still differ from paper."""


def order_values(batch: DrawingBatch) -> Float32Array:
    """Ink; brightness falling from the first stroke to the last; from the first point on."""
    values = np.empty((len(batch.x), 3), np.float32)
    _fill_order(batch.stroke_lengths, batch.point_offsets, batch.stroke_offsets, values)
    return values


def thirds_values(batch: DrawingBatch) -> Float32Array:
    """Point r of n is of the first third if r < n/3, of the first two if r < 2n/3."""
    values = np.empty((len(batch.x), 3), np.float32)
    _fill_thirds(batch.point_offsets, values)
    return values


@compiled()
def _fill_order(
    lengths: UInt16Array, point_offsets: Int64Array, stroke_offsets: Int64Array, out: Float32Array
) -> None:
    for drawing in range(len(point_offsets) - 1):
        start = k = point_offsets[drawing]
        first, last = stroke_offsets[drawing], stroke_offsets[drawing + 1]
        points = max(point_offsets[drawing + 1] - start - 1, 1)
        strokes = max(last - first - 1, 1)
        for stroke in range(first, last):
            stroke_value = 255 * (1 - (1 - _LATEST) * ((stroke - first) / strokes))
            for k in range(start, start + np.int64(lengths[stroke])):
                out[k, 0] = 255
                out[k, 1] = stroke_value
                out[k, 2] = 255 * (1 - (1 - _LATEST) * ((k - point_offsets[drawing]) / points))
            start += np.int64(lengths[stroke])


@compiled()
def _fill_thirds(point_offsets: Int64Array, out: Float32Array) -> None:
    for drawing in range(len(point_offsets) - 1):
        start = point_offsets[drawing]
        count = point_offsets[drawing + 1] - start
        for rank in range(count):
            out[start + rank, 0] = 255 if 3 * rank < count else 0
            out[start + rank, 1] = 255 if 3 * rank < 2 * count else 0
            out[start + rank, 2] = 255
