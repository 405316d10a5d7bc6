"""Doodles of what grows, flies, shines or crawls.

In: a generator of random numbers, which chooses the variant and the proportions. Out: strokes
as `geometry.py` has them, in the order in which most people draw them.
"""

from itertools import pairwise

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
    rotated,
    scalloped,
    spiral,
    spokes,
)


def sun(rng: np.random.Generator) -> Strokes:
    """A circle with rays around it, with a face at times; or a circle with a spiky rim."""
    disc = between(rng, 0.2, 0.32)
    if chance(rng, 0.1):
        spikes = int(rng.integers(8, 14))
        angle = np.radians(360.0 * jittered(rng, 2 * spikes, 0.4))
        reach = np.where(np.arange(2 * spikes) % 2, 0.5, disc * 1.15)
        rim = 0.5 + np.column_stack((reach * np.cos(angle), reach * np.sin(angle)))
        return [ellipse(rng, (0.5, 0.5), disc), np.concatenate((rim, rim[:1]))]
    rays = int(rng.integers(6, 14))
    angles = 360.0 * jittered(rng, rays, 0.5) - between(rng, 0.0, 120.0)
    reach = disc * between(rng, 1.6, 2.3) * (1.0 + 0.3 * (rng.random(rays) - 0.5))
    strokes = [ellipse(rng, (0.5, 0.5), disc)]
    strokes += spokes((0.5, 0.5), disc * between(rng, 1.0, 1.3), reach, angles)
    if chance(rng, 0.15):
        eye = disc * 0.35
        strokes += [
            line((0.5 - eye, 0.44), (0.5 - eye, 0.48)),
            line((0.5 + eye, 0.44), (0.5 + eye, 0.48)),
            arc((0.5, 0.5), (disc * 0.55, disc * 0.55), 20.0, 160.0, 12),
        ]
    return strokes


def cloud(rng: np.random.Generator) -> Strokes:
    """A bumpy outline that lies on its side, with a flat bottom at times."""
    if chance(rng, 0.25):
        bumps = int(rng.integers(3, 6))
        x = np.append(jittered(rng, bumps, 0.4) + 0.08, 1.0)
        x[0] = 0.0
        tops = [
            arc(((a + b) / 2, 0.4 - 0.3 * min(a, 1 - b)), ((b - a) / 1.8, 0.22), 180.0, 360.0, 10)
            for a, b in pairwise(x.tolist())
        ]
        return [np.concatenate((*tops, line((1.0, 0.55), (0.0, 0.55)), tops[0][:1]))]
    size = (0.5, between(rng, 0.2, 0.32))
    return [scalloped(rng, (0.5, 0.4), size, int(rng.integers(6, 11)), between(rng, 0.18, 0.32))]


def tree(rng: np.random.Generator) -> Strokes:
    """A bumpy crown on a trunk, or a fir: stacked triangles."""
    half = between(rng, 0.05, 0.1)
    if chance(rng, 0.25):
        tiers = int(rng.integers(1, 4))
        tops = np.linspace(0.0, 0.4, tiers) if tiers > 1 else np.zeros(1)
        strokes = []
        for tier, top in enumerate(tops.tolist()):
            width = 0.2 + 0.08 * tier if tiers > 1 else 0.3
            low = top + (0.35 if tiers > 1 else 0.75)
            strokes.append(closed((0.5, top), (0.5 + width, low), (0.5 - width, low)))
        return [*strokes, line((0.5 - half, 0.76), (0.5 - half, 1.0), (0.5 + half, 1.0),
                               (0.5 + half, 0.76))]  # fmt: skip
    size = (between(rng, 0.28, 0.4), between(rng, 0.22, 0.32))
    crown = scalloped(rng, (0.5, 0.3), size, int(rng.integers(6, 11)), between(rng, 0.1, 0.25))
    top, foot = 0.3 + 0.85 * size[1], half * between(rng, 1.0, 1.8)
    left = curve((0.5 - half, top), (0.5 - half, 0.8), (0.5 - foot, 1.1))
    right = curve((0.5 + half, top), (0.5 + half, 0.8), (0.5 + foot, 1.1))
    if chance(rng, 0.4):
        return [crown, np.concatenate((left, right[::-1]))]
    return [crown, left, right]


