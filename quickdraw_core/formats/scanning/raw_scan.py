"""The compiled reader of raw drawings: from `[[[x, …], [y, …], [t, …]], …]` to simplified columns.

Numbers are read exactly, as the float64 nearest to the text. If that takes more than a few
machine operations (over 18 digits, over 19 of them behind the point), the line is left to the
tolerant reader. So is a drawing that cannot be simplified, which the tolerant reader refuses.

Why nothing is read past the block: see `field_scan`. What is written is checked against its room.
"""

from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import Float64Array, Int64Array, UInt8Array
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.drawing_scan import CLOSE, OPEN, scan_separator
from quickdraw_core.formats.scanning.field_scan import (
    COMMA,
    FAILED,
    SPACE,
    START,
    scan_digit,
    signed,
    unsigned,
)
from quickdraw_core.formats.scanning.simplification import (
    MAX_POINTS,
    MAX_STROKE_SAMPLES,
    Scratch,
    fit,
    make_scratch,
    simplify_strokes,
)
from quickdraw_core.system.compiled import compiled

_ZERO = ord("0")
_MINUS = ord("-")
_PLUS = ord("+")
_POINT = ord(".")
_EXPONENT = ord("e")
_TO_LOWER_CASE = 32

_POWERS = np.array([float(10**k) for k in range(23)])
"""10**k, as far as a float64 holds it exactly."""
_MAX_DIVISOR = 19
_MAX_EXACT = 1 << 53
_MAX_BEFORE_DIGIT = unsigned(10**17)
_SPLITTER = float((1 << 27) + 1)


class RawRoom(NamedTuple):
    """Room for one raw drawing at a time.

    x, y: float64 [`MAX_POINTS`]; stroke_lengths: int64 [`MAX_POINTS`]; scratch: for a stroke.
    """

    x: Float64Array
    y: Float64Array
    stroke_lengths: Int64Array
    scratch: Scratch


@compiled(allocates=True)
def make_raw_room() -> RawRoom:
    """Room for any drawing. Pages that none of them fills cost no memory."""
    return RawRoom(
        np.empty(MAX_POINTS),
        np.empty(MAX_POINTS),
        np.empty(MAX_POINTS, np.int64),
        make_scratch(MAX_STROKE_SAMPLES),
    )


@compiled()
def scan_raw_drawing(
    block: UInt8Array, i: int, room: RawRoom, columns: Columns, point: int, stroke: int
) -> tuple[int, int, int]:
    """A raw drawing, simplified into `columns` from `point` and `stroke` on: (where it ends,
    points then, strokes then).
    """
    end, points, strokes = _scan_strokes(block, i, room)
    if end < 0 or fit(room.x[:points], room.y[:points]) < 0:
        return FAILED, point, stroke
    point, stroke = simplify_strokes(
        room.x,
        room.y,
        room.stroke_lengths[:strokes],
        room.scratch,
        columns.x,
        columns.y,
        columns.stroke_lengths,
        point,
        stroke,
    )
    return (end if point >= 0 else FAILED), point, stroke


@compiled()
def _scan_strokes(block: UInt8Array, i: int, room: RawRoom) -> tuple[int, int, int]:
    """The strokes of a raw drawing, into `room`: (where they end, points, strokes)."""
    points = strokes = START
    if block[i] != OPEN:
        return FAILED, points, strokes
    i += 1
    while True:
        if block[i] != OPEN or block[i + 1] != OPEN:
            return FAILED, points, strokes
        i, end = _scan_numbers(block, i + 2, room.x, points, len(room.x))
        i = _scan_opening(block, i)
        if i < 0:
            return FAILED, points, strokes
        i, y_end = _scan_numbers(block, i, room.y, points, end)
        i = _scan_opening(block, i)
        if i < 0 or y_end != end:
            return FAILED, points, strokes
        i, times = _pass_numbers(block, i)
        if i < 0 or times != end - points or block[i] != CLOSE:
            return FAILED, points, strokes
        room.stroke_lengths[strokes] = end - points
        strokes += 1
        points = end
        i += 1
        if block[i] == CLOSE:
            return i + 1, points, strokes
        i = scan_separator(block, i)
        if i < 0:
            return FAILED, points, strokes


@compiled()
def _scan_opening(block: UInt8Array, i: int) -> int:
    """The comma and the bracket before the next axis, if all before went well: where they end."""
    if i < 0:
        return FAILED
    i = scan_separator(block, i)
    if i < 0 or block[i] != OPEN:
        return FAILED
    return i + 1


@compiled()
def _scan_numbers(
    block: UInt8Array, i: int, out: Float64Array, first: int, limit: int
) -> tuple[int, int]:
    """`0, -17.5,255]` after its bracket, into `out[first:limit]`: (where it ends, out's end)."""
    at, n, end = unsigned(i), unsigned(first), unsigned(limit)  # as in `drawing_scan.scan_axis`
    while n < end:
        stop, value = _scan_integer(block, at)
        if stop > at:
            out[n] = value
        else:
            stop, out[n] = scan_number(block, at)
            if stop == at:
                break
        at = stop
        n += unsigned(1)
        byte = block[at]
        at += unsigned(1)
        if byte == COMMA:
            at += unsigned(block[at] == SPACE)
        elif byte == CLOSE:
            return signed(at), signed(n)
        else:
            break
    return signed(FAILED), signed(n)


