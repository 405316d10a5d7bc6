"""What the channels of an image mean: one row of `ENCODINGS` a choice."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from quickdraw_core.compiled import compiled
from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt8Array, UInt16Array
from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.render.placement import Float32Array, Points, centred
from quickdraw_core.render.raster import LINE_WIDTH_SHARE, draw
from quickdraw_core.render.slots import write_points

_LATEST = 0.25
"""Brightness of the last stroke or point where order is shown; the first has 1. Not 0: the
last stroke must still be told from paper."""


class Encoding(NamedTuple):
    """A row of the table: what its images hold, and why one would want them.

    channels: how many. reason: in a line. values: brightness of each point's segment, float32
    [P, 3] in 0..255; None for one channel at full brightness. is_picture: whether the strokes
    are drawn; if not, the channels hold the points themselves, as `slots.py` lays them out.
    """

    channels: int
    reason: str
    values: Callable[[DrawingBatch], Float32Array] | None = None
    is_picture: bool = True


def _order(batch: DrawingBatch) -> Float32Array:
    values = np.empty((len(batch.x), 3), np.float32)
    _fill_order(batch.stroke_lengths, batch.point_offsets, batch.stroke_offsets, values)
    return values


def _thirds(batch: DrawingBatch) -> Float32Array:
    values = np.empty((len(batch.x), 3), np.float32)
    _fill_thirds(batch.point_offsets, values)
    return values


@compiled()
def _fill_order(
    lengths: UInt16Array, point_offsets: Int64Array, stroke_offsets: Int64Array, out: Float32Array
) -> None:
    """Ink; brightness falling from the first stroke to the last; from the first point on."""
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
    """Point r of n is of the first third if r < n/3, of the first two if r < 2n/3."""
    for drawing in range(len(point_offsets) - 1):
        start = point_offsets[drawing]
        count = point_offsets[drawing + 1] - start
        for rank in range(count):
            out[start + rank, 0] = 255 if 3 * rank < count else 0
            out[start + rank, 1] = 255 if 3 * rank < 2 * count else 0
            out[start + rank, 2] = 255


ENCODINGS: dict[str, Encoding] = {
    "gray": Encoding(1, "ink alone, as the original report has it"),
    "order": Encoding(3, "ink, stroke order, point order: time tells much of a doodle", _order),
    "thirds": Encoding(
        3,
        "ink of the first third of the points, of two thirds, of all: a doodle as it grows",
        _thirds,
    ),
    "points": Encoding(
        3, "x, y and pen of each point, for a network that reads strokes", is_picture=False
    ),
}


def find_encoding(name: str) -> Encoding:
    """The row of `name`. Raises `ConfigError` for an unknown one."""
    if name not in ENCODINGS:
        raise ConfigError(f"unknown encoding {name!r}: {nearest(name, ENCODINGS)}")
    return ENCODINGS[name]


def render(
    batch: DrawingBatch,
    encoding: str,
    side_px: int,
    points: Points | None = None,
    line_width_px: float | None = None,
    *,
    out: UInt8Array | None = None,
    threads: int = 1,
) -> UInt8Array:
    """Puts a batch into an encoding: `images_nchw`, uint8 [N, C, side_px, side_px].

    Pictures have ink on 0, in lines of `line_width_px` (default: side_px / 22); for `points`
    see `write_points`. points: where the batch's points stand (augmented, say); without it each
    drawing is centred. out: where to write, uint8 [N, C, side_px, side_px], C-contiguous,
    whatever it held before; it is returned. threads: how many threads do it, the calling one
    included; the bytes do not depend on it.

    Raises `ConfigError` for an unknown encoding, or a size or line width that cannot be drawn;
    `ValueError` for arrays that do not fit.
    """
    row = find_encoding(encoding)
    placed = points if points is not None else centred(batch)
    if not row.is_picture:
        return write_points(batch, placed, side_px, out=out, threads=threads)
    width = line_width_px if line_width_px is not None else side_px * LINE_WIDTH_SHARE
    values = row.values(batch) if row.values is not None else None
    return draw(batch, placed, values, side_px, width, out=out, threads=threads)