def flower(rng: np.random.Generator) -> Strokes:
    """A heart with petals around it, mostly on a stem, with a leaf at times."""
    petals = int(rng.integers(5, 9))
    core = between(rng, 0.08, 0.12)
    strokes = [ellipse(rng, (0.5, 0.3), core)]
    if chance(rng, 0.5):
        size = (core * 1.3, core * 1.3)
        strokes.append(scalloped(rng, (0.5, 0.3), size, petals, between(rng, 0.8, 1.3)))
    else:
        length, width = between(rng, 0.07, 0.1), 1.9 * core / petals + 0.03
        petal = arc((0.5 + core + length, 0.3), (length, width), 180.0, 530.0, 14)
        strokes += [rotated(petal, 360.0 * t, (0.5, 0.3)) for t in jittered(rng, petals, 0.3)]
    if chance(rng, 0.88):
        sway, low = between(rng, -0.06, 0.06), between(rng, 0.9, 1.1)
        strokes.append(curve((0.5, 0.52), (0.5 + sway, 0.75), (0.5, low)))
        leaf = curve((0.5, 0.85), (0.62, 0.7), (0.74, 0.68), (0.66, 0.8), (0.5, 0.85))
        sides = rng.random(2) < 0.35
        strokes += [leaf] * int(sides[0]) + mirrored([leaf]) * int(sides[1])
    return strokes


def mushroom(rng: np.random.Generator) -> Strokes:
    """A domed cap on a stalk, with dots at times."""
    height, half = between(rng, 0.35, 0.6), between(rng, 0.09, 0.17)
    cap = arc((0.5, height), (0.5, height), 180.0, 360.0, 20)
    below = curve((1.0, height), (0.5, height + between(rng, -0.04, 0.12)), (0.0, height))
    foot = half * between(rng, 0.9, 1.5)
    stalk = curve((0.5 - half, height), (0.5 - half, 0.8), (0.5 - foot, 1.0), (0.5 + foot, 1.0),
                  (0.5 + half, 0.8), (0.5 + half, height))  # fmt: skip
    strokes = [np.concatenate((cap, below)), stalk]
    if chance(rng, 0.35):
        spots = ((0.3, 0.6), (0.52, 0.35), (0.72, 0.65))
        size = between(rng, 0.035, 0.06)
        strokes += [ellipse(rng, (x, y * height), size) for x, y in spots]
    return strokes


def carrot(rng: np.random.Generator) -> Strokes:
    """A long cone, leaves on its head and some short lines across, oblique more often than not."""
    half = between(rng, 0.12, 0.2)
    strokes = [
        curve((0.5, 1.0), (0.5 - half * 0.6, 0.6), (0.5 - half, 0.3), (0.5, 0.22),
              (0.5 + half, 0.3), (0.5 + half * 0.6, 0.6), (0.5, 1.0))
    ]  # fmt: skip
    strokes += [
        curve((0.5, 0.23), (0.5 + 0.4 * lean, 0.1), (0.5 + lean, 0.0))
        for lean in np.linspace(-0.15, 0.15, int(rng.integers(2, 5))).tolist()
    ]
    for y in np.linspace(0.35, 0.8, int(rng.integers(0, 5))).tolist():
        reach = half * (1.05 - y)
        side = 1.0 if chance(rng, 0.5) else -1.0
        strokes.append(line((0.5 - side * 1.1 * reach, y), (0.5 + side * 0.3 * reach, y + 0.01)))
    turn = (0.0, between(rng, 25.0, 60.0), between(rng, -60.0, -25.0))[int(rng.integers(3))]
    return [rotated(stroke, turn, (0.5, 0.5)) for stroke in strokes]


