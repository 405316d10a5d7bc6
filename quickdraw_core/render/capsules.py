"""The compiled inside of `raster.py`: drawings → bytes, one capsule a segment.

A segment is walked row by row, `LANES` neighbouring pixels at a time, by code without a branch,
so that the compiler keeps the pixels side by side in vector registers: 16 distances cost what
one does. Most segments of a doodle are no wider than that, and then every row starts at the same
column. Lengths are counted in 1/255 of a pixel, which makes ink a byte without a multiplication.

The arithmetic is plain float32, without fast-math: that would let the compiler round differently
from one build or processor to the next (seen between code just compiled and code from the
cache), and the same drawing must give the same bytes everywhere.
"""

import numpy as np

from quickdraw_core.drawing import Float32Array, Int64Array, UInt8Array, UInt16Array
from quickdraw_core.system.compiled import compiled

LANES = 16
"""Pixels drawn at a time. With 8, LLVM unrolls the loop over them before it would vectorise it,
and the whole is three to five times slower."""
LEVELS = np.float32(255)
"""Units of length in a pixel; also the largest coordinate of the square that is drawn."""

_PIXEL = np.float32(1 / 255)
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEVEL_SINE = np.float32(1e-3)
"""A segment that climbs less than this a unit of length is taken for level, but only to find the
pixels of a row that it may reach."""
_LONG = np.float32(1e4)
"""Pixels; more than any image has a side."""
_SLACK = np.float32(0.01)
"""Pixels by which a row's span is widened, lest rounding leave out one with a trace of ink."""


@compiled(error_model="numpy")
def draw_capsules(
    x: Float32Array,
    y: Float32Array,
    lengths: UInt16Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    values: Float32Array | None,
    side: int,
    reach: np.float32,
    pixels: UInt8Array,
) -> None:
    """Draws into `pixels`: three channels of brightness `values`, [P, 3], uint8 [N · 3 · side²];
    without them one channel of full brightness, [N · side²]. Either is compiled by itself.

    x, y, lengths: those of the whole batch; the offsets, [N + 1], say which drawings are drawn.
    reach: how far from a segment ink ends, in `LEVELS` a pixel.
    """
    valued = values is not None
    scale = (np.float32(side - 1) * LEVELS - reach - reach) / LEVELS
    size = side * side * (3 if valued else 1)
    red = green = blue = _ONE
    for drawing in range(len(point_offsets) - 1):
        image = drawing * size
        pixels[image : image + size] = np.uint8(0)
        point = point_offsets[drawing]
        for stroke in range(stroke_offsets[drawing], stroke_offsets[drawing + 1]):
            end = point + np.int64(lengths[stroke])
            if end == point:
                continue
            x0 = reach + scale * x[point]
            y0 = reach + scale * y[point]
            # A stroke of one point is drawn as a segment from that point to itself.
            for k in range(min(point + 1, end - 1), end):
                x1 = reach + scale * x[k]
                y1 = reach + scale * y[k]
                if values is not None:
                    red = values[k, 0] * _PIXEL
                    green = values[k, 1] * _PIXEL
                    blue = values[k, 2] * _PIXEL
                shares = (red, green, blue)
                _draw_segment(pixels, image, side, x0, y0, x1, y1, reach, shares, valued)
                x0, y0 = x1, y1
            point = end


Triple = tuple[np.float32, np.float32, np.float32]


