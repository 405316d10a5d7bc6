"""The words that the generator can draw: one row a word, the most distinctive first.

In: a word. Out: the program that draws it, a function from a generator of random numbers to
strokes (float64 [points, 2], any unit, y down). The programs draw the whole object with few
strokes, as people do in twenty seconds; `hand.py` makes them look drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quickdraw_core.errors import ConfigError, InputError, nearest
from quickdraw_core.labels import spaced
from quickdraw_core.sources.doodles import household, nature, shapes, things
from quickdraw_core.sources.doodles.geometry import Strokes


@dataclass(frozen=True)
class Program:
    """How to draw one word, and what comes out."""

    draw: Callable[[np.random.Generator], Strokes]
    description: str


PROGRAMS: dict[str, Program] = {
    "sun": Program(nature.sun, "a circle with rays, with or without a face, or a spiky rim"),
    "house": Program(things.house, "walls and gable; door, window, chimney"),
    "star": Program(shapes.star, "five points, drawn through or as an outline"),
    "fish": Program(nature.fish, "one loop or body and tail, looking left or right"),
    "ice cream": Program(household.ice_cream, "a cone with one to three scoops"),
    "envelope": Program(things.envelope, "a lying box with a flap"),
    "clock": Program(things.clock, "a round face, two hands, ticks or none"),
    "ladder": Program(things.ladder, "two rails and rungs, upright or leaning"),
    "umbrella": Program(things.umbrella, "a dome on a hooked stick"),
    "eyeglasses": Program(things.eyeglasses, "two lenses, a bridge, temples"),
    "smiley face": Program(things.smiley_face, "a round face with eyes and a smile"),
    "sailboat": Program(things.sailboat, "a hull, a mast, one sail or two"),
    "snail": Program(nature.snail, "a spiral house on a foot, with feelers"),
    "stairs": Program(household.stairs, "steps on one stroke, up or down"),
    "flower": Program(nature.flower, "petals around a heart, a stem, leaves"),
    "snowman": Program(nature.snowman, "two or three balls; hat, arms, buttons"),
    "butterfly": Program(nature.butterfly, "a thin body, four wings, feelers"),
    "cloud": Program(nature.cloud, "a bumpy outline, round or with a flat bottom"),
    "lightning": Program(shapes.lightning, "a bolt, as an outline or one stroke"),
    "wine glass": Program(household.wine_glass, "a bowl on a stem and a foot"),
    "tree": Program(nature.tree, "a bumpy crown on a trunk, or a fir"),
    "key": Program(things.key, "a ring, a shaft and teeth, lying or standing"),
    "chair": Program(things.chair, "back, seat and legs, from the side or the front"),
    "table": Program(things.table, "a wide top on two or four legs"),
    "triangle": Program(shapes.triangle, "three sides, even or with a right angle"),
    "circle": Program(shapes.circle, "one round stroke"),
    "square": Program(shapes.square, "four equal sides in one, two or four strokes"),
    "line": Program(shapes.line_, "one straight stroke, lying, standing or oblique"),
    "zigzag": Program(shapes.zigzag, "one stroke with four to nine bends"),
    "hourglass": Program(household.hourglass, "two triangles tip to tip, or two bulbs"),
    "bowtie": Program(household.bowtie, "two wings about a knot, or one crossing stroke"),
    "mushroom": Program(nature.mushroom, "a domed cap on a stalk"),
    "carrot": Program(nature.carrot, "a long cone with leaves"),
    "fence": Program(household.fence, "pickets and rails"),
    "moon": Program(shapes.moon, "a crescent, or a full moon with craters"),
    "lollipop": Program(household.lollipop, "a round sweet on a thin stick"),
    "hat": Program(household.hat, "a tall or a round crown on a brim"),
    "cup": Program(household.cup, "a bowl with a handle"),
    "mountain": Program(nature.mountain, "one to three peaks, with or without snow"),
    "door": Program(household.door, "an upright box with a knob"),
    "leaf": Program(nature.leaf, "a pointed outline with a rib and veins"),
    "apple": Program(nature.apple, "a round outline with a dent, a stem, a leaf"),
    "diamond": Program(shapes.diamond, "a rhombus on its corner, or a cut stone"),
    "hexagon": Program(shapes.hexagon, "six equal sides"),
}


def default_words(n: int) -> list[str]:
    """The first `n` words of the table, the most distinctive first.

    Raises `ConfigError` if `n` is below 1 or above the length of the table.
    """
    if not 1 <= n <= len(PROGRAMS):
        raise ConfigError(
            f"the doodle generator draws 1 to {len(PROGRAMS)} words, found {n}; "
            f"ask for a number in that range"
        )
    return list(PROGRAMS)[:n]


def program_of(word: str) -> Program:
    """The program of `word` (spaces or underscores); raises `InputError` if there is none."""
    try:
        return PROGRAMS[spaced(word)]
    except KeyError:
        raise InputError(
            f"the doodle generator cannot draw {word!r}; {nearest(spaced(word), PROGRAMS)}"
        ) from None