@compiled()
def _pass_numbers(block: UInt8Array, i: int) -> tuple[int, int]:
    """`0, 17.5,255]` after its bracket: (where it ends, how many numbers)."""
    at, n = unsigned(i), 0
    while True:
        stop, _ = _scan_integer(block, at)
        if stop == at:
            stop, _, _ = _scan_decimal(block, at)
            if stop == at:
                break
        at = stop
        n += 1
        byte = block[at]
        at += unsigned(1)
        if byte == COMMA:
            at += unsigned(block[at] == SPACE)
        elif byte == CLOSE:
            return signed(at), n
        else:
            break
    return signed(FAILED), n


@compiled()
def _scan_integer(block: UInt8Array, at: int) -> tuple[int, int]:
    """Digits before a comma or a bracket, the usual number: (where they end, their value).

    They end where they begin if there is anything else; then `scan_number` is asked.
    """
    value = scan_digit(block, at)
    if value > unsigned(9):
        return at, 0
    end = at + unsigned(1)
    digit = scan_digit(block, end)
    if value == unsigned(0) and digit < unsigned(10):  # JSON knows no leading zero
        return at, 0
    while digit < unsigned(10):
        value = value * unsigned(10) + digit
        end += unsigned(1)
        digit = scan_digit(block, end)
    plain = (block[end] == COMMA or block[end] == CLOSE) and end - at < unsigned(19)
    return (end if plain else at), signed(value)


@compiled()
def scan_number(block: UInt8Array, at: int) -> tuple[int, float]:
    """A JSON number: (where it ends, the float64 nearest to it).

    It ends where it begins if there is none, or none that is simple enough.
    """
    end, digits, power = _scan_decimal(block, at)
    if power == 0:
        value = float(digits)
    elif 0 < power <= _MAX_DIVISOR:
        value = _divided(digits, power)
    elif digits <= _MAX_EXACT and -power < len(_POWERS) and power < 0:
        value = float(digits) * _POWERS[-power]
    else:
        return at, 0.0
    return end, -value if block[at] == _MINUS else value


@compiled()
def _scan_decimal(block: UInt8Array, at: int) -> tuple[int, int, int]:
    """A JSON number: (where it ends, all its digits as an integer, the power of ten to divide
    that by). The sign is passed over. It ends where it begins if there is none.
    """
    start = at + unsigned(block[at] == _MINUS)
    end, digits = _scan_digits(block, start, unsigned(0))
    if end == start or (block[start] == _ZERO and end - start > unsigned(1)):
        return at, signed(0), signed(0)  # JSON knows no leading zero
    power = signed(0)
    if block[end] == _POINT:
        start = end + unsigned(1)
        end, digits = _scan_digits(block, start, digits)
        if end == start:
            return at, signed(0), signed(0)
        power = signed(end - start)
    if block[end] | _TO_LOWER_CASE == _EXPONENT:
        start = end + unsigned(1)
        negative = block[start] == _MINUS
        start += unsigned(negative or block[start] == _PLUS)
        end, exponent = _scan_digits(block, start, unsigned(0))
        if end == start:
            return at, signed(0), signed(0)
        power += signed(exponent) if negative else -signed(exponent)
    return end, signed(digits), power


@compiled()
def _scan_digits(block: UInt8Array, at: int, value: int) -> tuple[int, int]:
    """One digit or more, appended to `value`: (where they end, the value), up to 18 digits.

    They end where they begin if there is none, or there are more.
    """
    end = at
    digit = scan_digit(block, end)
    while digit < unsigned(10):
        if value >= _MAX_BEFORE_DIGIT:
            return at, value
        value = value * unsigned(10) + digit
        end += unsigned(1)
        digit = scan_digit(block, end)
    return end, value


@compiled()
def _divided(digits: int, power: int) -> float:
    """The float64 nearest to digits / 10**power; digits below 10**18, power up to 19.

    Up to 2**53 one division rounds correctly. Beyond, the quotient's exact remainder (Dekker
    1971: products split into halves) tells how far it is off, to a small part of the 2**-45 of
    its last bit by which digits / 10**power at least misses the middle between two floats,
    unless it is that middle; then remainder and correction are exact.
    """
    divisor: float = _POWERS[power]
    if digits <= _MAX_EXACT:
        return float(digits) / divisor
    high = float(digits)
    low = float(digits - signed(high))
    quotient = high / divisor
    product = quotient * divisor
    q_high = _SPLITTER * quotient
    q_high -= q_high - quotient
    q_low = quotient - q_high
    d_high = _SPLITTER * divisor
    d_high -= d_high - divisor
    d_low = divisor - d_high
    error = ((q_high * d_high - product) + q_high * d_low + q_low * d_high) + q_low * d_low
    remainder = (high - product) - error
    return quotient + (remainder + low) / divisor
