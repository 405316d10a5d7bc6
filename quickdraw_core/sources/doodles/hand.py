"""The human hand: makes clean strokes look drawn, and spoils a drawing now and then.

In: strokes as `geometry.py` has them. Out: the path of the pen, flat float64 arrays as a raw
drawing has them, ready to be simplified.

What a hand does here: it forgets a stroke or adds one, changes order and direction, lifts the
pen at a corner; it wavers slowly along the stroke, cuts corners, ends too early or too late,
misses the place a little; and the whole drawing leans, turns and stretches. `sloppiness` scales
all that is a matter of care: 1 is usual, 4 is hard to recognise.
"""

import math

import numpy as np
import numpy.typing as npt

from quickdraw_core.sources.doodles.geometry import (
    FloatArray,
    Strokes,
    between,
    chance,
    curve,
    line,
)
from quickdraw_core.system.compiled import compiled

# Shares of drawings (of strokes, for LIFTED and REVERSED) in which it happens.
MISSING, EXTRA, SHUFFLED, LIFTED, REVERSED = 0.05, 0.05, 0.25, 0.08, 0.2

# Standard deviations at sloppiness 1, in sizes of the drawing, degrees or shares.
WAVER, DRIFT, OVERSHOOT, MISPLACED, RESIZED = 0.005, 0.02, 0.018, 0.014, 0.04
TURNED_DEGREES, SLANTED, STRETCHED, BENT = 4.0, 0.06, 0.13, 0.08

SPACING = 1.0 / 60.0
"""Distance of the pen's path points, in sizes of the drawing."""


def usual_sloppiness(rng: np.random.Generator) -> float:
    """How careless this person is: 1 in the median, within 0.5 to 2 for nine of ten."""
    return float(np.exp(0.4 * rng.standard_normal()))


