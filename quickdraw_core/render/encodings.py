"""What the channels of an image mean: one row of `ENCODINGS` a choice."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, UInt8Array
from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.render.placement import Points, centred
from quickdraw_core.render.raster import LINE_WIDTH_SHARE, draw

PointValues = npt.NDArray[np.float32]

_LATEST = 0.25
"""Brightness of the last stroke or point where order is shown; the first has 1. Not 0: the
last stroke must still be told from paper."""


class Encoding(NamedTuple):
    """A row of the table: channels, brightness of each point's segment [P, C], and why."""

    channels: int
    values: Callable[[DrawingBatch], PointValues]
    reason: str


def _gray(batch: DrawingBatch) -> PointValues:
    return np.full((len(batch.x), 1), 255, np.float32)


def _order(batch: DrawingBatch) -> PointValues:
    strokes_each = np.diff(batch.stroke_offsets)
    points_each = np.diff(batch.point_offsets)
    stroke_rank = np.arange(len(batch.stroke_lengths)) - np.repeat(
        batch.stroke_offsets[:-1], strokes_each
    )
    stroke_age = stroke_rank / np.repeat(np.maximum(strokes_each - 1, 1), strokes_each)
    point_rank = np.arange(len(batch.x)) - np.repeat(batch.point_offsets[:-1], points_each)
    point_age = point_rank / np.repeat(np.maximum(points_each - 1, 1), points_each)
    values = np.empty((len(batch.x), 3), np.float32)
    values[:, 0] = 255
    values[:, 1] = 255 * (1 - (1 - _LATEST) * np.repeat(stroke_age, batch.stroke_lengths))
    values[:, 2] = 255 * (1 - (1 - _LATEST) * point_age)
    return values


ENCODINGS: dict[str, Encoding] = {
    "gray": Encoding(1, _gray, "ink alone, as the original report has it"),
    "order": Encoding(3, _order, "ink, stroke order, point order: time tells much of a doodle"),
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
) -> UInt8Array:
    """Draws a batch in an encoding: `images_nchw`, uint8 [N, C, side_px, side_px], ink on 0.

    points: where the batch's points stand (augmented, say); without it each drawing is centred.
    """
    width = line_width_px if line_width_px is not None else side_px * LINE_WIDTH_SHARE
    placed = points if points is not None else centred(batch)
    return draw(batch, placed, find_encoding(encoding).values(batch), side_px, width)