def mountain(rng: np.random.Generator) -> Strokes:
    """One to three peaks on one stroke, or one behind the other; snow on top at times."""
    peaks = int(rng.choice([1, 2, 2, 3]))
    tops = between(rng, 0.0, 0.1) + 0.18 * rng.random(peaks)
    corners = [(0.0, 0.75)]
    for i, top in enumerate(tops.tolist()):
        if i:
            corners.append((i / peaks, between(rng, 0.35, 0.55)))
        corners.append(((i + 0.5) / peaks, top))
    corners.append((1.0, 0.75))
    strokes = [curve(*corners, steps=5) if chance(rng, 0.2) else line(*corners)]
    if chance(rng, 0.35):
        (x, y), drop = corners[1], 0.2
        side = 0.5 / peaks * drop / (0.75 - y)
        strokes.append(line((x - side, y + drop), (x - side / 2, y + 0.15), (x, y + drop),
                            (x + side / 2, y + 0.15), (x + side, y + drop)))  # fmt: skip
    if chance(rng, 0.15):
        strokes.append(line((0.0, 0.76), (1.0, 0.76)))
    return strokes


def snail(rng: np.random.Generator) -> Strokes:
    """A spiral house on a long foot, with a head and two feelers."""
    turns = between(rng, 1.8, 3.2)
    shell = spiral((0.42, 0.36), between(rng, 0.27, 0.34), turns, 90.0 - 360.0 * turns)
    body = curve((0.0, 0.72), (0.2, 0.66), (0.5, 0.68), (0.75, 0.66), (0.84, 0.4), (0.93, 0.32),
                 (1.0, 0.42), (0.93, 0.62), (0.8, 0.8))  # fmt: skip
    strokes = [shell, body]
    if chance(rng, 0.7):
        strokes.append(curve((0.8, 0.8), (0.4, 0.82), (0.0, 0.72)))
    if chance(rng, 0.8):
        strokes += [line((0.91, 0.34), (0.86, 0.16)), line((0.95, 0.34), (1.0, 0.15))]
    return mirrored(strokes) if chance(rng, 0.5) else strokes


def fish(rng: np.random.Generator) -> Strokes:
    """A body and a tail in one loop or in two strokes, an eye, looking left or right."""
    fat = between(rng, 0.18, 0.3)
    if chance(rng, 0.55):
        strokes = [
            curve((1.0, 0.5 - 0.8 * fat), (0.74, 0.5), (0.4, 0.5 + fat), (0.12, 0.5 + 0.6 * fat),
                  (0.0, 0.5), (0.12, 0.5 - 0.6 * fat), (0.4, 0.5 - fat), (0.74, 0.5),
                  (1.0, 0.5 + 0.8 * fat))
        ]  # fmt: skip
        tail = curve((1.0, 0.5 - 0.8 * fat), (0.95, 0.5), (1.0, 0.5 + 0.8 * fat))
        strokes.append(tail)
    else:
        tail = line((0.74, 0.48), (1.0, 0.5 - fat), (1.0, 0.5 + fat), (0.74, 0.52))
        strokes = [ellipse(rng, (0.38, 0.5), 0.38, fat), tail]
    if chance(rng, 0.7):
        strokes.append(ellipse(rng, (0.16, 0.5 - 0.25 * fat), between(rng, 0.012, 0.035)))
    if chance(rng, 0.3):
        strokes.append(curve((0.03, 0.5 + 0.3 * fat), (0.1, 0.5 + 0.4 * fat), (0.17, 0.53)))
    if chance(rng, 0.25):
        strokes.append(curve((0.3, 0.5 - fat), (0.42, 0.42 - fat), (0.5, 0.5 - 0.9 * fat)))
    return mirrored(strokes) if chance(rng, 0.45) else strokes


