"""Augmentation on the strokes, before they are drawn: drop, jitter, turn, stretch, slant,
mirror, shift.

Each drawing's change is a pure function of (seed, epoch, position), so it is the same on any
number of ranks and threads, and after a resume.
"""

import math
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array, Int64Array, UInt8Array, UInt16Array
from quickdraw_core.loading.config import AugmentConfig
from quickdraw_core.loading.hashing import draw_bits, mix, uniform
from quickdraw_core.loading.order import stream_key
from quickdraw_core.render.placement import Points
from quickdraw_core.system.compiled import compiled

_AFFINE, _DROP, _NOISE = 0xA46, 0xD80, 0x201
"""Sets the random numbers of one change apart from those of another."""


class Placed(NamedTuple):
    """Drawings, and where their points stand in the 0..255 square."""

    drawings: DrawingBatch
    points: Points


def augment(
    batch: DrawingBatch, config: AugmentConfig, seed: int, epoch: int, positions: Int64Array
) -> Placed:
    """Changes each drawing of a batch, and fits it into the 0..255 square at a random place.

    positions: int64 [N], the drawings' places in the epoch's stream, which key the change. The
    batch itself is not changed; the one returned lacks the strokes that were dropped.
    """
    kept = drop_strokes(batch, config.stroke_drop_share, seed, epoch, positions)
    points = Points(np.empty(len(kept.x), np.float32), np.empty(len(kept.y), np.float32))
    _augment(
        kept.x,
        kept.y,
        kept.point_offsets,
        positions,
        stream_key(seed, epoch, _AFFINE),
        stream_key(seed, epoch, _NOISE),
        math.radians(config.rotation_degrees),
        float(config.stretch),
        float(config.shear),
        float(config.shrink),
        float(config.mirror_share),
        float(config.point_noise),
        *points,
    )
    return Placed(kept, points)


def drop_strokes(
    batch: DrawingBatch, share: float, seed: int, epoch: int, positions: Int64Array
) -> DrawingBatch:
    """The batch without a random `share` of its strokes; the batch itself if `share` is 0.

    Each stroke falls out by itself, keyed by (seed, epoch, position) and its number; if all
    of a drawing would, the one nearest to staying stays.
    """
    if share == 0:
        return batch
    x, y = np.empty_like(batch.x), np.empty_like(batch.y)
    lengths = np.empty_like(batch.stroke_lengths)
    point_offsets = np.zeros_like(batch.point_offsets)
    stroke_offsets = np.zeros_like(batch.stroke_offsets)
    _drop(
        batch.x,
        batch.y,
        batch.stroke_lengths,
        batch.point_offsets,
        batch.stroke_offsets,
        positions,
        stream_key(seed, epoch, _DROP),
        float(share),
        x,
        y,
        lengths,
        point_offsets,
        stroke_offsets,
    )
    points, strokes = int(point_offsets[-1]), int(stroke_offsets[-1])
    return DrawingBatch(x[:points], y[:points], lengths[:strokes], point_offsets, stroke_offsets)


@compiled()
def _drop(
    x: UInt8Array,
    y: UInt8Array,
    lengths: UInt16Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    positions: Int64Array,
    key: np.uint64,
    share: float,
    out_x: UInt8Array,
    out_y: UInt8Array,
    out_lengths: UInt16Array,
    out_point_offsets: Int64Array,
    out_stroke_offsets: Int64Array,
) -> None:
    points, strokes = np.int64(0), 0
    for drawing in range(len(point_offsets) - 1):
        first, end = stroke_offsets[drawing], stroke_offsets[drawing + 1]
        counter = mix(np.uint64(positions[drawing]) ^ key)
        stays, highest = first, np.float32(-1)
        for stroke in range(first, end):
            if uniform(counter, stroke - first) > highest:
                stays, highest = stroke, uniform(counter, stroke - first)
        start = point_offsets[drawing]
        for stroke in range(first, end):
            length = np.int64(lengths[stroke])
            if stroke == stays or uniform(counter, stroke - first) >= share:
                for k in range(length):
                    out_x[points + k] = x[start + k]
                    out_y[points + k] = y[start + k]
                out_lengths[strokes] = lengths[stroke]
                points += length
                strokes += 1
            start += length
        out_point_offsets[drawing + 1] = points
        out_stroke_offsets[drawing + 1] = strokes


@compiled()
def _augment(
    x: UInt8Array,
    y: UInt8Array,
    offsets: Int64Array,
    positions: Int64Array,
    key: np.uint64,
    noise_key: np.uint64,
    turn: float,
    stretch: float,
    shear: float,
    shrink: float,
    mirror: float,
    noise: float,
    out_x: Float32Array,
    out_y: Float32Array,
) -> None:
    for drawing in range(len(offsets) - 1):
        start, end = offsets[drawing], offsets[drawing + 1]
        if start == end:
            continue
        u = mix(np.uint64(positions[drawing]) ^ key)
        v = mix(np.uint64(positions[drawing]) ^ noise_key)
        angle = turn * (2 * uniform(u, 0) - 1)
        cosine, sine = math.cos(angle), math.sin(angle)
        width = (1 + stretch * (2 * uniform(u, 1) - 1)) * (-1 if uniform(u, 2) < mirror else 1)
        height = 1 + stretch * (2 * uniform(u, 3) - 1)
        slant = shear * (2 * uniform(u, 4) - 1)
        lowest_x = lowest_y = np.float32(1e9)
        highest_x = highest_y = np.float32(-1e9)
        for k in range(start, end):
            at_x, at_y = np.float64(x[k]), np.float64(y[k])
            if noise > 0:
                bits = draw_bits(v, k - start)
                at_x += noise * ((bits >> np.uint64(32)) * 2.0**-31 - 1)
                at_y += noise * ((bits & np.uint64(0xFFFF_FFFF)) * 2.0**-31 - 1)
            across = width * at_x + slant * at_y
            down = height * at_y
            out_x[k] = cosine * across - sine * down
            out_y[k] = sine * across + cosine * down
            lowest_x, highest_x = min(lowest_x, out_x[k]), max(highest_x, out_x[k])
            lowest_y, highest_y = min(lowest_y, out_y[k]), max(highest_y, out_y[k])
        extent = max(highest_x - lowest_x, highest_y - lowest_y, np.float32(1e-6))
        # Never larger than the square, so that nothing is clipped.
        scale = min(np.float32(1), np.float32(255) / extent) * (1 - shrink * uniform(u, 5))
        free_x = max(np.float32(0), np.float32(255) - scale * (highest_x - lowest_x))
        free_y = max(np.float32(0), np.float32(255) - scale * (highest_y - lowest_y))
        shift_x, shift_y = free_x * uniform(u, 6), free_y * uniform(u, 7)
        for k in range(start, end):
            out_x[k] = min(np.float32(255), scale * (out_x[k] - lowest_x) + shift_x)
            out_y[k] = min(np.float32(255), scale * (out_y[k] - lowest_y) + shift_y)
