"""Raw drawing → simplified drawing, by the published recipe.

In: strokes of float coordinates in any unit, as the raw files hold them. Out: the same strokes
as integers 0..255 with few points, as the simplified files hold them.

The recipe stands in the README of Google's `quickdraw-dataset`: (1) move the drawing to the
top left, so that its smallest x and y are 0; (2) scale it uniformly, so that its largest
coordinate is 255; (3) resample each stroke at 1 pixel; (4) simplify each stroke with the
algorithm of Ramer (1972) and Douglas & Peucker (1973), epsilon 2 pixels.

What the recipe leaves open was settled against 8,056 published pairs, of which 99.9 % come out
byte-equal:

- resampling starts at the first point, and the last point always follows, however near;
- the distance is that to the infinite line through both ends, not to the segment between them
  (with the segment only 28 % are equal); a point must be strictly farther than epsilon to stay,
  and of equals the first one wins;
- rounding comes last, half to even;
- a stroke that is only one point becomes two equal points.

So the bounds are those of steps 1 and 2, before points are dropped: about one drawing in ten
ends with a largest coordinate below 255.

The work is bounded, since a scribble can be made to take the square of its length: a drawing
beyond `MAX_POINTS`, `MAX_STROKE_SAMPLES` or `MAX_DISTANCES` is refused, after 0.2 seconds at
most. The largest of the 8,056 has 1,174 points and a stroke of 35,929 samples, and takes 440,118
distances.
"""

import math
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import (
    MAX_STROKE_POINTS,
    Float64Array,
    Int64Array,
    UInt8Array,
    UInt16Array,
)
from quickdraw_core.formats.scanning.field_scan import START
from quickdraw_core.system.compiled import compiled

SIDE = 255.0
SPACING_PX = 1.0
EPSILON_PX = 2.0

MAX_POINTS = 1 << 16
"""Points of a raw drawing."""

MAX_STROKE_SAMPLES = 1 << 20
"""Samples of a stroke at `SPACING_PX`: four thousand times across the drawing."""

MAX_DISTANCES = 1 << 27
"""Distances from a sample to a line that one drawing may take."""

NOT_FINITE, TOO_WIDE, TOO_LONG, NO_ROOM = -1, -2, -3, -4
"""What the compiled functions give instead of a number of points if they gave up."""

REASONS = {
    NOT_FINITE: "coordinate is not a finite number",
    TOO_WIDE: "coordinates are too far apart",
    TOO_LONG: "drawing is too long to simplify",
}


class Scratch(NamedTuple):
    """What one stroke needs while it is simplified; made once, used for many.

    x, y: float64 [samples]; ends: int64 [samples], the ends of the pieces yet to be looked at.
    """

    x: Float64Array
    y: Float64Array
    ends: Int64Array


@compiled(allocates=True)
def make_scratch(samples: int) -> Scratch:
    """Room for strokes of so many samples. Pages that no stroke fills cost no memory."""
    return Scratch(np.empty(samples), np.empty(samples), np.empty(samples, np.int64))


def nested(
    x: UInt8Array, y: UInt8Array, stroke_lengths: Int64Array
) -> list[tuple[list[int], list[int]]]:
    """Flat points (uint8 [P]) as one pair of lists a stroke, the form of the CSV's JSON."""
    all_x, all_y = x.tolist(), y.tolist()
    ends = np.cumsum(stroke_lengths).tolist()
    starts = [0, *ends][:-1]
    return [(all_x[a:b], all_y[a:b]) for a, b in zip(starts, ends, strict=True)]


def simplify_points(
    x: Float64Array, y: Float64Array, stroke_lengths: Int64Array
) -> tuple[UInt8Array, UInt8Array, Int64Array]:
    """Simplifies one raw drawing that lies flat in memory; the work runs without the GIL.

    x, y: float64 [P], all strokes end to end, any unit; stroke_lengths: int64 [S], points a
    stroke, summing to P. Returns x, y: uint8 [Q] and stroke_lengths: int64 [strokes that have
    points]. Raises `ValueError`, one of `REASONS`.
    """
    outcome, kept_x, kept_y, lengths = _simplify_copy(x, y, stroke_lengths)
    if outcome < 0:
        raise ValueError(REASONS[outcome])
    return kept_x, kept_y, lengths


