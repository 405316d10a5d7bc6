"""Strokes → images on the CPU, straight from the columns of a batch.

**Ink.** Each segment of a stroke is a capsule, a line of the given width with round ends: a
pixel's ink is `line_width / 2 + 1/2 - distance` from its centre to the segment, clamped to 0..1
(all in output pixels), times the segment's brightness, rounded to 0..255. Where segments overlap
the larger value stays, so crossings do not blot and the order of drawing does not matter. A
stroke of one point, or of equal points, is a disc. What is drawn is within 1 of 255 of that
formula computed in float64. `capsules.py` says how.

The kernels hold no interpreter lock, so that threads of a loader draw while the model computes.
"""

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array, UInt8Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.render.capsules import LANES, LEVELS, draw_capsules
from quickdraw_core.render.placement import Points
from quickdraw_core.render.sharing import in_slices

LINE_WIDTH_SHARE = 1 / 22
"""Default line width as a share of the image's side: 1.45 px at 32, 2.9 px at 64."""
MIN_SIDE_PX = LANES
"""Smallest image: a row must hold the pixels that are drawn at a time."""


def draw(
    batch: DrawingBatch,
    points: Points,
    values: Float32Array | None,
    side_px: int,
    line_width_px: float,
    *,
    out: UInt8Array | None = None,
    threads: int = 1,
) -> UInt8Array:
    """Draws a batch as `images_nchw`, uint8 [N, C, side_px, side_px], ink on 0.

    points: where the batch's points stand in the square 0..255; what lies outside is cut off.
    values: float32 [P, 3], the brightness (0..255) of the segment that ends at each point, in
    each of 3 channels; None draws one channel at full brightness. The square fills the image
    but for a margin of half a line, so that nothing inside it is clipped. out: where to draw,
    C-contiguous, whatever it held before; it is returned. threads: how many draw, the calling
    one included; the bytes do not depend on it.

    Raises `ConfigError` for a size or a line width that cannot be drawn, `ValueError` for
    arrays that do not fit the batch.
    """
    check_size(side_px, line_width_px)
    channels = 1 if values is None else 3
    if len(points.x) != len(batch.x) or len(points.y) != len(batch.x):
        raise ValueError(f"{len(points.x)} x, {len(points.y)} y for {len(batch.x)} points")
    if values is not None and values.shape != (len(batch.x), 3):
        raise ValueError(f"values of shape {values.shape}, not ({len(batch.x)}, 3)")
    images = images_for(len(batch), channels, side_px, out)
    reach = LEVELS * np.float32(line_width_px / 2 + 0.5)
    size = channels * side_px * side_px
    pixels = images.reshape(-1)

    def draw_slice(first: int, last: int) -> None:
        draw_capsules(
            points.x,
            points.y,
            batch.stroke_lengths,
            batch.point_offsets[first : last + 1],
            batch.stroke_offsets[first : last + 1],
            values,
            side_px,
            reach,
            pixels[first * size : last * size],
        )

    in_slices(draw_slice, batch.point_offsets, threads)
    return images


def check_size(side_px: int, line_width_px: float) -> None:
    """Raises `ConfigError` unless lines of this width can be drawn in an image of this side."""
    if side_px < MIN_SIDE_PX:
        raise ConfigError(
            f"side_px is {side_px}; images are drawn from {MIN_SIDE_PX} pixels a side upwards"
        )
    if not 0 < line_width_px <= side_px / 2:
        raise ConfigError(
            f"line_width_px is {line_width_px}; give more than 0 and at most half the image's "
            f"side, {side_px / 2:g}"
        )


def images_for(count: int, channels: int, side_px: int, out: UInt8Array | None) -> UInt8Array:
    """Room for `count` images (what it holds is undefined): `out`, or a new array if it is None.

    Raises `ValueError` if `out` is not uint8 [count, channels, side_px, side_px], C-contiguous.
    """
    shape = (count, channels, side_px, side_px)
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous uint8 of shape {shape}; it is {out.dtype} of shape "
            f"{out.shape}" + ("" if out.flags.c_contiguous else ", not C-contiguous")
        )
    return out