def butterfly(rng: np.random.Generator) -> Strokes:
    """A thin body, two wings a side, two feelers."""
    wide, low = between(rng, 0.4, 0.52), between(rng, 0.3, 0.4)
    body = (
        ellipse(rng, (0.5, 0.52), 0.04, 0.3) if chance(rng, 0.6) else line((0.5, 0.2), (0.5, 0.85))
    )
    upper = curve((0.53, 0.48), (0.62, 0.2), (0.4 + wide, 0.08), (0.5 + wide, 0.25), (0.8, 0.45),
                  (0.53, 0.52))  # fmt: skip
    lower = curve((0.53, 0.54), (0.75, 0.52), (0.5 + low, 0.7), (0.42 + low, 0.92), (0.66, 0.85),
                  (0.53, 0.62))  # fmt: skip
    wings = [np.concatenate((upper, lower))] if chance(rng, 0.5) else [upper, lower]
    strokes = [body, *wings, *mirrored(wings)]
    if chance(rng, 0.8):
        feeler = curve((0.51, 0.22), (0.55, 0.08), (0.63, 0.02))
        strokes += [feeler, *mirrored([feeler])]
    return strokes


def snowman(rng: np.random.Generator) -> Strokes:
    """Two or three balls on each other; eyes, arms, buttons or a hat at times."""
    balls = 3 if chance(rng, 0.7) else 2
    sizes = (0.13, 0.18, 0.24) if balls == 3 else (0.18, 0.3)
    strokes, top, centers = [], 0.2, []
    for size in sizes:
        radius = size * between(rng, 0.9, 1.1)
        strokes.append(ellipse(rng, (0.5, top + radius), radius * between(rng, 1.0, 1.2), radius))
        centers.append(top + radius)
        top += 2.0 * radius
    head, chest = centers[0], centers[1]
    if chance(rng, 0.55):
        strokes += [ellipse(rng, (x, head - 0.03), 0.012) for x in (0.45, 0.55)]
    if chance(rng, 0.5):
        arm = line((0.5 + sizes[1], chest), (0.95, chest - between(rng, 0.0, 0.2)))
        strokes += [arm, *mirrored([arm])]
    if chance(rng, 0.3):
        strokes += [ellipse(rng, (0.5, chest + dy), 0.015) for dy in (-0.07, 0.0, 0.07)]
    if chance(rng, 0.3):
        brim = 0.23
        strokes += [line((0.32, brim), (0.68, brim)),
                    line((0.4, brim), (0.4, 0.03), (0.6, 0.03), (0.6, brim))]  # fmt: skip
    return strokes


def leaf(rng: np.random.Generator) -> Strokes:
    """A pointed outline, the rib in its middle with a stem, and veins at times; oblique."""
    half = between(rng, 0.2, 0.32)
    strokes = [
        curve((0.5, 0.8), (0.5 - half, 0.6), (0.5 - 0.8 * half, 0.3), (0.5, 0.0),
              (0.5 + 0.8 * half, 0.3), (0.5 + half, 0.6), (0.5, 0.8)),
        line((0.5, between(rng, 0.05, 0.3)), (0.5, between(rng, 0.95, 1.1))),
    ]  # fmt: skip
    if chance(rng, 0.65):
        for y in np.linspace(0.28, 0.65, int(rng.integers(2, 5))).tolist():
            vein = line((0.5, y + 0.08), (0.5 + 0.7 * half, y - 0.06))
            strokes += [vein, *mirrored([vein])]
    turn = between(rng, -60.0, 60.0)
    return [rotated(stroke, turn, (0.5, 0.5)) for stroke in strokes]


def apple(rng: np.random.Generator) -> Strokes:
    """A round outline with a dent, a stem, and a leaf at times."""
    wide = between(rng, 0.42, 0.5)
    half = curve((0.5, 0.25), (0.5 + 0.6 * wide, 0.17), (0.5 + wide, 0.45),
                 (0.5 + 0.7 * wide, 0.85), (0.58, 0.98), (0.5, 0.94))  # fmt: skip
    body = np.concatenate((half, mirrored([half])[0][::-1]))
    strokes = [body, curve((0.5, 0.27), (0.51, 0.12), (0.56, 0.0))]
    if chance(rng, 0.6):
        strokes.append(curve((0.52, 0.14), (0.62, 0.02), (0.78, 0.03), (0.68, 0.14), (0.52, 0.14)))
    return strokes
