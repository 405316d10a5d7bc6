"""From an open file to blocks of complete rows, and to the rows of a window."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.formats.reader import RowReader
from quickdraw_core.reading.windows import Window

BLOCK_BYTES = 32 << 20
"""Bytes read at a time where nothing says how many are needed."""

MAX_ROW_BYTES = 1 << 28
"""A row longer than this is no row: the file is not what it was taken for."""


class RowTooLongError(ValueError):
    """A row of more than `MAX_ROW_BYTES`; the message says which, but not of which file."""


class Block(NamedTuple):
    """data: uint8 [B], whole rows but for the last one of a file, which may be cut off, and blank
    lines before each; row: the number of the first one in the file, from 0; rows: how many.
    """

    data: UInt8Array
    row: int
    rows: int


def go_to(file: BinaryIO, offset: int, sequential: bool) -> None:
    """Goes to byte `offset` of a file that was just opened; by reading, where it cannot seek."""
    if not sequential:
        file.seek(offset)
        return
    while offset:
        passed = len(file.read(min(offset, BLOCK_BYTES)))
        if not passed:
            return
        offset -= passed


def window_blocks(
    file: BinaryIO,
    reader: RowReader,
    row: int,
    window: Window,
    size_hint: int = BLOCK_BYTES,
    more_bytes: int | None = None,
) -> Iterator[Block]:
    """The rows of a window, in blocks; fewer than it asks for where the file ends before.

    The file must stand where row `row` begins, `row <= window.skiprows`; size_hint: bytes from
    there to the window's end, as far as known. One read gets them all and no more, unless they
    are so many that this would cost too much memory. more_bytes: of each further read,
    `BLOCK_BYTES` where it is not given.

    Raises `RowTooLongError`.
    """
    end_row = window.skiprows + window.nrows
    size_bytes = size_hint if size_hint <= 2 * BLOCK_BYTES else BLOCK_BYTES
    rest = np.empty(0, np.uint8)
    at_end = False
    while row < end_row and not at_end:
        if len(rest) > MAX_ROW_BYTES:
            raise RowTooLongError(f"row {row + 1} is longer than {MAX_ROW_BYTES:,} bytes")
        data, at_end = _read_after(file, rest, max(1, size_bytes, len(rest)))
        start, passed = reader.skip(data, 0, max(0, window.skiprows - row))
        row += passed
        if row >= window.skiprows:
            end, rows = reader.skip(data, start, end_row - row)
            if at_end and row + rows < end_row and reader.holds_row(data[end:]):
                end, rows = len(data), rows + 1  # what is left is a row that is cut off
            if rows:
                yield Block(data[start:end], row, rows)
            start, row = end, row + rows
        rest = data[start:]
        size_bytes = more_bytes or BLOCK_BYTES


def _read_after(file: BinaryIO, rest: UInt8Array, size_bytes: int) -> tuple[UInt8Array, bool]:
    """`rest` and up to `size_bytes` more bytes behind it, and whether the file ended."""
    data = np.empty(len(rest) + size_bytes, np.uint8)
    data[: len(rest)] = rest
    view, filled = memoryview(data.data), len(rest)
    while filled < len(data):
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return data[:filled], True
        filled += count
    return data, False