@compiled(allocates=True)
def _simplify_copy(
    x: Float64Array, y: Float64Array, stroke_lengths: Int64Array
) -> tuple[int, UInt8Array, UInt8Array, Int64Array]:
    """`fit` and `simplify_strokes` with room of their own: (points or why not, x, y, lengths)."""
    x, y = x.copy(), y.copy()
    outcome = fit(x, y)
    largest, capacity = START, START
    if outcome == 0:
        start = START
        for length in stroke_lengths:
            samples = _samples_at_most(x, y, start, start + length)
            largest, capacity = max(largest, samples), capacity + samples
            start += length
    kept_x, kept_y = np.empty(capacity, np.uint8), np.empty(capacity, np.uint8)
    lengths = np.empty(len(stroke_lengths), np.uint16)
    strokes = 0
    if outcome == 0:
        scratch = make_scratch(min(largest, MAX_STROKE_SAMPLES))
        outcome, strokes = simplify_strokes(
            x, y, stroke_lengths, scratch, kept_x, kept_y, lengths, START, START
        )
    points = max(outcome, 0)
    return outcome, kept_x[:points], kept_y[:points], lengths[:strokes].astype(np.int64)


@compiled()
def fit(x: Float64Array, y: Float64Array) -> int:
    """Moves and scales a drawing (float64 [P] each) in place, so that it fills 0..`SIDE`.

    Returns 0, or why it cannot: `NOT_FINITE`, `TOO_WIDE`, `TOO_LONG`.
    """
    if len(x) > MAX_POINTS:
        return TOO_LONG
    low_x, high_x = _bounds(x)
    low_y, high_y = _bounds(y)
    if math.isnan(low_x) or math.isnan(low_y):
        return NOT_FINITE
    span = max(high_x - low_x, high_y - low_y)
    if not math.isfinite(span * SIDE):
        return TOO_WIDE
    for i in range(len(x)):
        x[i] -= low_x
        y[i] -= low_y
    if span > 0.0:
        for i in range(len(x)):
            # Multiplied first, then divided: the other order rounds otherwise in the last bit.
            x[i] = x[i] * SIDE / span
            y[i] = y[i] * SIDE / span
    return 0


@compiled()
def _bounds(values: Float64Array) -> tuple[float, float]:
    """Smallest and largest of the values, NaN if any is not finite, zeros if there is none."""
    low, high = np.inf, -np.inf
    for value in values:
        if not math.isfinite(value):
            return np.nan, np.nan
        low, high = min(low, value), max(high, value)
    return (low, high) if len(values) else (0.0, 0.0)


@compiled()
def simplify_strokes(
    x: Float64Array,
    y: Float64Array,
    stroke_lengths: Int64Array,
    scratch: Scratch,
    kept_x: UInt8Array,
    kept_y: UInt8Array,
    kept_lengths: UInt16Array,
    point: int,
    stroke: int,
) -> tuple[int, int]:
    """Simplifies the strokes of a drawing that `fit` was called for.

    x, y: float64 [P]; stroke_lengths: int64 [S]; kept_x, kept_y (uint8) and kept_lengths
    (uint16) are filled from `point` and `stroke` on. Returns where it stopped in them, or why it
    gave up in place of the point: `TOO_LONG` or `NO_ROOM`.
    """
    distances, start = START, START
    for length in stroke_lengths:
        if length == 0:
            continue
        samples = _resample(x, y, start, start + length, scratch)
        if samples < 0:
            return samples, stroke
        end, distances = _keep(samples, scratch, kept_x, kept_y, point, distances)
        if end < 0:
            return end, stroke
        if end - point > MAX_STROKE_POINTS:
            return TOO_LONG, stroke
        if stroke == len(kept_lengths):
            return NO_ROOM, stroke
        kept_lengths[stroke] = end - point
        stroke += 1
        point = end
        start += length
    return point, stroke


@compiled()
def _samples_at_most(x: Float64Array, y: Float64Array, start: int, end: int) -> int:
    """An upper bound of how many samples the stroke [start, end) gives; 0 for no points."""
    if end == start:
        return 0
    length_px = 0.0
    for i in range(start + 1, end):
        length_px += math.sqrt((x[i] - x[i - 1]) ** 2 + (y[i] - y[i - 1]) ** 2)
    return int(length_px / SPACING_PX) + 3


