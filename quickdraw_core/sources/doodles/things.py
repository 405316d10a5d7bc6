"""Doodles of what people build, sail, sit on and carry.

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
    parts,
    rectangle,
    rotated,
    spokes,
)


def house(rng: np.random.Generator) -> Strokes:
    """Walls and a gable; door, window and chimney at times."""
    eaves, over = between(rng, 0.38, 0.5), between(rng, -0.02, 0.12)
    if chance(rng, 0.25):
        strokes = [line((0.0, eaves), (0.0, 1.0), (1.0, 1.0), (1.0, eaves), (0.5, 0.0),
                        (0.0, eaves))]  # fmt: skip
    else:
        walls = rectangle(0.0, eaves, 1.0, 1.0)
        strokes = [walls if chance(rng, 0.6) else walls[[0, 3, 2, 1]]]
        roof = line((-over, eaves), (0.5, 0.0), (1.0 + over, eaves))
        strokes.append(np.concatenate((roof, roof[:1])) if chance(rng, 0.3) else roof)
    if chance(rng, 0.75):
        left = float(rng.choice([0.12, 0.4, 0.62]))
        top = between(rng, 0.62, 0.75)
        strokes.append(line((left, 1.0), (left, top), (left + 0.2, top), (left + 0.2, 1.0)))
    if chance(rng, 0.45):
        left = float(rng.choice([0.1, 0.66]))
        strokes.append(rectangle(left, 0.56, left + 0.22, 0.74))
        if chance(rng, 0.6):
            strokes += [line((left + 0.11, 0.56), (left + 0.11, 0.74)),
                        line((left, 0.65), (left + 0.22, 0.65))]  # fmt: skip
    if chance(rng, 0.3):
        slope = eaves / 0.5
        strokes.append(line((0.7, 0.2 * slope), (0.7, 0.0), (0.84, 0.0), (0.84, 0.34 * slope)))
    return strokes


def envelope(rng: np.random.Generator) -> Strokes:
    """A lying box with its flap."""
    height = between(rng, 0.5, 0.75)
    tip = height * between(rng, 0.4, 0.65)
    strokes = [rectangle(0.0, 0.0, 1.0, height), line((0.0, 0.0), (0.5, tip), (1.0, 0.0))]
    if chance(rng, 0.2):
        strokes += [
            line((0.0, height), (0.35, tip * 0.75)),
            line((1.0, height), (0.65, tip * 0.75)),
        ]
    if chance(rng, 0.1):
        strokes.append(ellipse(rng, (0.5, tip), 0.04))
    return strokes


def clock(rng: np.random.Generator) -> Strokes:
    """A round face with two hands; ticks or twelve strokes around at times."""
    strokes = [ellipse(rng, (0.5, 0.5), 0.5)]
    hour, minute = between(rng, 0.0, 360.0), float(rng.choice([-90.0, 0.0, 90.0, 150.0, 210.0]))
    hands = spokes((0.5, 0.5), 0.0, np.array([0.24, 0.38]), np.array([hour, minute]))
    joined = np.concatenate((hands[0][::-1], hands[1][1:]))
    strokes += [joined] if chance(rng, 0.4) else hands
    if chance(rng, 0.55):
        ticks = 12 if chance(rng, 0.4) else 4
        strokes += spokes((0.5, 0.5), 0.4, np.full(ticks, 0.47), np.arange(ticks) * 360.0 / ticks)
    return strokes


def ladder(rng: np.random.Generator) -> Strokes:
    """Two long rails and their rungs, upright or leaning."""
    width, lean = between(rng, 0.25, 0.42), between(rng, -0.06, 0.06)
    rungs = int(rng.integers(4, 9))
    strokes = [line((0.0, 0.0), (-lean, 1.0)), line((width, 0.0), (width + lean, 1.0))]
    past = between(rng, 0.0, 0.05) if chance(rng, 0.4) else 0.0
    heights = 0.06 + 0.92 * jittered(rng, rungs, 0.3)
    strokes += [
        line((-lean * y - past, y), (width + lean * y + past, y)) for y in heights.tolist()
    ]
    turn = between(rng, 10.0, 45.0) if chance(rng, 0.3) else 0.0
    return [rotated(stroke, turn, (0.2, 0.5)) for stroke in strokes]


def umbrella(rng: np.random.Generator) -> Strokes:
    """A dome, straight or scalloped below, on a stick with a hook."""
    height = between(rng, 0.35, 0.5)
    dome = arc((0.5, height), (0.5, height), 180.0, 360.0, 20)
    scallops = int(rng.choice([0, 3, 4, 5]))
    if scallops:
        x = np.linspace(1.0, 0.0, scallops * 6 + 1)
        y = height - 0.09 * np.abs(np.sin(np.pi * scallops * x))
        below = np.column_stack((x, y))
    else:
        below = line((1.0, height), (0.0, height))
    side = 1.0 if chance(rng, 0.5) else -1.0
    top = 0.02 if chance(rng, 0.25) else height
    stick = curve((0.5, top), (0.5, 0.9), (0.5 + side * 0.04, 1.0), (0.5 + side * 0.12, 1.0),
                  (0.5 + side * 0.15, 0.9))  # fmt: skip
    strokes = [np.concatenate((dome, below)), stick]
    if scallops > 2 and chance(rng, 0.35):
        strokes += [curve((0.5, 0.0), (0.34, 0.15), (0.3, height - 0.05)),
                    curve((0.5, 0.0), (0.66, 0.15), (0.7, height - 0.05))]  # fmt: skip
    return strokes


def sailboat(rng: np.random.Generator) -> Strokes:
    """A hull, a mast, one sail or two; waves at times."""
    inset, foot = between(rng, 0.1, 0.22), between(rng, 0.55, 0.62)
    if chance(rng, 0.65):
        hull = closed((0.0, 0.68), (1.0, 0.68), (1.0 - inset, 0.92), (inset, 0.92))
    else:
        hull = np.concatenate((arc((0.5, 0.68), (0.5, 0.28), 0.0, 180.0), line((1.0, 0.68))))
    strokes = [hull, line((0.48, 0.68), (0.48, 0.0))]
    wide = between(rng, 0.3, 0.42)
    strokes.append(closed((0.5, 0.02), (0.5 + wide, foot), (0.5, foot)))
    if chance(rng, 0.4):
        strokes.append(closed((0.46, 0.1), (0.46 - 0.3, foot), (0.46, foot)))
    if chance(rng, 0.2):
        x = np.linspace(-0.1, 1.1, 40)
        strokes.append(np.column_stack((x, 1.0 + 0.03 * np.sin(24.0 * x))))
    return mirrored(strokes) if chance(rng, 0.5) else strokes


def eyeglasses(rng: np.random.Generator) -> Strokes:
    """Two lenses, a bridge, and temples at times."""
    size, tall = between(rng, 0.16, 0.21), between(rng, 0.12, 0.19)
    if chance(rng, 0.2):
        lens = rectangle(0.24 - size, 0.3 - tall, 0.24 + size, 0.3 + tall)
        lenses = [lens, *mirrored([lens])]
    else:
        lenses = [ellipse(rng, (x, 0.3), size, tall) for x in (0.24, 0.76)]
    bridge = curve((0.24 + size, 0.28), (0.5, 0.28 - between(rng, 0.0, 0.07)), (0.76 - size, 0.28))
    strokes = [lenses[0], bridge, lenses[1]]
    if chance(rng, 0.7):
        up = between(rng, 0.0, 0.3)
        temple = curve((0.24 - size, 0.28), (0.0, 0.27 - up * 0.8), (-0.02, 0.26 - up))
        strokes += [temple, *mirrored([temple])]
    return strokes


def smiley_face(rng: np.random.Generator) -> Strokes:
    """A round face, two eyes, a smile."""
    spread, high = between(rng, 0.15, 0.22), between(rng, 0.3, 0.4)
    strokes = [ellipse(rng, (0.5, 0.5), 0.5)]
    if chance(rng, 0.5):
        length = between(rng, 0.04, 0.14)
        strokes += [line((x, high - length), (x, high)) for x in (0.5 - spread, 0.5 + spread)]
    else:
        size = between(rng, 0.02, 0.06)
        strokes += [ellipse(rng, (x, high), size) for x in (0.5 - spread, 0.5 + spread)]
    wide, deep = between(rng, 0.22, 0.34), between(rng, 0.15, 0.3)
    smile = arc((0.5, between(rng, 0.55, 0.62)), (wide, deep), 8.0, 172.0, 16)
    if chance(rng, 0.15):
        smile = np.concatenate((smile, smile[:1]))
    strokes.append(smile)
    return strokes


def chair(rng: np.random.Generator) -> Strokes:
    """From the side, back, seat and legs; or seen from the front with four legs."""
    seat = between(rng, 0.5, 0.62)
    if chance(rng, 0.6):
        width = between(rng, 0.4, 0.55)
        back = line((0.0, 0.0), (0.0, 1.0))
        front = line((0.0, seat), (width, seat), (width, 1.0))
        strokes = [back, front] if chance(rng, 0.6) else [back, *parts(front)]
        if chance(rng, 0.25):
            strokes.append(line((width * 0.85, seat), (width * 0.85, 0.9)))
    else:
        depth = between(rng, 0.1, 0.18)
        strokes = [
            closed((0.0, seat), (0.12, seat - depth), (0.6, seat - depth), (0.5, seat)),
            line((0.12, seat - depth), (0.12, 0.0), (0.6, 0.0), (0.6, seat - depth)),
            *(line((x, seat), (x, 1.0)) for x in (0.0, 0.5)),
            line((0.6, seat - depth), (0.6, 0.88)),
        ]
        if chance(rng, 0.5):
            strokes.append(line((0.14, seat - depth), (0.14, 0.88)))
    return mirrored(strokes, 0.3) if chance(rng, 0.5) else strokes


def table(rng: np.random.Generator) -> Strokes:
    """A wide top on two or four legs."""
    height = between(rng, 0.45, 0.65)
    if chance(rng, 0.4):
        thick = between(rng, 0.05, 0.12)
        strokes = [rectangle(0.0, 0.0, 1.0, thick)]
        strokes += [line((x, thick), (x, height)) for x in (0.08, 0.92)]
    elif chance(rng, 0.6):
        depth, inset = between(rng, 0.14, 0.24), between(rng, 0.12, 0.2)
        strokes = [closed((inset, 0.0), (1.0, 0.0), (1.0 - inset, depth), (0.0, depth))]
        strokes += [line((x, depth), (x, height)) for x in (0.03, 1.0 - inset)]
        strokes.append(line((0.98, 0.03), (0.98, height - depth)))
        if chance(rng, 0.5):
            strokes.append(line((inset, depth), (inset, height - depth)))
    else:
        strokes = [line((0.0, 0.0), (1.0, 0.0))]
        strokes += [line((x, 0.0), (x, height)) for x in (0.1, 0.9)]
    return strokes


def key(rng: np.random.Generator) -> Strokes:
    """A ring, a shaft, a bit of two or three teeth; lying or standing."""
    radius = between(rng, 0.13, 0.19)
    strokes = [ellipse(rng, (radius, 0.2), radius)]
    teeth = int(rng.integers(2, 4))
    depth = between(rng, 0.08, 0.15)
    if chance(rng, 0.4):
        strokes.append(line((2 * radius, 0.2), (1.0, 0.2)))
        strokes += [line((1.0 - 0.11 * i, 0.2), (1.0 - 0.11 * i, 0.2 + depth))
                    for i in range(teeth)]  # fmt: skip
    else:
        x = np.repeat(np.linspace(0.95, 0.95 - 0.13 * teeth, 2 * teeth), 2)[1:]
        y = 0.25 + depth * ((np.arange(len(x)) // 2 + 1) % 2)
        bit = np.column_stack((x, np.append(y[:-1], 0.25)))
        shaft = line((2 * radius, 0.15), (0.95, 0.15))
        strokes.append(np.concatenate((shaft, bit, line((2 * radius, 0.25)))))
    if chance(rng, 0.45):
        strokes.append(ellipse(rng, (radius * 0.8, 0.2), radius * 0.4))
    turn = float(rng.choice([0.0, 0.0, 90.0, 180.0, -45.0, 45.0]))
    return [rotated(stroke, turn, (0.5, 0.2)) for stroke in strokes]
