"""From an open file to blocks of complete rows, and to the rows of a window."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.errors import InputError
from quickdraw_core.formats.readers import RowReader
from quickdraw_core.reading.windows import Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.system.direct_file import PAGE_BYTES, DirectFile
from quickdraw_core.system.scratch import scratch

BLOCK_BYTES = 32 << 20
"""Bytes read at a time if it is not known how many are needed."""

MAX_ROW_BYTES = 1 << 28
"""A longer row means that the file does not have the expected layout."""


class RowTooLongError(ValueError):
    """A row of more than `MAX_ROW_BYTES`; the message names the row, but not the file."""


class Block(NamedTuple):
    """data: uint8 [B], whole rows, and blank lines before them; only the last row of a file may be
    cut off; row: the number of the first one in the file, from 0; rows: how many.

    ends: where in `data` the rows end that stand right before a multiple of the number that
    `window_blocks` got as `every`; cut_at: where a row begins that is cut off, if there is one.
    """

    data: UInt8Array
    row: int
    rows: int
    ends: tuple[int, ...] = ()
    cut_at: int | None = None


@contextmanager
def input_errors(source: SourceFile, if_too_long: str = "ingest again") -> Iterator[None]:
    """Turns errors of reading a source into an `InputError` that names it. if_too_long: what a
    row that is too long means, or what to do.
    """
    try:
        yield
    except RowTooLongError as error:
        raise InputError(f"{source.address}: {error}; {if_too_long}") from error
    except OSError as error:
        raise InputError(
            f"cannot read {source.address}: {error.strerror or error}; ingest again"
        ) from error


def go_to(file: BinaryIO, offset: int, sequential: bool) -> None:
    """Goes to byte `offset` of a file that was just opened; by reading if it is sequential."""
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
    every: int | None = None,
) -> Iterator[Block]:
    """The rows of a window, in blocks; fewer than it asks for if the file ends before.

    The file must be at the beginning of row `row <= window.skiprows`. size_hint: bytes from there
    to the window's end, as far as known. One read gets them all and no more, unless that would
    take too much memory. more_bytes: of each further read; None: `BLOCK_BYTES`. every: the blocks
    get `ends` by it.

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
            block = _rows_of(reader, data[start:], row, end_row, every, at_end)
            if block.rows:
                yield block
            start, row = start + len(block.data), row + block.rows
        rest = data[start:]
        size_bytes = more_bytes or BLOCK_BYTES


def _rows_of(
    reader: RowReader, data: UInt8Array, row: int, end_row: int, every: int | None, at_end: bool
) -> Block:
    """The complete rows at the beginning of `data`, from `row` to `end_row`. At the file's end a
    row that is cut off counts too.
    """
    end, ends, first, cut_at = 0, list[int](), row, None
    while row < end_row:
        wanted = end_row - row
        if every is not None:
            wanted = min(wanted, every - row % every)
        end, passed = reader.skip(data, end, wanted)
        row += passed
        if passed < wanted:
            if not (at_end and reader.holds_row(data[end:])):
                break
            end, row, cut_at = len(data), row + 1, end
        if every is not None and row % every == 0:
            ends.append(end)
    return Block(data[:end], first, row - first, tuple(ends), cut_at)


def _read_after(file: BinaryIO, rest: UInt8Array, size_bytes: int) -> tuple[UInt8Array, bool]:
    """`rest` and up to `size_bytes` more bytes behind it, and whether the file ended."""
    room = scratch(len(rest) + size_bytes + 2 * PAGE_BYTES)
    before = 0
    if isinstance(file, DirectFile):
        before = file.room_before(room.ctypes.data + len(rest))
        size_bytes += -(file.tell() + size_bytes) % PAGE_BYTES  # up to the end of a page
    data = room[before : before + len(rest) + size_bytes]
    data[: len(rest)] = rest
    view, filled = memoryview(data.data), len(rest)
    while filled < len(data):
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return data[:filled], True
        filled += count
    return data, False