@compiled()
def _resample(x: Float64Array, y: Float64Array, start: int, end: int, scratch: Scratch) -> int:
    """Points every `SPACING_PX` along the stroke [start, end), and its last, into `scratch`.

    Returns how many, at least 2, or `TOO_LONG`.
    """
    count = 0
    position, walked = 0.0, 0.0
    ax, ay = x[start], y[start]
    for i in range(start + 1, end):
        bx, by = x[i], y[i]
        dx, dy = bx - ax, by - ay
        step = math.sqrt(dx * dx + dy * dy)
        reached = walked + step
        if reached > (MAX_STROKE_SAMPLES - 2) * SPACING_PX:
            return TOO_LONG
        while position < reached:
            t = (position - walked) / step
            scratch.x[count] = ax * (1.0 - t) + bx * t
            scratch.y[count] = ay * (1.0 - t) + by * t
            count += 1
            position += SPACING_PX
        walked = reached
        ax, ay = bx, by
    if count == 0:  # all points are one: it becomes two equal ones
        scratch.x[0], scratch.y[0] = ax, ay
        count = 1
    scratch.x[count], scratch.y[count] = ax, ay
    return count + 1


@compiled()
def _keep(
    samples: int,
    scratch: Scratch,
    kept_x: UInt8Array,
    kept_y: UInt8Array,
    point: int,
    distances: int,
) -> tuple[int, int]:
    """Writes those of the samples that Ramer–Douglas–Peucker keeps, rounded, from `point` on.

    Works off a list of pieces instead of calling itself: a long scribble would go deeper than
    the stack. The time is about n log n, and n squared for a scribble made to be slow, so it
    counts the distances of a drawing. Returns (where it stopped, distances so far), with
    `TOO_LONG` or `NO_ROOM` as the first if it gave up.
    """
    x, y, ends = scratch.x, scratch.y, scratch.ends
    if point + 2 > len(kept_x):
        return NO_ROOM, distances
    kept_x[point], kept_y[point] = np.uint8(np.rint(x[0])), np.uint8(np.rint(y[0]))
    point += 1
    first, depth = START, 1
    ends[0] = samples - 1
    while depth:
        last = ends[depth - 1]
        distances += last - first
        if distances > MAX_DISTANCES:
            return TOO_LONG, distances
        farthest = _farthest(x, y, first, last)
        if farthest > first:
            ends[depth] = farthest
            depth += 1
            continue
        if point == len(kept_x):
            return NO_ROOM, distances
        kept_x[point], kept_y[point] = np.uint8(np.rint(x[last])), np.uint8(np.rint(y[last]))
        point += 1
        first = last
        depth -= 1
    return point, distances


@compiled()
def _farthest(x: Float64Array, y: Float64Array, first: int, last: int) -> int:
    """The sample between two that is farthest from the line through both, the first of equals.

    Returns `first` if none is farther than `EPSILON_PX`.
    """
    ax, ay = x[first], y[first]
    dx, dy = x[last] - ax, y[last] - ay
    base = math.sqrt(dx * dx + dy * dy)
    if base == 0.0:
        return _farthest_from_point(x, y, first, last)
    largest = _largest_area(x[first + 1 : last], y[first + 1 : last], ax, ay, dx, dy)
    distance_px = largest / base
    if not distance_px > EPSILON_PX:
        return first
    # Different areas may give equal distances, of which the first wins: divide the near ones.
    near = largest * (1.0 - 2.0**-50)
    for i in range(first + 1, last):
        area = abs(dx * (ay - y[i]) - (ax - x[i]) * dy)
        if area >= near and area / base == distance_px:
            return i
    return first


@compiled()
def _largest_area(
    x: Float64Array, y: Float64Array, ax: float, ay: float, dx: float, dy: float
) -> float:
    """The largest |cross product| of (dx, dy) with the way from a to a point; 0 for no point.

    Compares the bits as integers, which order as the numbers do if none is negative: so the
    compiler makes vector code of it, four times as fast.
    """
    largest = np.int64(0)
    for i in range(len(x)):
        area = np.float64(abs(dx * (ay - y[i]) - (ax - x[i]) * dy))
        largest = max(largest, area.view(np.int64))
    return np.int64(largest).view(np.float64)


@compiled()
def _farthest_from_point(x: Float64Array, y: Float64Array, first: int, last: int) -> int:
    """`_farthest` if both ends are one point."""
    farthest, farthest_px = first, 0.0
    for i in range(first + 1, last):
        distance_px = math.sqrt((x[i] - x[first]) ** 2 + (y[i] - y[first]) ** 2)
        if distance_px > farthest_px:
            farthest, farthest_px = i, distance_px
    return farthest if farthest_px > EPSILON_PX else first
