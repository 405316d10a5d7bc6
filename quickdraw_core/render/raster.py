"""Strokes → images on the CPU: a compiled, anti-aliased rasteriser straight from the columns.

Each segment is a capsule: a pixel's ink is `line_width / 2 + 1/2 - distance` to the segment,
clamped to 0..1 (all in output pixels). Overlapping segments keep the larger value, so crossings
do not blot and the result does not depend on the order of drawing. The kernel holds no
interpreter lock, so that threads of a loader draw while the model computes.
"""

import math

import numpy as np

from quickdraw_core.compiled import compiled
from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt8Array, UInt16Array
from quickdraw_core.render.placement import Float32Array, Points

COORDINATE_MAX = 255
LINE_WIDTH_SHARE = 1 / 22
"""Default line width as a share of the image's side: 1.45 px at 32, 2.9 px at 64."""

_EXACT = {"nnan", "ninf", "nsz"}
"""Of LLVM's fast-math flags those that change no result. With all of them, code that was just
compiled and code that came from the cache rounded a few pixels differently."""


def draw(
    batch: DrawingBatch,
    points: Points,
    values: Float32Array,
    side_px: int,
    line_width_px: float,
) -> UInt8Array:
    """Draws a batch as `images_nchw`, uint8 [N, C, side_px, side_px], ink on 0.

    points: where the batch's points stand in the square 0..255; what lies outside is cut off.
    values: float32 [P, C], the brightness (0..255) of the segment that ends at each point, in
    each channel; `encodings.py` makes it. The square fills the image but for a margin of half a
    line, so that nothing inside it is clipped.
    """
    images = np.zeros((len(batch), values.shape[1], side_px, side_px), np.uint8)
    _draw_batch(
        points.x,
        points.y,
        batch.stroke_lengths,
        batch.point_offsets,
        batch.stroke_offsets,
        values,
        np.float32(line_width_px),
        images,
    )
    return images


@compiled(fastmath=_EXACT)
def _draw_batch(
    x: Float32Array,
    y: Float32Array,
    lengths: UInt16Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    values: Float32Array,
    width: np.float32,
    images: UInt8Array,
) -> None:
    side = images.shape[2]
    margin = width / np.float32(2) + np.float32(0.5)
    scale = (np.float32(side - 1) - np.float32(2) * margin) / np.float32(COORDINATE_MAX)
    for drawing in range(len(point_offsets) - 1):
        point = point_offsets[drawing]
        for stroke in range(stroke_offsets[drawing], stroke_offsets[drawing + 1]):
            end = point + lengths[stroke]
            x0 = margin + scale * x[point]
            y0 = margin + scale * y[point]
            if end == point + 1:  # a stroke of one point is a dot
                _draw_segment(images[drawing], x0, y0, x0, y0, width, values[point])
            for k in range(point + 1, end):
                x1 = margin + scale * x[k]
                y1 = margin + scale * y[k]
                _draw_segment(images[drawing], x0, y0, x1, y1, width, values[k])
                x0, y0 = x1, y1
            point = end


@compiled(fastmath=_EXACT)
def _draw_segment(
    image: UInt8Array,
    x0: np.float32,
    y0: np.float32,
    x1: np.float32,
    y1: np.float32,
    width: np.float32,
    values: Float32Array,
) -> None:
    side = image.shape[1]
    reach = width / np.float32(2) + np.float32(0.5)
    left = max(0, math.floor(min(x0, x1) - reach) + 1)
    right = min(side - 1, math.ceil(max(x0, x1) + reach) - 1)
    top = max(0, math.floor(min(y0, y1) - reach) + 1)
    bottom = min(side - 1, math.ceil(max(y0, y1) + reach) - 1)
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    inverse = np.float32(1) / length2 if length2 > 0 else np.float32(0)
    for row in range(top, bottom + 1):
        py = np.float32(row) - y0
        for column in range(left, right + 1):
            px = np.float32(column) - x0
            along = (px * dx + py * dy) * inverse
            along = min(np.float32(1), max(np.float32(0), along))
            ex, ey = px - along * dx, py - along * dy
            ink = reach - math.sqrt(ex * ex + ey * ey)
            if ink > 0:
                ink = min(ink, np.float32(1))
                for channel in range(image.shape[0]):
                    value = np.uint8(ink * values[channel] + np.float32(0.5))
                    if value > image[channel, row, column]:
                        image[channel, row, column] = value
