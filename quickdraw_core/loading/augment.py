"""Augmentation on the strokes, before they are drawn: turn, stretch, slant, mirror, shift.

Each drawing's change is a pure function of (seed, epoch, position), so it is the same on any
number of ranks and threads, and after a resume.
"""

import math

import numpy as np
from pydantic import Field

from quickdraw_core.compiled import compiled
from quickdraw_core.config import Config
from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt8Array
from quickdraw_core.loading.order import stream_key
from quickdraw_core.render.placement import Float32Array, Points
from quickdraw_core.store.holdout import UInt64Array, mix64


class AugmentConfig(Config):
    """How far a drawing may be changed. All zero: not at all."""

    rotation_degrees: float = Field(12, ge=0, le=180, description="largest turn either way")
    stretch: float = Field(0.15, ge=0, lt=0.9, description="largest change of width and height")
    shear: float = Field(0.15, ge=0, lt=1, description="largest slant, x shift a unit of y")
    shrink: float = Field(0.2, ge=0, lt=0.9, description="largest loss of size after fitting")
    mirror_share: float = Field(0.5, ge=0, le=1, description="share of drawings mirrored")


def augment(
    batch: DrawingBatch, config: AugmentConfig, seed: int, epoch: int, positions: Int64Array
) -> Points:
    """Changes each drawing of a batch, and fits it into the 0..255 square at a random place.

    positions: int64 [N], the drawings' places in the epoch's stream, which key the change.
    """
    x = np.empty(len(batch.x), np.float32)
    y = np.empty(len(batch.y), np.float32)
    key = stream_key(seed, epoch, 0xA46)
    counters = mix64(positions.astype(np.uint64) ^ key)
    _augment(batch.x, batch.y, batch.point_offsets, _uniforms(counters), *_limits(config), x, y)
    return Points(x, y)


_DRAWS = 8
"""Random numbers that one drawing takes."""


def _uniforms(counters: UInt64Array) -> Float32Array:
    """float32 [N, _DRAWS] in [0, 1), a function of the counters alone."""
    steps = np.arange(1, _DRAWS + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    bits = mix64(counters[:, None] + steps[None, :])
    return (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def _limits(config: AugmentConfig) -> tuple[float, float, float, float, float]:
    return (
        math.radians(config.rotation_degrees),
        config.stretch,
        config.shear,
        config.shrink,
        config.mirror_share,
    )


@compiled()
def _augment(
    x: UInt8Array,
    y: UInt8Array,
    offsets: Int64Array,
    uniforms: Float32Array,
    turn: float,
    stretch: float,
    shear: float,
    shrink: float,
    mirror: float,
    out_x: Float32Array,
    out_y: Float32Array,
) -> None:
    for drawing in range(len(offsets) - 1):
        start, end = offsets[drawing], offsets[drawing + 1]
        if start == end:
            continue
        u = uniforms[drawing]
        angle = turn * (2 * u[0] - 1)
        cosine, sine = math.cos(angle), math.sin(angle)
        width = (1 + stretch * (2 * u[1] - 1)) * (-1 if u[2] < mirror else 1)
        height = 1 + stretch * (2 * u[3] - 1)
        slant = shear * (2 * u[4] - 1)
        lowest_x = lowest_y = np.float32(1e9)
        highest_x = highest_y = np.float32(-1e9)
        for k in range(start, end):
            across = width * x[k] + slant * y[k]
            down = height * y[k]
            out_x[k] = cosine * across - sine * down
            out_y[k] = sine * across + cosine * down
            lowest_x, highest_x = min(lowest_x, out_x[k]), max(highest_x, out_x[k])
            lowest_y, highest_y = min(lowest_y, out_y[k]), max(highest_y, out_y[k])
        extent = max(highest_x - lowest_x, highest_y - lowest_y, np.float32(1e-6))
        # Never larger than the square, so that nothing is clipped.
        scale = min(np.float32(1), np.float32(255) / extent) * (1 - shrink * u[5])
        free_x = max(np.float32(0), np.float32(255) - scale * (highest_x - lowest_x))
        free_y = max(np.float32(0), np.float32(255) - scale * (highest_y - lowest_y))
        shift_x, shift_y = free_x * u[6], free_y * u[7]
        for k in range(start, end):
            out_x[k] = min(np.float32(255), scale * (out_x[k] - lowest_x) + shift_x)
            out_y[k] = min(np.float32(255), scale * (out_y[k] - lowest_y) + shift_y)
