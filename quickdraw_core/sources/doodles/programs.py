"""The words that the generator can draw: one row a word, the most distinctive first.

In: a word. Out: the program that draws it, a function from a generator of random numbers to
strokes (float64 [points, 2], any unit, y down). The programs draw the whole object with few
strokes, as people do in twenty seconds; `hand.py` makes them look drawn.
"""

from collections.abc import Callable

import numpy as np

from quickdraw_core.errors import ConfigError, InputError, nearest
from quickdraw_core.labels import spaced
from quickdraw_core.sources.doodles import household, nature, shapes, things
from quickdraw_core.sources.doodles.geometry import Strokes

Program = Callable[[np.random.Generator], Strokes]

PROGRAMS: dict[str, Program] = {
    "sun": nature.sun,
    "house": things.house,
    "star": shapes.star,
    "fish": nature.fish,
    "ice cream": household.ice_cream,
    "envelope": things.envelope,
    "clock": things.clock,
    "ladder": things.ladder,
    "umbrella": things.umbrella,
    "eyeglasses": things.eyeglasses,
    "smiley face": things.smiley_face,
    "sailboat": things.sailboat,
    "snail": nature.snail,
    "stairs": household.stairs,
    "flower": nature.flower,
    "snowman": nature.snowman,
    "butterfly": nature.butterfly,
    "cloud": nature.cloud,
    "lightning": shapes.lightning,
    "wine glass": household.wine_glass,
    "tree": nature.tree,
    "key": things.key,
    "chair": things.chair,
    "table": things.table,
    "triangle": shapes.triangle,
    "circle": shapes.circle,
    "square": shapes.square,
    "line": shapes.line_,
    "zigzag": shapes.zigzag,
    "hourglass": household.hourglass,
    "bowtie": household.bowtie,
    "mushroom": nature.mushroom,
    "carrot": nature.carrot,
    "fence": household.fence,
    "moon": shapes.moon,
    "lollipop": household.lollipop,
    "hat": household.hat,
    "cup": household.cup,
    "mountain": nature.mountain,
    "door": household.door,
    "leaf": nature.leaf,
    "apple": nature.apple,
    "diamond": shapes.diamond,
    "hexagon": shapes.hexagon,
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
