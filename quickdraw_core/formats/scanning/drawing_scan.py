"""The compiled reader of simplified drawings: `[[[x, …], [y, …]], …]`, from bytes to columns.

Why nothing is read past the block: see `field_scan`.
"""

from quickdraw_core.drawing import MAX_STROKE_POINTS, UInt8Array
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.field_scan import (
    COMMA,
    FAILED,
    SPACE,
    scan_digit,
    signed,
    unsigned,
)
from quickdraw_core.formats.scanning.wide import (
    COMPRESSES,
    WIDTH,
    count_bits,
    high_zeros,
    lowest_bit,
    scan_numbers,
    write_numbers,
)
from quickdraw_core.system.compiled import compiled

OPEN, CLOSE = ord("["), ord("]")
_0, _1, _2, _3, _4 = (unsigned(k) for k in range(5))
_WIDTH = unsigned(WIDTH)
_BATCH = 16


@compiled(forceinline=True)
def scan_axis(
    block: UInt8Array, i: int, out: UInt8Array, first: int, limit: int
) -> tuple[int, int]:
    """`0, 17,255]` after its bracket, into `out[first:limit]`: (where it ends, out's end).

    Three bytes at least must stand before `i`. What stands in `out` from its end on is lost.
    """
    at, n = unsigned(i), unsigned(first)
    end, stop, room = unsigned(limit), unsigned(len(block)), unsigned(len(out))
    while at + _WIDTH <= stop and n + _WIDTH < room:
        digit, comma, space, close, zero, above = scan_numbers(block, at)
        after_digit = digit << _1
        ends = after_digit & ~digit
        four = after_digit & (digit << _2) & (digit << _3) & (digit << _4)
        leading_zero = zero & ~after_digit & (digit >> _1)  # JSON knows none
        fits = digit | ((comma | close) & after_digit) | (space & (comma << _1))
        wrong = ~fits | leading_zero | (ends & (above | four))
        here = close ^ (close - _1)  # up to the first bracket; everything if there is none
        ends &= here
        count = count_bits(ends)
        if wrong & here or count == _0 or n + count > end:
            return FAILED, first
        passed = _WIDTH - high_zeros(ends)
        write_numbers(block, at, out, n, ends)
        if not COMPRESSES:
            # Each goes to a place at or before its own. Most axes have no more than a batch, and
            # to fill it in any case costs less than a loop whose end the processor cannot foresee.
            for k in range(_BATCH):
                out[n + unsigned(k)] = out[n + lowest_bit(ends)]
                ends &= ends - _1
            if count > unsigned(_BATCH):
                for k in range(_BATCH, count):
                    out[n + unsigned(k)] = out[n + lowest_bit(ends)]
                    ends &= ends - _1
        n += count
        at += passed
        if close:
            return signed(at), signed(n)
        if block[at] == SPACE:
            at += _1
    return scan_axis_bytewise(block, signed(at), out, signed(n), limit)


@compiled()
def scan_axis_bytewise(
    block: UInt8Array, i: int, out: UInt8Array, first: int, limit: int
) -> tuple[int, int]:
    """As `scan_axis`, byte by byte: for the end of a block, and to test the other against."""
    # Unsigned places spare the check for negative indices, a fifth of this loop's time.
    at, n, end = unsigned(i), unsigned(first), unsigned(limit)
    one, ten = unsigned(1), unsigned(10)
    while n < end:
        value = scan_digit(block, at)
        if value >= ten:
            break
        at += one
        digit = scan_digit(block, at)
        if digit < ten:
            if value == unsigned(0):
                break  # JSON knows no leading zero
            value = value * ten + digit
            at += one
            digit = scan_digit(block, at)
            if digit < ten:
                value = value * ten + digit
                if value > unsigned(255):
                    break
                at += one
        out[n] = value
        n += one
        byte = block[at]
        if byte == COMMA:
            at += one
            if block[at] == SPACE:
                at += one
        elif byte == CLOSE:
            return signed(at + one), signed(n)
        else:
            break
    return FAILED, signed(n)


@compiled(forceinline=True)
def scan_separator(block: UInt8Array, i: int) -> int:
    """A comma, and a space if there is one: where they end."""
    if block[i] != COMMA:
        return FAILED
    return i + 2 if block[i + 1] == SPACE else i + 1


@compiled(forceinline=True)
def scan_drawing(
    block: UInt8Array, i: int, columns: Columns, point: int, stroke: int
) -> tuple[int, int, int]:
    """A simplified drawing, `[[[x, …], [y, …]], …]`, into `columns` from `point` and `stroke`
    on: (where it ends, points then, strokes then).
    """
    x, y, stroke_lengths = columns.x, columns.y, columns.stroke_lengths
    if block[i] != OPEN:
        return FAILED, point, stroke
    i += 1
    while True:
        if block[i] != OPEN or block[i + 1] != OPEN:
            return FAILED, point, stroke
        i, end = scan_axis(block, i + 2, x, point, len(x))
        if i < 0:
            return FAILED, point, stroke
        i = scan_separator(block, i)
        if i < 0 or block[i] != OPEN:
            return FAILED, point, stroke
        i, y_end = scan_axis(block, i + 1, y, point, end)
        if i < 0 or y_end != end or end - point > MAX_STROKE_POINTS or block[i] != CLOSE:
            return FAILED, point, stroke
        stroke_lengths[stroke] = end - point
        stroke += 1
        point = end
        i += 1
        if block[i] == CLOSE:
            return i + 1, point, stroke
        i = scan_separator(block, i)
        if i < 0:
            return FAILED, point, stroke