@compiled(error_model="numpy", forceinline=True)
def _draw_segment(
    pixels: UInt8Array,
    image: int,
    side: int,
    x0: np.float32,
    y0: np.float32,
    x1: np.float32,
    y1: np.float32,
    reach: np.float32,
    shares: Triple,
    valued: bool,
) -> None:
    """The pixels of all rows that a segment may reach.

    Ranges of rows and columns are clamped while they are floats: what is not finite or far
    outside would have no integer, and could end up outside of the array.
    """
    last = np.float32(side - 1)
    top_edge = _clamp((min(y0, y1) - reach) * _PIXEL + _ONE, _ZERO, np.float32(side))
    bottom_edge = _clamp((max(y0, y1) + reach) * _PIXEL, -_ONE, last)
    left_edge = _clamp((min(x0, x1) - reach) * _PIXEL + _ONE, _ZERO, np.float32(side))
    right_edge = _clamp((max(x0, x1) + reach) * _PIXEL, -_ONE, last)
    top, bottom, left = int(top_edge), int(bottom_edge), int(left_edge)
    if left > int(right_edge) or top > bottom:
        return
    dx, dy = x1 - x0, y1 - y0
    length = np.sqrt(dx * dx + dy * dy)
    cosine, sine = _ONE, _ZERO
    if length > _ZERO:
        cosine, sine = dx / length, dy / length
    direction = (cosine, sine, length * _HALF)
    if right_edge < np.float32(left + LANES):
        for row in range(top, bottom + 1):
            _draw_run(pixels, image, side, row, left, x0, y0, direction, reach, shares, valued)
        return

    level = abs(sine) < _LEVEL_SINE
    slope = _ZERO if level else cosine / sine
    wide = _LONG if level else reach * _PIXEL / abs(sine) + _SLACK
    span = min(right_edge - left_edge, wide + wide) + _ONE
    runs = int(span) // LANES + 1
    origin = x0 * _PIXEL - wide + _ONE
    for row in range(top, bottom + 1):
        py = np.float32(row) * LEVELS - y0
        column = int(_clamp(origin + py * _PIXEL * slope, left_edge, right_edge))
        for _ in range(runs):
            _draw_run(pixels, image, side, row, column, x0, y0, direction, reach, shares, valued)
            column += LANES


@compiled(error_model="numpy", forceinline=True)
def _draw_run(
    pixels: UInt8Array,
    image: int,
    side: int,
    row: int,
    column: int,
    x0: np.float32,
    y0: np.float32,
    direction: Triple,
    reach: np.float32,
    shares: Triple,
    valued: bool,
) -> None:
    """`LANES` pixels of a row, from `column` on, in each plane; at the right edge the last ones.

    x0, y0: where the segment begins; direction: its cosine and sine, and half its length.
    """
    cosine, sine, half = direction
    column = min(column, side - LANES)
    px, py = np.float32(column) * LEVELS - x0, np.float32(row) * LEVELS - y0
    # Where the first pixel's centre is from the middle of the segment, along it and across it.
    along = (px * cosine - half) + py * sine
    across = px * sine - py * cosine
    at, plane = image + row * side + column, side * side
    for lane in range(LANES):
        step = np.float32(lane) * LEVELS
        beyond = abs(along + step * cosine) - half
        beyond = beyond if beyond > _ZERO else _ZERO
        aside = across + step * sine
        ink = reach - np.sqrt(beyond * beyond + aside * aside)
        ink = ink if ink > _ZERO else _ZERO
        ink = ink if ink < LEVELS else LEVELS
        if valued:
            _keep_larger(pixels, at + lane, ink * shares[0])
            _keep_larger(pixels, at + lane + plane, ink * shares[1])
            _keep_larger(pixels, at + lane + plane + plane, ink * shares[2])
        else:
            _keep_larger(pixels, at + lane, ink)


@compiled(error_model="numpy", forceinline=True)
def _keep_larger(pixels: UInt8Array, at: int, ink: np.float32) -> None:
    index = np.uintp(at)  # unsigned: numba would look for a negative index in every lane
    new = np.uint8(np.int32(ink + _HALF))
    old = pixels[index]
    pixels[index] = new if new > old else old


@compiled(error_model="numpy", forceinline=True)
def _clamp(value: np.float32, lowest: np.float32, highest: np.float32) -> np.float32:
    """`value` within bounds; the lower one for what is not a number."""
    value = value if value > lowest else lowest
    return value if value < highest else highest
