"""The compiled elements of the strict readers: numbers, words and times, from bytes.

Each function reads at `i` of a block of complete lines, and returns where it stopped, or `FAILED`
if the text is not strictly shaped; then the tolerant reader reads the line.

None of them can read past the block, although none checks an index: a block ends in a line
feed, a line feed fits nowhere in a line, and no function goes beyond a byte that did not fit.
"""

from typing import Any

import numpy as np
from numba import int64, uint64

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.system.compiled import compiled

FAILED = -1
START: Any = np.int64(0)
"""Where loops begin. With a plain 0 numba compiles what they call twice, for it and for others."""

# In compiled code a mix of signed and unsigned integers is a float, so kinds are named; to the
# type checker they are all the same.
unsigned: Any = uint64
signed: Any = int64

COMMA, SPACE, QUOTE = ord(","), ord(" "), ord('"')
_ZERO, _DASH, _COLON, _POINT = ord("0"), ord("-"), ord(":"), ord(".")
_MAX_SAFE_DIGITS = 19  # of a uint64: with 20 it may overflow


@compiled()
def scan_digit(block: UInt8Array, i: int) -> Any:
    """The digit at `i`, or something above 9: uint64."""
    return unsigned(block[i]) - unsigned(_ZERO)


@compiled(forceinline=True)
def scan_unsigned(block: UInt8Array, i: int) -> tuple[int, np.uint64]:
    """A number of 1 to 19 digits: (where it ends, its value)."""
    value = uint64(0)
    first = i
    digit = scan_digit(block, i)
    while digit < 10:
        value = value * uint64(10) + digit
        i += 1
        if i - first > _MAX_SAFE_DIGITS:
            return FAILED, value
        digit = scan_digit(block, i)
    return (i if i > first else FAILED), value


@compiled(forceinline=True)
def scan_text(block: UInt8Array, i: int, text: UInt8Array) -> int:
    """The very bytes of `text` (uint8 [T]): where they end."""
    for byte in text:
        if block[i] != byte:
            return FAILED
        i += 1
    return i


@compiled(forceinline=True)
def _scan_fixed(block: UInt8Array, i: int, digits: int) -> int:
    """A number of exactly `digits` digits: its value."""
    value = 0
    for k in range(digits):
        digit = scan_digit(block, i + k)
        if digit > 9:
            return FAILED
        value = value * 10 + int(digit)
    return value


@compiled()
def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


@compiled(forceinline=True)
def _days_since_1970(year: int, month: int, day: int) -> int:
    """Days of the proleptic Gregorian calendar.

    Source: `days_from_civil` in Howard Hinnant's "chrono-compatible low-level date algorithms".
    """
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return (
        era * 146_097
        + year_of_era * 365
        + year_of_era // 4
        - year_of_era // 100
        + (day_of_year - 719_468)
    )


@compiled(forceinline=True)
def scan_timestamp(block: UInt8Array, i: int) -> tuple[int, int]:
    """`2017-03-08 21:12:07[.266040]`: (where it ends, microseconds since 1970 as UTC)."""
    year = _scan_fixed(block, i, 4)
    if year < 1 or block[i + 4] != _DASH:
        return FAILED, 0
    month = _scan_fixed(block, i + 5, 2)
    if month < 1 or month > 12 or block[i + 7] != _DASH:
        return FAILED, 0
    day = _scan_fixed(block, i + 8, 2)
    if day < 1 or day > _days_in_month(year, month) or block[i + 10] != SPACE:
        return FAILED, 0
    hour = _scan_fixed(block, i + 11, 2)
    if hour < 0 or hour > 23 or block[i + 13] != _COLON:
        return FAILED, 0
    minute = _scan_fixed(block, i + 14, 2)
    if minute < 0 or minute > 59 or block[i + 16] != _COLON:
        return FAILED, 0
    second = _scan_fixed(block, i + 17, 2)
    if second < 0 or second > 59:
        return FAILED, 0
    i += 19
    fraction_us = 0
    if block[i] == _POINT:
        i += 1
        unit = 100_000
        digit = scan_digit(block, i)
        if digit > 9:
            return FAILED, 0
        while digit < 10:
            if unit == 0:
                return FAILED, 0
            fraction_us += int(digit) * unit
            unit //= 10
            i += 1
            digit = scan_digit(block, i)
    days = _days_since_1970(year, month, day)
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return i, seconds * 1_000_000 + fraction_us
