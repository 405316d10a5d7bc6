"""Doodles that are one plain shape.

In: a generator of random numbers, which chooses the variant and the proportions. Out: strokes
as `geometry.py` has them.
"""

import numpy as np

from quickdraw_core.sources.doodles.geometry import (
    Strokes,
    arc,
    between,
    chance,
    closed,
    curve,
    ellipse,
    line,
    mirrored,
    parts,
    polygon,
    rotated,
)


def circle(rng: np.random.Generator) -> Strokes:
    """One round stroke, more or less closed."""
    return [ellipse(rng, (0.5, 0.5), 0.5, 0.5 * between(rng, 0.9, 1.1))]


def square(rng: np.random.Generator) -> Strokes:
    """Four sides, in one stroke or in four, or a hook and a hook."""
    right, bottom = between(rng, 0.9, 1.1), between(rng, 0.9, 1.1)
    corners = [(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)]
    first = int(rng.integers(4))
    outline = closed(*corners[first:], *corners[:first])
    kind = rng.random()
    if kind < 0.65:
        return [outline]
    return parts(outline) if kind < 0.85 else [outline[:3], outline[2:]]


def triangle(rng: np.random.Generator) -> Strokes:
    """Three sides: an even one, or one with a right angle."""
    if chance(rng, 0.2):
        outline = closed((0.0, 0.0), (0.0, 1.0), (between(rng, 0.7, 1.2), 1.0))
    else:
        top = between(rng, 0.35, 0.65)
        outline = closed((top, 0.0), (1.0, between(rng, 0.8, 0.95)), (0.0, 0.88))
    if chance(rng, 0.1):
        outline = rotated(outline, 180.0, (0.5, 0.5))
    return [outline] if chance(rng, 0.75) else parts(outline)


def line_(rng: np.random.Generator) -> Strokes:
    """One stroke, about straight: lying, standing or oblique."""
    angle = (0.0, 0.0, 90.0, between(rng, -70.0, 70.0))[int(rng.integers(4))]
    middle = (0.5, between(rng, -0.03, 0.03))
    return [rotated(curve((0.0, 0.0), middle, (1.0, 0.0)), angle, (0.5, 0.0))]


def zigzag(rng: np.random.Generator) -> Strokes:
    """One stroke up and down, four to nine corners, mostly from left to right."""
    corners = int(rng.integers(5, 11))
    height = between(rng, 0.15, 0.45)
    x = np.linspace(0.0, 1.0, corners) + (rng.random(corners) - 0.5) * 0.3 / corners
    y = height * (np.arange(corners) % 2 + (rng.random(corners) - 0.5) * 0.4)
    stroke = np.column_stack((x, y))
    return [rotated(stroke, 90.0, (0.5, 0.0)) if chance(rng, 0.12) else stroke]


def hexagon(rng: np.random.Generator) -> Strokes:
    """Six sides, standing on a side or on a corner."""
    outline = polygon(6, (0.5, 0.5), 0.5, (0.0, -60.0, 30.0)[int(rng.integers(3))])
    outline *= (1.0, between(rng, 0.85, 1.1))
    return [outline] if chance(rng, 0.8) else parts(outline)


def diamond(rng: np.random.Generator) -> Strokes:
    """A rhombus on its corner, or a cut stone with facets."""
    half = between(rng, 0.28, 0.42)
    if chance(rng, 0.45):
        return [closed((half, 0.0), (2 * half, 0.5), (half, 1.0), (0.0, 0.5))]
    inset, girdle = between(rng, 0.18, 0.28), between(rng, 0.25, 0.35)
    strokes = [
        closed((inset, 0.0), (1.0 - inset, 0.0), (1.0, girdle), (0.5, 0.95), (0.0, girdle)),
        line((0.0, girdle), (1.0, girdle)),
    ]
    if chance(rng, 0.6):
        strokes.append(line((0.33, girdle), (0.5, 0.95), (0.67, girdle)))
    if chance(rng, 0.4):
        strokes.append(line((inset, 0.0), (0.33, girdle), (0.5, 0.0), (0.67, girdle), (0.8, 0.0)))
    return strokes


def star(rng: np.random.Generator) -> Strokes:
    """Five points: drawn through without lifting the pen, or as an outline."""
    tips = polygon(5, (0.5, 0.5), 0.5, -90.0)[:5]
    if chance(rng, 0.55):
        first = int(rng.choice([3, 3, 0, 2]))
        order = [(first + 2 * i) % 5 for i in range(6)]
        return [tips[order]]
    notches = polygon(5, (0.5, 0.5), between(rng, 0.17, 0.25), -54.0)[:5]
    outline = np.stack((tips, notches), axis=1).reshape(10, 2)
    return [np.concatenate((outline, outline[:1]))]


def lightning(rng: np.random.Generator) -> Strokes:
    """A bolt: its outline, or one stroke with two bends."""
    if chance(rng, 0.35):
        bend = between(rng, 0.4, 0.55)
        strokes = [line((0.4, 0.0), (0.05, bend), (0.5, bend - 0.1), (0.1, 1.0))]
    elif chance(rng, 0.5):
        strokes = [
            closed((0.3, 0.0), (0.6, 0.0), (0.4, 0.35), (0.62, 0.35), (0.1, 1.0), (0.27, 0.52),
                   (0.05, 0.52))
        ]  # fmt: skip
    else:
        strokes = [
            closed((0.25, 0.0), (0.65, 0.05), (0.5, 0.3), (0.72, 0.3), (0.5, 0.6), (0.65, 0.6),
                   (0.05, 1.0), (0.28, 0.65), (0.1, 0.65), (0.3, 0.35), (0.1, 0.35))
        ]  # fmt: skip
    return mirrored(strokes) if chance(rng, 0.25) else strokes


def moon(rng: np.random.Generator) -> Strokes:
    """A crescent, waxing or waning; sometimes full, with craters."""
    if chance(rng, 0.12):
        spots = int(rng.integers(3, 6))
        where = 0.5 + 0.27 * (2.0 * rng.random((spots, 2)) - 1.0)
        sizes = 0.05 + 0.07 * rng.random(spots)
        craters = [
            ellipse(rng, (float(x), float(y)), float(r))
            for (x, y), r in zip(where, sizes, strict=True)
        ]
        return [ellipse(rng, (0.5, 0.5), 0.5), *craters]
    opening = between(rng, 50.0, 75.0)
    outer = arc((0.5, 0.5), (0.5, 0.5), opening, 360.0 - opening, 30)
    bulge = between(rng, 0.0, 0.2)
    tip_x, tip_y = float(outer[0, 0]), float(outer[0, 1])
    inner = curve((tip_x, 1.0 - tip_y), (bulge + 0.28, 0.3), (bulge + 0.2, 0.5),
                  (bulge + 0.28, 0.7), (tip_x, tip_y))  # fmt: skip
    strokes = [np.concatenate((outer, inner))] if chance(rng, 0.6) else [outer, inner]
    return mirrored(strokes) if chance(rng, 0.5) else strokes
