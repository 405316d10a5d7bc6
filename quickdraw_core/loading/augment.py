"""Augmentation on the strokes, before they are drawn: some left out, each changed by itself, the
whole bent, then jitter, turn, stretch, slant, mirror, shift.

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

_AFFINE, _DROP, _NOISE, _PARTIAL, _STROKE, _WARP = 0xA46, 0xD80, 0x201, 0x9A7, 0x57B, 0x3A9
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
    kept = drop_strokes(
        batch, config.stroke_drop_share, seed, epoch, positions, config.partial_share
    )
    points = Points(np.empty(len(kept.x), np.float32), np.empty(len(kept.y), np.float32))
    x, y = bent(kept, config, seed, epoch, positions) if config.bends else (kept.x, kept.y)
    _augment(
        x,
        y,
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


def bent(
    batch: DrawingBatch, config: AugmentConfig, seed: int, epoch: int, positions: Int64Array
) -> Points:
    """The points, with each stroke turned, stretched and shifted by itself and the whole bent.

    A stroke turns around the middle of its box. The bend moves a point by the mean of two waves
    along each axis, of random direction and of 128 to 384 long: neighbours move alike. What
    leaves the square is not cut off.
    """
    points = Points(batch.x.astype(np.float32), batch.y.astype(np.float32))
    _bend(
        *points,
        batch.stroke_lengths,
        batch.point_offsets,
        batch.stroke_offsets,
        positions,
        stream_key(seed, epoch, _STROKE),
        stream_key(seed, epoch, _WARP),
        math.radians(config.stroke_rotation_degrees),
        float(config.stroke_stretch),
        float(config.stroke_shift),
        float(config.warp),
    )
    return points


@compiled()
def _bend(
    x: Float32Array,
    y: Float32Array,
    lengths: UInt16Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    positions: Int64Array,
    stroke_key: np.uint64,
    warp_key: np.uint64,
    turn: float,
    stretch: float,
    shift: float,
    warp: float,
) -> None:
    for drawing in range(len(point_offsets) - 1):
        first, start = stroke_offsets[drawing], point_offsets[drawing]
        u = mix(np.uint64(positions[drawing]) ^ stroke_key)
        for stroke in range(first, stroke_offsets[drawing + 1]):
            end, draw = start + np.int64(lengths[stroke]), 4 * (stroke - first)
            if end > start:
                angle = turn * (2 * uniform(u, draw) - 1)
                size = 1 + stretch * (2 * uniform(u, draw + 1) - 1)
                cosine, sine = size * math.cos(angle), size * math.sin(angle)
                middle_x, middle_y = _middle(x, start, end), _middle(y, start, end)
                to_x = middle_x + shift * (2 * uniform(u, draw + 2) - 1)
                to_y = middle_y + shift * (2 * uniform(u, draw + 3) - 1)
                for k in range(start, end):
                    across, down = x[k] - middle_x, y[k] - middle_y
                    x[k] = to_x + cosine * across - sine * down
                    y[k] = to_y + sine * across + cosine * down
            start = end
        if warp > 0:
            v = mix(np.uint64(positions[drawing]) ^ warp_key)
            for k in range(point_offsets[drawing], start):
                at_x, at_y = x[k], y[k]
                x[k] += warp * (_wave(v, 0, at_x, at_y) + _wave(v, 1, at_x, at_y)) / 2
                y[k] += warp * (_wave(v, 2, at_x, at_y) + _wave(v, 3, at_x, at_y)) / 2


@compiled()
def _middle(values: Float32Array, start: int, end: int) -> np.float32:
    lowest = highest = values[start]
    for k in range(start + 1, end):
        lowest, highest = min(lowest, values[k]), max(highest, values[k])
    middle: np.float32 = (lowest + highest) / np.float32(2)
    return middle


@compiled()
def _wave(counter: np.uint64, number: int, x: np.float32, y: np.float32) -> float:
    """Wave `number` of a drawing at a point, in -1..1."""
    direction = 2 * math.pi * uniform(counter, 3 * number)
    wavelength = 128 + 256 * uniform(counter, 3 * number + 1)
    along = x * math.cos(direction) + y * math.sin(direction)
    return math.sin(2 * math.pi * (along / wavelength + uniform(counter, 3 * number + 2)))


def drop_strokes(
    batch: DrawingBatch,
    share: float,
    seed: int,
    epoch: int,
    positions: Int64Array,
    partial_share: float = 0,
) -> DrawingBatch:
    """The batch without a random `share` of its strokes, and without the last strokes of a
    `partial_share` of its drawings; the batch itself if both are 0.

    Each stroke falls out by itself, keyed by (seed, epoch, position) and its number; if all
    of a drawing would, the one nearest to staying stays. Of a partial drawing any number of
    strokes may be left, at least one, and at least one is missing.
    """
    if share == 0 and partial_share == 0:
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
        stream_key(seed, epoch, _PARTIAL),
        float(share),
        float(partial_share),
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
    partial_key: np.uint64,
    share: float,
    partial_share: float,
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
        if partial_share > 0 and end - first > 1:
            partial = mix(np.uint64(positions[drawing]) ^ partial_key)
            if uniform(partial, 0) < partial_share:
                end = first + 1 + np.int64(uniform(partial, 1) * (end - first - 1))
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
    x: UInt8Array | Float32Array,
    y: UInt8Array | Float32Array,
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
