"""The body of a request → a drawing to guess, or `Refused` with a sentence.

Everything is checked here, before a drawing joins a batch: what is in a batch can be computed.
"""

from typing import Any, NamedTuple

import orjson

from quickdraw_core.formats.rows import RowError, shown
from quickdraw_core.formats.strokes import Packed, pack_raw_strokes, pack_strokes
from quickdraw_core.serving.web.answers import Refused
from quickdraw_core.serving.web.config import MAX_GUESSES, Limits

_KEYS = {"drawing", "simplified", "guesses", "show_images"}
_EXAMPLE = '{"drawing": [[[0, 255], [10, 20]]]}'


class Asked(NamedTuple):
    """A request: the strokes as JSON has them, checked in form but not in values.

    simplified: whether the coordinates are to be taken as they are; None: decided by them.
    guesses: how many words to answer with.
    """

    strokes: list[list[list[Any]]]
    simplified: bool | None
    guesses: int
    show_images: bool


class Asking(NamedTuple):
    """A drawing to guess: packed as in the store, of 0..255, and what the answer is to hold."""

    packed: Packed
    guesses: int
    show_images: bool


def read_request(body: bytes, limits: Limits) -> Asked:
    """Reads and checks the JSON of `POST /api/guess`. Raises `Refused`."""
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(
            400, f"the body is not JSON: {error}; send an object such as {_EXAMPLE}"
        ) from error
    if not isinstance(values, dict):
        raise Refused(422, f"the body is no object, {shown(values)}; send {_EXAMPLE}")
    if unknown := values.keys() - _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise Refused(422, f"unknown key, {shown(min(unknown))}; known: {known}")
    if "drawing" not in values:
        raise Refused(422, f"the body has no drawing; send {_EXAMPLE}")
    return Asked(
        _checked_strokes(values["drawing"], limits),
        _checked_flag(values.get("simplified"), "simplified", None),
        _checked_guesses(values.get("guesses", 3)),
        bool(_checked_flag(values.get("show_images", False), "show_images", False)),
    )


def _checked_flag(value: object, name: str, default: bool | None) -> bool | None:
    if value is default or isinstance(value, bool):
        return value
    raise Refused(422, f"{name} is not true or false, {shown(value)}")


def _checked_guesses(value: object) -> int:
    # 3.0 is the same number as 3 to JSON and its schemas
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= MAX_GUESSES:
        raise Refused(422, f"guesses is not an integer 1..{MAX_GUESSES}, {shown(value)}")
    return value


def _checked_strokes(drawing: object, limits: Limits) -> list[list[list[Any]]]:
    """The strokes of a drawing: lists of x and y, perhaps t, of as many each."""
    if not isinstance(drawing, list) or not drawing:
        raise Refused(422, f"drawing is no list of strokes, {shown(drawing)}; send {_EXAMPLE}")
    if len(drawing) > limits.strokes:
        raise Refused(
            422, f"the drawing has {len(drawing):,} strokes; at most {limits.strokes:,} are taken"
        )
    points = 0
    for number, stroke in enumerate(drawing, 1):
        if (
            not isinstance(stroke, list)
            or len(stroke) not in (2, 3)
            or not all(isinstance(axis, list) for axis in stroke)
        ):
            raise Refused(
                422, f"stroke {number} is not two lists, x and y, or three with t, {shown(stroke)}"
            )
        lengths = {len(axis) for axis in stroke}
        if len(lengths) > 1:
            found = " and ".join(str(len(axis)) for axis in stroke)
            raise Refused(
                422, f"the lists of stroke {number} differ in length, found {found} values"
            )
        if not stroke[0]:
            raise Refused(422, f"stroke {number} has no point; leave it out")
        points += len(stroke[0])
    if points > limits.points:
        raise Refused(
            422, f"the drawing has {points:,} points; at most {limits.points:,} are taken"
        )
    return drawing


def packed_as_is(asked: Asked) -> Packed | None:
    """The drawing without simplification; None if it is to be simplified. Raises `Refused`."""
    if asked.simplified is False:
        return None
    if asked.simplified is None and any(len(stroke) == 3 for stroke in asked.strokes):
        return None
    try:
        return pack_strokes(asked.strokes)
    except RowError as error:
        if asked.simplified is None:
            return None
        raise Refused(
            422,
            f"{error}, {error.found}; a simplified drawing has x and y, integers 0..255: send "
            '"simplified": false to have it simplified here',
        ) from error


def packed_simplified(strokes: list[list[list[Any]]]) -> Packed:
    """The drawing simplified as the ingest does it; times are dropped. Raises `Refused`.

    It takes up to 0.2 seconds for a drawing made to be slow, without the interpreter's lock.
    """
    with_times = [s if len(s) == 3 else [*s, [0] * len(s[0])] for s in strokes]
    try:
        return pack_raw_strokes(with_times)
    except RowError as error:
        raise Refused(422, f"{error}, {error.found}") from error
