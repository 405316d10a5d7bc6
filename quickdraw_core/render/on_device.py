"""Strokes → images on the device that trains, in plain torch: the pictures of `raster.py`.

Each segment is sampled at every row or column of pixels along its longer axis, as far as its
round ends go; each sample looks at the few pixels across, computes their exact distance to the
segment, and a scatter keeps the larger ink. The maximum of integers does not depend on the
order in which they come, so the result is deterministic.

**Tolerance.** Against `raster.draw` on the same points: no pixel differs by more than 1 of 255,
and on average by less than 0.001 (float32 rounds differently in the two).

Tested on the CPU only; on a GPU it has not been run.
"""

from typing import NamedTuple

import numpy as np
import torch

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.render.encodings import ENCODINGS, ImageConfig
from quickdraw_core.render.placement import Points
from quickdraw_core.render.point_slots import write_points
from quickdraw_core.render.raster import LINE_WIDTH_SHARE, check_size

WORK_LIMIT = 1 << 21
"""Pixels looked at in one go, at most; each takes about 100 bytes (measured on the CPU)."""


class _Segments(NamedTuple):
    """M segments: ends in pixels, float32 [M]; where their image begins in the canvas, int64 [M];
    brightness, float32 [M, C].
    """

    x0: torch.Tensor
    y0: torch.Tensor
    x1: torch.Tensor
    y1: torch.Tensor
    image: torch.Tensor
    values: torch.Tensor

    def some(self, first: int, last: int) -> "_Segments":
        return _Segments(*(column[first:last] for column in self))


