"""A file's first read: its windows and its row index in one go.

In: a file of which all rows are wanted, and its index so far. Out: its windows, cut as
`row_reader.window_groups` cuts them once the index is complete, and the index so far. Without
this a file would be read twice, and a large ingest mostly waits for reading.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from quickdraw_core.formats.readers import reader_for
from quickdraw_core.reading.blocks import BLOCK_BYTES, Block, go_to, input_errors, window_blocks
from quickdraw_core.reading.row_index import RowIndex, cut_of
from quickdraw_core.reading.row_reader import require_unchanged, rows_at_most
from quickdraw_core.reading.windows import STRIDE, WINDOW_BYTES, Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.sources.unpacked import broken_off

_ALL_ROWS = 1 << 62
_SPARE_BYTES = 256 << 10
"""Read beyond the expected end of a window, which is estimated from the rows before it."""


class FoundWindow(NamedTuple):
    """A window, the blocks that hold its rows, and the index of the file up to its end."""

    window: Window
    pieces: list[Block]
    known: RowIndex


def unread(source: SourceFile) -> RowIndex:
    """The index of a file before it is read."""
    return RowIndex(0, (), source.format.data_offset, complete=False)


def found_windows(source: SourceFile, known: RowIndex) -> Iterator[FoundWindow]:
    """The windows behind `known`, one after the other, in memory one at a time.

    known: `unread`, or the index of an earlier window. A compressed file that breaks off exactly
    at the end of a window gives a last one without rows, whose index has `cut`. Raises
    `InputError` if the file cannot be read, or is no longer what it was.
    """
    with input_errors(source):
        require_unchanged(source)
        with source.open(cut_short=True, once=True) as file:
            go_to(file, known.end, source.sequential)
            size_bytes = BLOCK_BYTES if source.sequential else _expected_bytes(source, known)
            more_bytes = None if source.sequential else _SPARE_BYTES
            span = Window(known.rows, _ALL_ROWS)
            reader = reader_for(source.format, source.word)
            blocks = window_blocks(file, reader, known.rows, span, size_bytes, more_bytes, STRIDE)
            yield from _cut(blocks, source, known, file)
        require_unchanged(source)


def _expected_bytes(source: SourceFile, known: RowIndex) -> int:
    """How long the next window should be, from the rows before it, and some more."""
    if not known.rows:
        return WINDOW_BYTES
    rows = rows_at_most(source, known.offsets)
    return rows * (known.end - source.format.data_offset) // known.rows + _SPARE_BYTES


def _cut(
    blocks: Iterator[Block], source: SourceFile, known: RowIndex, file: BinaryIO
) -> Iterator[FoundWindow]:
    """Assigns the rows of `blocks` to windows, which have the same size except for the last."""
    reader = reader_for(source.format, source.word)
    row = window_row = known.rows
    position = known.end
    offsets = [*known.offsets, position]  # the last one: where the next row would begin
    pieces: list[Block] = []
    cut = ""
    for block in blocks:
        start, begin, piece_row = 0, position, row
        for end in block.ends:
            row = (row // STRIDE + 1) * STRIDE
            position = begin + end
            offsets.append(position)
            if block.cut_at is not None and end == len(block.data):
                cut = cut_of(reader, block.data[block.cut_at :])
            if row - window_row == rows_at_most(source, offsets):
                pieces.append(Block(block.data[start:end], piece_row, row - piece_row))
                index = RowIndex(row, tuple(offsets[:-1]), position, complete=False, cut=cut)
                yield FoundWindow(Window(window_row, row - window_row), pieces, index)
                pieces, window_row, start, piece_row = [], row, end, row
        row, position = block.row + block.rows, begin + len(block.data)
        if block.cut_at is not None:
            cut = cut_of(reader, block.data[block.cut_at :])
        if row > piece_row:
            pieces.append(Block(block.data[start:], piece_row, row - piece_row))
    broken = broken_off(file)
    if pieces or broken:
        index = RowIndex(row, tuple(offsets[: -(-row // STRIDE)]), position, cut=broken or cut)
        yield FoundWindow(Window(window_row, row - window_row), pieces, index)
