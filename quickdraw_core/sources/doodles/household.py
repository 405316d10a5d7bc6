"""Doodles of what people eat, drink from, wear and keep around the house.

In: a generator of random numbers, which chooses the variant and the proportions. Out: strokes
as `geometry.py` has them, in the order in which most people draw them.
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
    jittered,
    line,
    mirrored,
    rectangle,
    scalloped,
    spiral,
)


def ice_cream(rng: np.random.Generator) -> Strokes:
    """A cone under one, two or three scoops, with a waffle pattern at times."""
    rim, half = between(rng, 0.4, 0.5), between(rng, 0.2, 0.28)
    strokes = [closed((0.5 - half, rim), (0.5 + half, rim), (0.5, 1.05))]
    kind = rng.random()
    if kind < 0.5:
        swell = half * between(rng, 1.0, 1.25)
        strokes.append(arc((0.5, rim), (swell, rim * between(rng, 0.7, 1.0)), 180.0, 360.0))
    elif kind < 0.75:
        size = (half * 1.05, rim * 0.45)
        strokes.append(scalloped(rng, (0.5, rim * 0.55), size, int(rng.integers(4, 7)), 0.25))
    else:
        scoops = int(rng.integers(2, 4))
        radius = half * 0.85
        strokes += [
            arc((0.5, rim - radius * 1.3 * i), (radius * (1.0 - 0.12 * i), radius), 165.0, 375.0)
            for i in range(scoops)
        ]
    if chance(rng, 0.4):
        for t in np.linspace(0.2, 0.75, int(rng.integers(2, 5))).tolist():
            low = rim + (1.05 - rim) * t
            reach = half * (1.0 - t)
            strokes.append(
                line((0.5 - reach, low), (0.5 + 0.7 * half, rim - 0.03 + 0.35 * t * rim))
            )
            if chance(rng, 0.6):
                strokes.append(line((0.5 + reach, low), (0.5 - reach * 0.2, rim)))
    return strokes


def lollipop(rng: np.random.Generator) -> Strokes:
    """A round sweet on a long thin stick, with a swirl at times."""
    radius = between(rng, 0.18, 0.27)
    strokes = [ellipse(rng, (0.5, 0.27), radius, radius * between(rng, 0.9, 1.1))]
    stick = curve((0.5, 0.27 + radius), (0.5 + between(rng, -0.03, 0.03), 0.75), (0.5, 1.1))
    if chance(rng, 0.12):
        strokes.append(
            line((0.48, 0.27 + radius), (0.48, 1.0), (0.53, 1.0), (0.53, 0.27 + radius))
        )
    else:
        strokes.append(stick)
    if chance(rng, 0.4):
        turns = between(rng, 1.2, 2.4)
        swirl = spiral((0.5, 0.27), radius * 0.85, turns, between(rng, 0.0, 360.0))
        strokes.append(swirl)
    return strokes


def bowtie(rng: np.random.Generator) -> Strokes:
    """Two wings about a knot, or one stroke that crosses itself."""
    half, knot = between(rng, 0.2, 0.32), between(rng, 0.05, 0.09)
    kind = rng.random()
    if kind < 0.3:
        return [line((0.5, 0.5), (0.0, 0.5 - half), (0.0, 0.5 + half), (1.0, 0.5 - half),
                     (1.0, 0.5 + half), (0.5, 0.5))]  # fmt: skip
    if kind < 0.7:
        wing = line((0.5 + knot, 0.48), (1.0, 0.5 - half), (1.0, 0.5 + half), (0.5 + knot, 0.52))
    else:
        tall = 0.7 * half
        wing = curve((0.5 + knot, 0.48), (0.75, 0.42 - half), (0.98, 0.5 - tall),
                     (0.98, 0.5 + tall), (0.75, 0.58 + half), (0.5 + knot, 0.52))  # fmt: skip
    middle = (
        rectangle(0.5 - knot, 0.44, 0.5 + knot, 0.56)
        if chance(rng, 0.3)
        else ellipse(rng, (0.5, 0.5), knot, knot * 1.3)
    )
    strokes = [middle, *mirrored([wing]), wing]
    if chance(rng, 0.25):
        fold = line((0.5 + knot * 1.3, 0.5), (0.5 + 3.0 * knot, 0.46))
        strokes += [fold, *mirrored([fold])]
    return strokes


def hourglass(rng: np.random.Generator) -> Strokes:
    """Two triangles tip to tip, or two bulbs; plates above and below, sand at times."""
    half = between(rng, 0.26, 0.36)
    left, right = 0.5 - half, 0.5 + half
    if chance(rng, 0.5):
        strokes = [line((left, 0.0), (right, 0.0), (left, 1.0), (right, 1.0), (left, 0.0))]
    else:
        side = curve((right, 0.0), (right - 0.02, 0.25), (0.53, 0.48), (0.53, 0.52),
                     (right - 0.02, 0.75), (right, 1.0))  # fmt: skip
        past = between(rng, 0.0, 0.08)
        strokes = [
            *mirrored([side]),
            side,
            *(line((left - past, y), (right + past, y)) for y in (0.0, 1.0)),
        ]
    if chance(rng, 0.35):
        level = between(rng, 0.75, 0.88)
        strokes.append(curve((0.5 - half * 0.55, level), (0.5, level - 0.06),
                             (0.5 + half * 0.55, level)))  # fmt: skip
    if chance(rng, 0.25):
        strokes.append(line((0.5 - half * 0.5, 0.25), (0.5 + half * 0.5, 0.25)))
    return strokes


def stairs(rng: np.random.Generator) -> Strokes:
    """Steps up or down on one stroke; closed to a side view, or with a second edge, at times."""
    steps = int(rng.integers(3, 7))
    level = np.repeat(np.arange(steps + 1), 2) / steps
    tread = np.column_stack((level[:-1], 1.0 - level[1:])) * (1.0, between(rng, 0.7, 1.0))
    strokes = [tread]
    foot = float(tread[0, 1]) + 1.0 / steps
    if chance(rng, 0.15):
        strokes[0] = np.concatenate((tread, line((1.0, foot), (0.0, foot)), tread[:1]))
    elif chance(rng, 0.15):
        shift = (0.3, -0.12)
        strokes.append(tread + shift)
        strokes += [np.stack((corner, corner + shift)) for corner in tread]
    return mirrored(strokes) if chance(rng, 0.4) else strokes


def fence(rng: np.random.Generator) -> Strokes:
    """Pickets, pointed or plain, and two rails across."""
    count = int(rng.integers(4, 8))
    height = between(rng, 0.45, 0.7)
    pitch = 1.0 / count
    strokes: Strokes = []
    if chance(rng, 0.55):
        wide = pitch * between(rng, 0.6, 0.95)
        for left in (np.arange(count) * pitch).tolist():
            strokes.append(line((left, height), (left, 0.13), (left + wide / 2, 0.0),
                                (left + wide, 0.13), (left + wide, height)))  # fmt: skip
    else:
        strokes += [line((x, 0.0), (x, height)) for x in jittered(rng, count + 2, 0.3).tolist()]
    for y in (0.32 * height, 0.75 * height) if chance(rng, 0.8) else (0.5 * height,):
        strokes.append(line((-0.03, y), (1.02, y)))
    return strokes


def door(rng: np.random.Generator) -> Strokes:
    """An upright box with a knob; panels or a second frame at times."""
    width = between(rng, 0.42, 0.58)
    strokes = [rectangle(0.0, 0.0, width, 1.0)]
    size = between(rng, 0.018, 0.04)
    strokes.append(ellipse(rng, (width * 0.84, between(rng, 0.48, 0.58)), size))
    kind = rng.random()
    if kind < 0.25:
        strokes += [rectangle(width * 0.2, y, width * 0.72, y + 0.3) for y in (0.1, 0.6)]
    elif kind < 0.4:
        strokes.append(
            line((-0.07, 1.0), (-0.07, -0.07), (width + 0.07, -0.07), (width + 0.07, 1.0))
        )
    elif kind < 0.5:
        strokes.append(rectangle(width * 0.25, 0.1, width * 0.75, 0.32))
    return mirrored(strokes, width / 2) if chance(rng, 0.3) else strokes


def hat(rng: np.random.Generator) -> Strokes:
    """A tall hat or a round one on a wide brim, with a ribbon at times."""
    brim, half = between(rng, 0.55, 0.7), between(rng, 0.2, 0.28)
    if chance(rng, 0.55):
        high = between(rng, 0.0, 0.25)
        crown = line(
            (0.5 - half, brim), (0.5 - half, high), (0.5 + half, high), (0.5 + half, brim)
        )
    else:
        crown = arc((0.5, brim), (half * 1.2, brim - 0.15), 180.0, 360.0, 20)
    flat = between(rng, 0.05, 0.11)
    below = (
        ellipse(rng, (0.5, brim + 0.02), 0.5, flat)
        if chance(rng, 0.5)
        else line((0.0, brim), (1.0, brim))
    )
    strokes = [crown, below]
    if chance(rng, 0.35):
        strokes.append(line((0.5 - half, brim - 0.13), (0.5 + half, brim - 0.13)))
    return strokes


def cup(rng: np.random.Generator) -> Strokes:
    """A bowl with a handle; its rim an ellipse, and steam, at times."""
    width, depth = between(rng, 0.5, 0.7), between(rng, 0.6, 0.8)
    inset, top = between(rng, 0.0, 0.12), 0.2
    low = top + depth
    if chance(rng, 0.5):
        bowl = line((0.0, top), (inset, low), (width - inset, low), (width, top))
    else:
        bowl = curve((0.0, top), (0.03, top + 0.6 * depth), (0.15, low), (width - 0.15, low),
                     (width - 0.03, top + 0.6 * depth), (width, top))  # fmt: skip
    if chance(rng, 0.5):
        strokes = [ellipse(rng, (width / 2, top), width / 2, 0.07), bowl]
    else:
        strokes = [np.concatenate((bowl, bowl[:1]))]
    reach = width + between(rng, 0.18, 0.28)
    grip = curve((width - 0.01, top + 0.14), (reach, top + 0.1), (reach, top + 0.4),
                 (width - 0.03, top + 0.46))  # fmt: skip
    strokes.append(grip)
    if chance(rng, 0.2):
        strokes += [
            curve((x, 0.1), (x + 0.05, 0.02), (x - 0.04, -0.07), (x + 0.01, -0.17))
            for x in (0.35 * width, 0.65 * width)
        ]
    return mirrored(strokes, width / 2) if chance(rng, 0.3) else strokes


def wine_glass(rng: np.random.Generator) -> Strokes:
    """A bowl on a thin stem and a foot, with wine in it at times."""
    half, deep = between(rng, 0.2, 0.28), between(rng, 0.4, 0.5)
    bowl = curve((0.5 - half, 0.0), (0.5 - half, 0.6 * deep), (0.5, deep),
                 (0.5 + half, 0.6 * deep), (0.5 + half, 0.0))  # fmt: skip
    if chance(rng, 0.6):
        strokes = [np.concatenate((bowl, bowl[:1]))]
    else:
        strokes = [bowl, ellipse(rng, (0.5, 0.0), half, 0.05)]
    foot = half * between(rng, 0.7, 1.0)
    strokes.append(line((0.5, deep), (0.5, 1.0)))
    if chance(rng, 0.4):
        strokes.append(ellipse(rng, (0.5, 1.0), foot, 0.05))
    else:
        strokes.append(line((0.5 - foot, 1.0), (0.5 + foot, 1.0)))
    if chance(rng, 0.3):
        level = deep * between(rng, 0.25, 0.45)
        strokes.append(curve((0.5 - half, level), (0.5, level + 0.03), (0.5 + half, level)))
    return strokes
