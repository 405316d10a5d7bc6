"""Lines of a block, in compiled code: where they end, and which of them are blank."""

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.formats.scanning.field_scan import signed, unsigned
from quickdraw_core.formats.scanning.wide import (
    WIDTH,
    count_bits,
    find_lines,
    high_zeros,
    lowest_bit,
)
from quickdraw_core.system.compiled import compiled

MAX_LINE_BYTES = 16 << 20
"""A longer line is refused unread: the longest real ones have some tens of thousands."""

_WIDTH = unsigned(WIDTH)
_0, _1 = unsigned(0), unsigned(1)


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
    at, stop, wanted = unsigned(start), unsigned(len(block)), unsigned(max(0, rows))
    end, passed, carry = at, _0, _0
    while at + _WIDTH <= stop and passed < wanted:
        feeds, texts = find_lines(block, at)
        partial = ~feeds + texts
        total = partial + carry
        carry = unsigned(partial < texts) | unsigned(total < partial)
        ends = total & feeds
        count = count_bits(ends)
        if passed + count >= wanted:
            for _ in range(signed(wanted - passed) - 1):
                ends &= ends - _1
            return signed(at + lowest_bit(ends) + _1), signed(wanted)
        if count:
            end = at + _WIDTH - high_zeros(ends)
        passed += count
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
    return signed(end), signed(passed)
