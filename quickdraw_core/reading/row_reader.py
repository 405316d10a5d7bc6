"""Windows of one file → their rows, for the ingest, `scan` and the submission."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from quickdraw_core.errors import InputError
from quickdraw_core.formats.readers import RowReader, reader_for
from quickdraw_core.formats.rows import Rejected, Rows
from quickdraw_core.formats.scanning.binary_scan import OUT_OF_STEP
from quickdraw_core.reading.blocks import Block, go_to, input_errors, window_blocks
from quickdraw_core.reading.row_index import RowIndex
from quickdraw_core.reading.windows import (
    STRIDE,
    WINDOW_ROWS,
    RowSelection,
    Window,
    piece_rows,
    select_windows,
)
from quickdraw_core.sources.files import SourceFile

DUPLICATE = "key_id is that of an earlier drawing"


@dataclass(frozen=True)
class WindowGroup:
    """Windows of one file that are read in one go, in order, without overlap.

    offset: the byte where data row `offset_row` begins, at or before the first window;
    size_bytes: from there to the end of the last window.
    """

    source: SourceFile
    windows: tuple[Window, ...]
    offset: int
    offset_row: int
    size_bytes: int


class WindowRows(NamedTuple):
    """The content of a window: rows + rejected = `window.nrows`."""

    window: Window
    rows: Rows
    rejected: list[Rejected]


def window_groups(
    source: SourceFile, index: RowIndex, selection: RowSelection, seed: int
) -> list[WindowGroup]:
    """One group a window; one for all windows of a file that is read from its beginning only."""
    limit = rows_at_most(source, index.offsets)
    windows = select_windows(selection, index.rows, source.word or "", seed, limit)
    groups = [tuple(windows)] if source.sequential else [(window,) for window in windows]
    return [_group(source, index, group) for group in groups if group]


def rows_at_most(source: SourceFile, offsets: Sequence[int]) -> int:
    """Rows of a window at most, by the `offsets` of the file's index so far.

    Measured over the first `STRIDE` rows: where a file is cut into windows must depend neither on
    what the cache holds nor on the rows behind.
    """
    if len(offsets) < 2:
        return WINDOW_ROWS  # more than the file has
    return piece_rows(STRIDE, offsets[1] - source.format.data_offset)


def _group(source: SourceFile, index: RowIndex, windows: tuple[Window, ...]) -> WindowGroup:
    offset, offset_row = index.start_of(windows[0].skiprows)
    end = index.end_of(windows[-1].skiprows + windows[-1].nrows)
    return WindowGroup(source, windows, offset, offset_row, end - offset)


def read_windows(
    group: WindowGroup, duplicates: frozenset[int] = frozenset()
) -> Iterator[WindowRows]:
    """The windows of a group, one after the other, in memory one at a time.

    duplicates: numbers of rows, from 0, that are rejected because an earlier drawing has their
    key_id. Raises `InputError` if the file cannot be read or is no longer what it was.
    """
    source, first, last = group.source, group.windows[0], group.windows[-1]
    reader = reader_for(source.format, source.word)
    span = Window(first.skiprows, last.skiprows + last.nrows - first.skiprows)
    with input_errors(source):
        require_unchanged(source)
        with source.open(cut_short=True, once=True) as file:
            go_to(file, group.offset, source.sequential)
            blocks = window_blocks(file, reader, group.offset_row, span, group.size_bytes)
            for window, pieces in _cut(blocks, reader, group.windows):
                yield parse_window(source, window, pieces, duplicates)
        require_unchanged(source)


def require_unchanged(source: SourceFile) -> None:
    """Raises `InputError` if a source is no longer what it was when it was found."""
    stamp = source.current_stamp()
    if stamp != source.stamp:
        raise InputError(
            f"{source.address} changed while it was read: {stamp.size_bytes:,} bytes, "
            f"{source.stamp.size_bytes:,} before; ingest again once it is complete"
        )


def _cut(
    blocks: Iterator[Block], reader: RowReader, windows: tuple[Window, ...]
) -> Iterator[tuple[Window, list[Block]]]:
    """Assigns the rows of `blocks` to windows; at the end of the file they may get fewer."""
    waiting = iter(windows)
    window = next(waiting)
    pieces: list[Block] = []
    for block in blocks:
        while block.rows:
            end = window.skiprows + window.nrows
            _, block = _split(block, reader, window.skiprows)
            piece, block = _split(block, reader, end)
            if piece.rows:
                pieces.append(piece)
            if piece.row + piece.rows < end:
                break
            yield window, pieces
            pieces = []
            following = next(waiting, None)
            if following is None:
                return
            window = following
    yield window, pieces
    yield from ((window, []) for window in waiting)


def _split(block: Block, reader: RowReader, row: int) -> tuple[Block, Block]:
    """The rows of a block before `row`, and those from `row` on."""
    rows = min(block.rows, max(0, row - block.row))
    end = len(block.data) if rows == block.rows else reader.skip(block.data, 0, rows)[0]
    after = Block(block.data[end:], block.row + rows, block.rows - rows)
    return Block(block.data[:end], block.row, rows), after


def parse_window(
    source: SourceFile,
    window: Window,
    pieces: list[Block],
    duplicates: frozenset[int] = frozenset(),
) -> WindowRows:
    """The rows of a window, which are in `pieces`; duplicates: as in `read_windows`.

    Raises `InputError` if rows are missing at its end, since the file ended before.
    """
    reader = reader_for(source.format, source.word)
    missing = window.nrows - sum(piece.rows for piece in pieces)
    if missing:
        raise InputError(
            f"{source.address} ended {missing:,} rows early: it was cut short "
            "while it was read; ingest again once it is complete"
        )
    parts: list[Rows] = []
    rejected: list[Rejected] = []
    for piece in pieces:
        rows, refused = reader.read(piece.data, piece.row + reader.first_line, piece.rows)
        if refused and refused[-1].reason == OUT_OF_STEP:
            raise InputError(
                f"{source.address} is damaged at record {refused[-1].line:,}: nothing behind it "
                "can be read; fetch it again"
            )
        repeated = {n for n in duplicates if 0 <= n - piece.row < piece.rows}
        if repeated:
            rows, refused = _without_duplicates(repeated, reader, piece, rows, refused)
        parts.append(rows)
        rejected += refused
    return WindowRows(window, parts[0] if len(parts) == 1 else Rows.concat(parts), rejected)


def _without_duplicates(
    duplicates: set[int], reader: RowReader, piece: Block, rows: Rows, rejected: list[Rejected]
) -> tuple[Rows, list[Rejected]]:
    """Moves duplicates from the rows to the rejected ones."""
    earlier = {row.line - reader.first_line for row in rejected}
    numbers = [n for n in range(piece.row, piece.row + piece.rows) if n not in earlier]
    key_ids = dict(zip(numbers, rows.key_ids.tolist(), strict=True))
    keep = np.array([n not in duplicates for n in numbers], bool)
    moved = []
    for number in sorted(duplicates.intersection(numbers)):
        _, rest = _split(piece, reader, number)
        row, _ = _split(rest, reader, number + 1)
        text = reader.quote(row.data.tobytes())
        finding = f"found {key_ids[number]} again"
        moved.append(Rejected(number + reader.first_line, DUPLICATE, text, finding))
    return rows.take(np.flatnonzero(keep)), sorted(rejected + moved, key=lambda r: r.line)
