"""The compiled elements of the strict readers: numbers, times and drawings, from bytes.

Each function reads at `i` of a block of complete lines, and returns where it stopped, or -1
where the text is not strictly shaped; then the tolerant reader looks at the line.

None of them can read past the block, although none checks an index: a block ends in a line
feed, a line feed fits nowhere in a line, and no function goes beyond a byte that did not fit.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import int64, uint64

from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt8Array, UInt16Array
from quickdraw_core.formats.rows import Rows, UInt64Array
from quickdraw_core.formats.wide import (
    WIDTH,
    count_bits,
    find_lines,
    high_zeros,
    lowest_bit,
    scan_numbers,
)
from quickdraw_core.system.compiled import compiled

FAILED = -1

# In compiled code a mix of signed and unsigned integers is a float, so kinds are named; to the
# type checker they are all the same.
_unsigned: Any = uint64
_signed: Any = int64

_0, _1, _2, _3, _4 = (_unsigned(k) for k in range(5))
_WIDTH = _unsigned(WIDTH)
_BATCH = 8

_ZERO = ord("0")
_COMMA = ord(",")
_SPACE = ord(" ")
_OPEN = ord("[")
_CLOSE = ord("]")
_MAX_STROKE_POINTS = 65_535
_MAX_SAFE_DIGITS = 19  # of a uint64: with 20 it may overflow

# The shortest texts there are, which bound what a block can hold.
_BYTES_PER_POINT = 2  # "0,": x comes first, so a refused stroke may be all x
_BYTES_PER_STROKE = 10  # "[[0],[0]],"
MAX_COUNTRY_BYTES = 8


class Columns(NamedTuple):
    """Room for the rows of one block: the arrays of `Rows`, and `lines`, int64 [N], the line
    of the block that each row stood in.
    """

    lines: Int64Array
    key_ids: UInt64Array
    recognized: UInt8Array
    timestamps_us: Int64Array
    country_bytes: UInt8Array
    country_offsets: Int64Array
    x: UInt8Array
    y: UInt8Array
    stroke_lengths: UInt16Array
    point_offsets: Int64Array
    stroke_offsets: Int64Array

    @classmethod
    def for_block(cls, lines: int, size_bytes: int) -> "Columns":
        """Room for whatever a block of `lines` lines and `size_bytes` bytes can hold."""
        points = size_bytes // _BYTES_PER_POINT + 1
        return cls.empty(
            lines, points, size_bytes // _BYTES_PER_STROKE + 1, lines * MAX_COUNTRY_BYTES
        )

    @classmethod
    def empty(cls, rows: int, points: int, strokes: int, country_bytes: int) -> "Columns":
        """Room for so many rows, points, strokes and bytes of country codes.

        The pages of what is not filled are never touched, so they cost no memory.
        """
        columns = cls(
            np.empty(rows, np.int64),
            np.empty(rows, np.uint64),
            np.empty(rows, np.uint8),
            np.empty(rows, np.int64),
            np.empty(country_bytes, np.uint8),
            np.empty(rows + 1, np.int64),
            np.empty(points, np.uint8),
            np.empty(points, np.uint8),
            np.empty(strokes, np.uint16),
            np.empty(rows + 1, np.int64),
            np.empty(rows + 1, np.int64),
        )
        for offsets in (columns.country_offsets, columns.point_offsets, columns.stroke_offsets):
            offsets[0] = 0
        return columns

    def rows(self, count: int) -> Rows:
        """The first `count` rows, as views."""
        points, strokes = self.point_offsets[count], self.stroke_offsets[count]
        return Rows(
            self.key_ids[:count],
            self.recognized[:count],
            self.timestamps_us[:count],
            self.country_bytes[: self.country_offsets[count]],
            self.country_offsets[: count + 1],
            DrawingBatch(
                self.x[:points],
                self.y[:points],
                self.stroke_lengths[:strokes],
                self.point_offsets[: count + 1],
                self.stroke_offsets[: count + 1],
            ),
        )


@compiled()
def count_lines(block: UInt8Array) -> int:
    """Line feeds in a block, uint8 [B]."""
    count = 0
    for byte in block:
        count += byte == 10
    return count


@compiled()
def line_end(block: UInt8Array, i: int) -> int:
    """Where the line ends that byte `i` stands in, behind its line feed; a block ends in one."""
    while block[i] != 10:
        i += 1
    return i + 1


@compiled()
def is_blank(block: UInt8Array, start: int, end: int) -> bool:
    """Whether bytes [start, end) are spaces, tabs and line ends alone."""
    for i in range(start, end):
        byte = block[i]
        if byte != 10 and byte != 13 and byte != 32 and byte != 9:
            return False
    return True


@compiled()
def skip_rows(block: UInt8Array, start: int, rows: int) -> tuple[int, int]:
    """Passes over up to `rows` complete rows, lines that are not blank, from `start` on, which
    is where a line begins: (where the last of them ends, how many).

    A line feed ends a row if any byte of its line is not blank. For 64 bytes at a time that is
    one addition: a carry goes from each such byte upward and stops in the next line feed, and
    one that gets out at the top belongs to a line that goes on.
    """
    at, stop, wanted = _unsigned(start), _unsigned(len(block)), _unsigned(max(0, rows))
    end, passed, carry = at, _0, _0
    while at + _WIDTH <= stop and passed < wanted:
        feeds, texts = find_lines(block, at)
        partial = ~feeds + texts
        total = partial + carry
        carry = _unsigned(partial < texts) | _unsigned(total < partial)
        ends = total & feeds
        found = count_bits(ends)
        if passed + found >= wanted:
            for _ in range(_signed(wanted - passed) - 1):
                ends &= ends - _1
            return _signed(at + lowest_bit(ends) + _1), _signed(wanted)
        if found:
            end = at + _WIDTH - high_zeros(ends)
        passed += found
        at += _WIDTH
    while at < stop and passed < wanted:
        byte = block[at]
        at += _1
        if byte == 10:
            if carry:
                end = at
            passed += carry
            carry = _0
        elif byte != 13 and byte != 32 and byte != 9:
            carry = _1
    return _signed(end), _signed(passed)


@compiled()
def scan_digit(block: UInt8Array, i: int) -> Any:
    """The digit at `i`, or something above 9: uint64."""
    return _unsigned(block[i]) - _unsigned(_ZERO)


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
    if year < 1 or block[i + 4] != 45:
        return FAILED, 0
    month = _scan_fixed(block, i + 5, 2)
    if month < 1 or month > 12 or block[i + 7] != 45:
        return FAILED, 0
    day = _scan_fixed(block, i + 8, 2)
    if day < 1 or day > _days_in_month(year, month) or block[i + 10] != _SPACE:
        return FAILED, 0
    hour = _scan_fixed(block, i + 11, 2)
    if hour < 0 or hour > 23 or block[i + 13] != 58:
        return FAILED, 0
    minute = _scan_fixed(block, i + 14, 2)
    if minute < 0 or minute > 59 or block[i + 16] != 58:
        return FAILED, 0
    second = _scan_fixed(block, i + 17, 2)
    if second < 0 or second > 59:
        return FAILED, 0
    i += 19
    fraction_us = 0
    if block[i] == 46:
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


@compiled(forceinline=True)
def scan_axis(
    block: UInt8Array, i: int, out: UInt8Array, first: int, limit: int
) -> tuple[int, int]:
    """`0, 17,255]` after its bracket, into `out[first:limit]`: (where it ends, out's end).

    Three bytes at least must stand before `i`. What stands in `out` from its end on is lost.
    """
    at, n = _unsigned(i), _unsigned(first)
    end, stop, room = _unsigned(limit), _unsigned(len(block)), _unsigned(len(out))
    while at + _WIDTH <= stop and n + _WIDTH < room:
        digit, comma, space, close, zero, above = scan_numbers(block, at, out, n)
        after_digit = digit << _1
        ends = after_digit & ~digit
        four = after_digit & (digit << _2) & (digit << _3) & (digit << _4)
        leading_zero = zero & ~after_digit & (digit >> _1)  # JSON knows none
        fits = digit | ((comma | close) & after_digit) | (space & (comma << _1))
        wrong = ~fits | leading_zero | (ends & (above | four))
        here = close ^ (close - _1)  # up to the first bracket; everything where there is none
        ends &= here
        count = count_bits(ends)
        if wrong & here or count == _0 or n + count > end:
            return FAILED, first
        passed = _WIDTH - high_zeros(ends)
        # Each goes to a place at or before its own. Most axes have no more than a batch, and
        # to fill it in any case costs less than a loop whose end the processor cannot foresee.
        for k in range(_BATCH):
            out[n + _unsigned(k)] = out[n + lowest_bit(ends)]
            ends &= ends - _1
        if count > _unsigned(_BATCH):
            for k in range(_BATCH, count):
                out[n + _unsigned(k)] = out[n + lowest_bit(ends)]
                ends &= ends - _1
        n += count
        at += passed
        if close:
            return _signed(at), _signed(n)
        if block[at] == _SPACE:
            at += _1
    return scan_axis_bytewise(block, _signed(at), out, _signed(n), limit)


@compiled()
def scan_axis_bytewise(
    block: UInt8Array, i: int, out: UInt8Array, first: int, limit: int
) -> tuple[int, int]:
    """As `scan_axis`, byte by byte: for the end of a block, and to test the other against."""
    # Unsigned places spare the check for negative indices, a fifth of this loop's time.
    at, n, end = _unsigned(i), _unsigned(first), _unsigned(limit)
    one, ten = _unsigned(1), _unsigned(10)
    while n < end:
        value = scan_digit(block, at)
        if value >= ten:
            break
        at += one
        digit = scan_digit(block, at)
        if digit < ten:
            if value == _unsigned(0):
                break  # JSON knows no leading zero
            value = value * ten + digit
            at += one
            digit = scan_digit(block, at)
            if digit < ten:
                value = value * ten + digit
                if value > _unsigned(255):
                    break
                at += one
        out[n] = value
        n += one
        byte = block[at]
        if byte == _COMMA:
            at += one
            if block[at] == _SPACE:
                at += one
        elif byte == _CLOSE:
            return _signed(at + one), _signed(n)
        else:
            break
    return FAILED, _signed(n)


@compiled(forceinline=True)
def scan_separator(block: UInt8Array, i: int) -> int:
    """A comma, and a space where there is one: where they end."""
    if block[i] != _COMMA:
        return FAILED
    return i + 2 if block[i + 1] == _SPACE else i + 1


@compiled(forceinline=True)
def scan_drawing(
    block: UInt8Array, i: int, columns: Columns, point: int, stroke: int
) -> tuple[int, int, int]:
    """A simplified drawing, `[[[x, …], [y, …]], …]`, into `columns` from `point` and `stroke`
    on: (where it ends, points then, strokes then).
    """
    x, y, stroke_lengths = columns.x, columns.y, columns.stroke_lengths
    if block[i] != _OPEN:
        return FAILED, point, stroke
    i += 1
    while True:
        if block[i] != _OPEN or block[i + 1] != _OPEN:
            return FAILED, point, stroke
        i, end = scan_axis(block, i + 2, x, point, len(x))
        if i < 0:
            return FAILED, point, stroke
        i = scan_separator(block, i)
        if i < 0 or block[i] != _OPEN:
            return FAILED, point, stroke
        i, y_end = scan_axis(block, i + 1, y, point, end)
        if i < 0 or y_end != end or end - point > _MAX_STROKE_POINTS or block[i] != _CLOSE:
            return FAILED, point, stroke
        stroke_lengths[stroke] = end - point
        stroke += 1
        point = end
        i += 1
        if block[i] == _CLOSE:
            return i + 1, point, stroke
        i = scan_separator(block, i)
        if i < 0:
            return FAILED, point, stroke
