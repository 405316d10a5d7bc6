"""Strokes to build doodles from: lines, arcs, outlines.

A stroke is a float64 array of shape [points, 2]: x to the right and y down, in any unit; the
programs draw in a box of about 1 by 1. Angles are degrees, 0 points right and 90 points down.
Nothing here is shaky or random but `between`, `chance` and `jittered`: the hand does the rest.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Strokes = list[FloatArray]
Point = tuple[float, float]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number drawn uniformly from [low, high)."""
    return low + (high - low) * rng.random()


def chance(rng: np.random.Generator, share: float) -> bool:
    """True in `share` (0..1) of the calls."""
    return bool(rng.random() < share)


def jittered(rng: np.random.Generator, count: int, spread: float) -> FloatArray:
    """`count` positions, evenly over [0, 1), each moved by up to `spread` of their distance."""
    return (np.arange(count) + spread * (rng.random(count) - 0.5)) / count


def line(*points: Point) -> FloatArray:
    """A stroke straight from point to point."""
    return np.array(points, np.float64)


def closed(*points: Point) -> FloatArray:
    """A stroke from point to point and back to the first."""
    return np.array((*points, points[0]), np.float64)


def rectangle(left: float, top: float, right: float, bottom: float) -> FloatArray:
    """A closed box, from its upper left corner clockwise."""
    return closed((left, top), (right, top), (right, bottom), (left, bottom))


def arc(center: Point, radius: Point, start: float, end: float, points: int = 24) -> FloatArray:
    """A piece of an ellipse with the radii (x, y), from angle `start` to `end`."""
    angle = np.linspace(np.radians(start), np.radians(end), points)
    return np.column_stack(
        (center[0] + radius[0] * np.cos(angle), center[1] + radius[1] * np.sin(angle))
    )


def ellipse(
    rng: np.random.Generator, center: Point, radius_x: float, radius_y: float | None = None
) -> FloatArray:
    """A whole ellipse (a circle without `radius_y`) as a hand closes it: not quite, or too far.

    It begins anywhere in the upper half, where most people begin.
    """
    start = between(rng, -150.0, -30.0)
    radius = (radius_x, radius_x if radius_y is None else radius_y)
    return arc(center, radius, start, start + between(rng, 345.0, 378.0), 32)


def polygon(corners: int, center: Point, radius: float, turn: float) -> FloatArray:
    """A closed regular polygon whose first corner stands at the angle `turn`."""
    return arc(center, (radius, radius), turn, turn + 360.0, corners + 1)


def spiral(center: Point, radius: float, turns: float, start: float) -> FloatArray:
    """A spiral from its centre outwards, to `radius` after `turns`, from angle `start`."""
    t = np.linspace(0.0, 1.0, int(24 * turns))
    angle = np.radians(start) + 2.0 * np.pi * turns * t
    return np.column_stack(
        (center[0] + radius * t * np.cos(angle), center[1] + radius * t * np.sin(angle))
    )


def scalloped(
    rng: np.random.Generator, center: Point, radius: Point, bumps: int, height: float
) -> FloatArray:
    """A closed outline of round `bumps` along an ellipse: a cloud, a crown of leaves, petals.

    `height` is that of a bump, in radii; bumps differ in width as they do in a drawing.
    """
    knots = np.append(jittered(rng, bumps, 0.5), 0.0)
    knots[-1] = knots[0] + 1.0
    t = np.linspace(knots[0], knots[-1], 8 * bumps)
    bump = np.abs(np.sin(np.pi * np.interp(t, knots, np.arange(bumps + 1.0))))
    angle = 2.0 * np.pi * t + between(rng, 0.0, 2.0 * np.pi)
    reach = 1.0 + height * bump
    return np.column_stack(
        (
            center[0] + radius[0] * reach * np.cos(angle),
            center[1] + radius[1] * reach * np.sin(angle),
        )
    )


def curve(*points: Point, steps: int = 8) -> FloatArray:
    """A smooth stroke through all `points` (at least two): a Catmull–Rom spline.

    Source: E. Catmull and R. Rom, "A class of local interpolating splines", 1974.
    """
    p = np.array((points[0], *points, points[-1]), np.float64)
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    before, here, there, after = (p[i : len(p) - 3 + i, None] for i in range(4))
    pieces = 0.5 * (
        2.0 * here
        + (there - before) * t
        + (2.0 * before - 5.0 * here + 4.0 * there - after) * t**2
        + (3.0 * here - before - 3.0 * there + after) * t**3
    )
    return np.concatenate((pieces.reshape(-1, 2), p[-1:]))


def rotated(stroke: FloatArray, degrees: float, center: Point) -> FloatArray:
    """The stroke turned about `center`, clockwise on the screen."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = np.array(center)
    turned: FloatArray = (stroke - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    return turned


def mirrored(strokes: Sequence[FloatArray], axis_x: float = 0.5) -> Strokes:
    """The strokes with left and right exchanged about the vertical at `axis_x`."""
    return [stroke * (-1.0, 1.0) + (2.0 * axis_x, 0.0) for stroke in strokes]


def spokes(
    center: Point, inner: float, outer: FloatArray, angles: FloatArray, flat: float = 1.0
) -> Strokes:
    """One line per angle (float64 [n]) from radius `inner` to `outer` (float64 [n])."""
    radians = np.radians(angles)
    toward = np.column_stack((np.cos(radians), flat * np.sin(radians)))
    ends = np.stack((toward * inner, toward * outer[:, None]), axis=1) + np.array(center)
    return list(ends)


def parts(stroke: FloatArray) -> Strokes:
    """Each straight piece of the stroke as a stroke of its own."""
    return [stroke[i : i + 2] for i in range(len(stroke) - 1)]