def draw_on_device(
    batch: DrawingBatch,
    points: Points,
    image: ImageConfig,
    device: torch.device,
    line_width_px: float | None = None,
) -> torch.Tensor:
    """Draws a batch on `device`: `images_nchw`, uint8 [N, C, side_px, side_px].

    points: where the batch's points stand in the square 0..255. line_width_px: side_px / 22
    if None. Points, lengths and brightness travel to the device, pictures do not; channels of
    points are written by this host's processor and follow the picture's. Its memory
    holds the images as int32 (whose atomic maximum is native) while they are drawn, and the work
    on `WORK_LIMIT` pixels, whatever the size of the batch.

    Raises `ConfigError` for an encoding that is no picture (nothing is drawn there: use
    `encodings.render`), and for a size or line width that cannot be drawn.
    """
    row, side_px = ENCODINGS[image.encoding], image.side_px
    if not row.has_picture:
        raise ConfigError(f"encoding {image.encoding!r} is no picture; a device does not draw it")
    width = line_width_px if line_width_px is not None else side_px * LINE_WIDTH_SHARE
    check_size(side_px, width)
    values = row.values(batch) if row.values is not None else np.full((len(batch.x), 1), 255, "f4")
    reach = width / 2 + 0.5
    segments = _segments(batch, points, values, side_px, reach, device)
    channels = values.shape[1]
    canvas = torch.zeros(
        len(batch) * channels * side_px * side_px, dtype=torch.int32, device=device
    )
    # The diagonal is the worst: there a line is √2 times as wide along a row or column.
    across = int(reach * 2**0.5 + 0.5)
    at_a_time = max(1, WORK_LIMIT // (side_px * (2 * across + 1)))
    for first in range(0, len(segments.x0), at_a_time):
        part = segments.some(first, first + at_a_time)
        _draw(part, canvas, channels, side_px, reach, across)
    pictures = canvas.to(torch.uint8).view(len(batch), channels, side_px, side_px)
    if not row.has_points:
        return pictures
    slots = torch.from_numpy(write_points(batch, points, side_px)).to(device)
    return torch.cat((pictures, slots), 1)


def _segments(
    batch: DrawingBatch,
    points: Points,
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    side_px: int,
    reach: float,
    device: torch.device,
) -> _Segments:
    """One segment a point but for the first of a stroke, unless the stroke is that point alone."""
    lengths = torch.from_numpy(batch.stroke_lengths.astype(np.int64)).to(device)
    offsets = torch.from_numpy(np.ascontiguousarray(batch.point_offsets)).to(device)
    count, images = len(batch.x), len(batch)
    length = torch.repeat_interleave(lengths, lengths, output_size=count)
    begins = (torch.cumsum(lengths, 0) - lengths)[lengths > 0]
    first = torch.zeros(count, dtype=torch.bool, device=device)
    first[begins] = True
    drawing = torch.repeat_interleave(
        torch.arange(images, device=device), offsets.diff(), output_size=count
    )
    scale = (side_px - 1 - 2 * reach) / 255
    x = torch.from_numpy(np.ascontiguousarray(points.x)).to(device) * scale + reach
    y = torch.from_numpy(np.ascontiguousarray(points.y)).to(device) * scale + reach
    end = torch.nonzero(~first | (length == 1)).squeeze(1)
    start = end - (length[end] > 1).long()
    size = values.shape[1] * side_px * side_px
    brightness = torch.from_numpy(values).to(device)
    return _Segments(x[start], y[start], x[end], y[end], drawing[end] * size, brightness[end])


def _draw(
    segments: _Segments,
    canvas: torch.Tensor,
    channels: int,
    side_px: int,
    reach: float,
    across: int,
) -> None:
    """Adds segments to a canvas, int32 [N · C · S · S], by keeping the larger value."""
    x0, y0, x1, y1, image, values = segments
    device = x0.device
    dx, dy = x1 - x0, y1 - y0
    wide = dx.abs() >= dy.abs()
    # Along the longer axis (u) and across it (v), from here on.
    u0, v0 = torch.where(wide, x0, y0), torch.where(wide, y0, x0)
    du, dv = torch.where(wide, dx, dy), torch.where(wide, dy, dx)
    u_lowest = torch.minimum(u0, u0 + du) - reach
    u_highest = torch.maximum(u0, u0 + du) + reach
    lowest = u_lowest.ceil().clamp(0, side_px).long()
    highest = u_highest.floor().clamp(-1, side_px - 1).long()
    samples = (highest - lowest + 1).clamp(min=0)

    ends = torch.cumsum(samples, 0)
    total = int(ends[-1])
    of = torch.repeat_interleave(torch.arange(len(x0), device=device), samples, output_size=total)
    u = lowest[of] + torch.arange(total, device=device) - (ends - samples)[of]
    slope = torch.where(du == 0, torch.zeros_like(du), dv / du)
    pu = u - u0[of]
    centre = (v0[of] + pu * slope[of]).round().clamp(-across, side_px - 1 + across).long()
    v = centre[:, None] + torch.arange(-across, across + 1, device=device)
    pv = v - v0[of][:, None]

    length = (dx * dx + dy * dy).sqrt()
    some = length > 0
    cosine = torch.where(some, du / length, torch.ones_like(length))[of][:, None]
    sine = torch.where(some, dv / length, torch.zeros_like(length))[of][:, None]
    half = (length / 2)[of][:, None]
    along = pu[:, None] * cosine + pv * sine - half
    aside = pu[:, None] * sine - pv * cosine
    beyond = (along.abs() - half).clamp(min=0)
    ink = (reach - (beyond * beyond + aside * aside).sqrt()).clamp(0, 1)
    ink = torch.where((v >= 0) & (v < side_px), ink, torch.zeros_like(ink))

    v = v.clamp(0, side_px - 1)
    flat = wide[of][:, None]
    at = torch.where(flat, v * side_px + u[:, None], u[:, None] * side_px + v)
    at = at + image[of][:, None]
    for channel in range(channels):
        value = (ink * values[of, channel][:, None] + 0.5).to(torch.int32)
        where = (at + channel * side_px * side_px).view(-1)
        canvas.scatter_reduce_(0, where, value.view(-1), "amax")