def drawn(
    strokes: Strokes, rng: np.random.Generator, sloppiness: float
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Draws the strokes by hand.

    Returns x, y: float64 [P], all points end to end, one size of the drawing being about 1;
    lengths: int64 [S], points a stroke, at least two.
    """
    planned = _planned(strokes, rng)
    points = np.concatenate(planned)
    low = points.min(axis=0)
    points = (points - low) / (points - low).max()
    count = len(planned)
    lengths = np.array([len(stroke) for stroke in planned], np.int64)

    normal = rng.standard_normal((count, 9)) * sloppiness
    ends = normal[:, :2] * OVERSHOOT
    places = normal[:, 2:5] * (MISPLACED, MISPLACED, RESIZED)
    # Two waves an axis: a slow drift of the arm and a quicker waver of the fingers. Careless
    # people are out of shape rather than shaky, so the waver grows more slowly.
    waver = WAVER * sloppiness**-0.6
    amplitudes = normal[:, 5:9] * (DRIFT, DRIFT, waver, waver)
    frequencies = (0.4, 0.4, 1.5, 1.5) + rng.random((count, 4)) * (0.8, 0.8, 2.0, 2.0)
    phases = rng.random((count, 4))
    corner_cut = int(rng.integers(0, 3)) if sloppiness > 0.7 else 0
    path, lengths = _traced(
        # A view or another order of axes would have all this compiled once more.
        np.ascontiguousarray(points),
        lengths,
        ends,
        places,
        amplitudes,
        frequencies,
        phases,
        corner_cut,
    )
    return (*_leaned(path, rng, sloppiness), lengths)


def spoiled(strokes: Strokes, rng: np.random.Generator) -> tuple[Strokes, float]:
    """Strokes that nobody recognises, and the sloppiness to draw them with.

    A third each: the drawing stopped half-way, a scribble instead of it, all of it but wildly.
    """
    kind = rng.random()
    if kind < 0.34:
        return half_finished(strokes, rng), usual_sloppiness(rng)
    if kind < 0.67:
        return scribble(rng), usual_sloppiness(rng)
    return strokes, between(rng, 3.0, 5.0)


def half_finished(strokes: Strokes, rng: np.random.Generator) -> Strokes:
    """The first strokes; of a drawing of one or two strokes, a piece of the first."""
    if len(strokes) > 2:
        return strokes[: 1 + int(rng.integers(len(strokes) // 2))]
    whole = strokes[0]
    if len(whole) == 2:
        return [np.stack((whole[0], whole[0] + (whole[1] - whole[0]) * between(rng, 0.1, 0.5)))]
    return [whole[: max(2, int(len(whole) * between(rng, 0.25, 0.6)))]]


def scribble(rng: np.random.Generator) -> Strokes:
    """One to three strokes that mean nothing: loops, hatching, hooks."""
    strokes: Strokes = []
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.5:
            knots = rng.random((int(rng.integers(4, 15)), 2))
            strokes.append(curve(*((float(x), float(y)) for x, y in knots)))
        elif kind < 0.8:
            count = int(rng.integers(6, 25))
            across = np.arange(count) % 2 + 0.3 * rng.random(count)
            strokes.append(np.column_stack((np.linspace(0.0, 1.0, count), 0.7 * across)))
        else:
            strokes.append(rng.random((int(rng.integers(2, 5)), 2)) * 0.6)
    return strokes


def _planned(strokes: Strokes, rng: np.random.Generator) -> Strokes:
    """The strokes in the order and direction of this drawing, some forgotten, split or added."""
    planned = list(strokes)
    if len(planned) > 2 and chance(rng, MISSING):
        # The first stroke is the body of the thing: without it nothing is left to recognise.
        planned.pop(1 + int(rng.integers(len(planned) - 1)))
    if chance(rng, EXTRA):
        planned.append(_extra(planned, rng))
    luck = rng.random((2, len(planned)))
    for i in np.flatnonzero(luck[0] < LIFTED)[::-1].tolist():
        if len(planned[i]) > 3:
            corner = int(rng.integers(1, len(planned[i]) - 1))
            planned[i : i + 1] = [planned[i][: corner + 1], planned[i][corner:]]
    for i in np.flatnonzero(luck[1] < REVERSED).tolist():
        planned[i] = planned[i][::-1]
    if len(planned) > 1 and chance(rng, SHUFFLED):
        planned = [planned[i] for i in rng.permutation(len(planned)).tolist()]
    return planned


def _extra(strokes: Strokes, rng: np.random.Generator) -> FloatArray:
    """One stroke too many: another one gone over twice, or a slip of the pen near it."""
    other = strokes[int(rng.integers(len(strokes)))]
    if chance(rng, 0.5):
        return other
    x, y = other[int(rng.integers(len(other)))].tolist()
    dx, dy = (0.15 * rng.standard_normal(2)).tolist()
    return line((x, y), (x + dx, y + dy))


def _leaned(
    path: FloatArray, rng: np.random.Generator, sloppiness: float
) -> tuple[FloatArray, FloatArray]:
    """The whole drawing bent, stretched, slanted and turned; x, y: float64 [P]."""
    turn, slant, stretch, bend_x, bend_y = (rng.standard_normal(5) * sloppiness**0.5).tolist()
    x, y = path[:, 0] - 0.5, path[:, 1] - 0.5
    x, y = x + BENT * bend_x * y * y, y + BENT * bend_y * x * x
    x = x * np.exp(STRETCHED * stretch) + SLANTED * slant * y
    angle = np.radians(TURNED_DEGREES * turn)
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y


@compiled(allocates=True)
def _traced(
    points: FloatArray,
    lengths: npt.NDArray[np.int64],
    ends: FloatArray,
    places: FloatArray,
    amplitudes: FloatArray,
    frequencies: FloatArray,
    phases: FloatArray,
    corner_cut: int,
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """The pen's path along S strokes: points every `SPACING`, wavering.

    points: float64 [P, 2]; lengths: int64 [S]; ends: float64 [S, 2], how far each end goes on
    (or, negative, stops short); places: float64 [S, 3], shift in x and y and relative growth;
    amplitudes, frequencies (cycles a size), phases (turns): float64 [S, 4], the waves in x, y,
    x, y; corner_cut: over how many points to each side a corner is rounded.
    """
    counts = np.empty(len(lengths), np.int64)
    start = 0
    for s in range(len(lengths)):
        counts[s] = _path_points(_length(points[start : start + lengths[s]]), ends[s])
        start += lengths[s]
    traced = np.empty((counts.sum(), 2))
    start = end = 0
    for s in range(len(lengths)):
        path = traced[end : end + counts[s]]
        _space(points[start : start + lengths[s]], ends[s], corner_cut, path)
        start += lengths[s]
        end += counts[s]
        step = math.hypot(path[1, 0] - path[0, 0], path[1, 1] - path[0, 1])
        for axis in range(2):
            middle = path[:, axis].mean()
            for i in range(len(path)):
                moved = middle + (path[i, axis] - middle) * (1.0 + places[s, 2]) + places[s, axis]
                for wave in (axis, axis + 2):
                    turns = frequencies[s, wave] * step * i + phases[s, wave]
                    moved += amplitudes[s, wave] * math.sin(2.0 * math.pi * turns)
                path[i, axis] = moved
    return traced, counts


@compiled()
def _length(stroke: FloatArray) -> float:
    """Length of the stroke (float64 [n, 2])."""
    length = 0.0
    for i in range(1, len(stroke)):
        length += math.hypot(stroke[i, 0] - stroke[i - 1, 0], stroke[i, 1] - stroke[i - 1, 1])
    return length


@compiled()
def _reach(length: float, wanted: float) -> float:
    """How far an end goes on: a fifth of the stroke at most; or stops short: a tenth."""
    return min(max(wanted, -0.1 * length), 0.2 * length)


@compiled()
def _path_points(length: float, ends: FloatArray) -> int:
    """How many path points a stroke of this length gets.

    At least nine, so that a small round thing stays round.
    """
    whole = length + _reach(length, ends[0]) + _reach(length, ends[1])
    return max(9, int(whole / SPACING) + 1)


@compiled(allocates=True)
def _space(stroke: FloatArray, ends: FloatArray, corner_cut: int, path: FloatArray) -> None:
    """Fills `path` (float64 [m, 2]) with even points along the stroke (float64 [n, 2]).

    The ends are lengthened or cut by `ends`; then each point becomes the mean of those up to
    `corner_cut` around it.
    """
    length = _length(stroke)
    first = -_reach(length, ends[0])
    last = length + _reach(length, ends[1])
    clean = np.empty_like(path)
    piece, walked = 1, 0.0
    span = _length(stroke[:2])
    for i in range(len(path)):
        at = first + (last - first) * i / (len(path) - 1)
        while piece < len(stroke) - 1 and (walked + span < at or walked + span == 0.0):
            walked += span
            piece += 1
            span = _length(stroke[piece - 1 : piece + 1])
        t = (at - walked) / span if span > 0.0 else 0.0
        for axis in range(2):
            step = stroke[piece, axis] - stroke[piece - 1, axis]
            clean[i, axis] = stroke[piece - 1, axis] + step * t
    for i in range(len(path)):
        near = min(corner_cut, i, len(path) - 1 - i)
        for axis in range(2):
            total = 0.0
            for j in range(i - near, i + near + 1):
                total += clean[j, axis]
            path[i, axis] = total / (2 * near + 1)
