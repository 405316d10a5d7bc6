"""What a format is to the ingest: where rows end, and what stands in them.

A reader is small and picklable, so it can travel to a worker; it holds no open file. It works
on blocks of bytes, and whoever feeds it decides how large they are.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from quickdraw_core.drawing import Int64Array, UInt8Array
from quickdraw_core.formats.detect import BLANK
from quickdraw_core.formats.rows import CUT_SHORT, ParsedRows, Rejected, Rows
from quickdraw_core.formats.scanning.scan import Columns, count_lines, is_blank, skip_rows

LINE_FEED = 10
MAX_LINE_BYTES = 16 << 20
"""A longer line is refused unread: the longest real ones have some tens of thousands."""

MAX_QUOTED_BYTES = 64 << 10
"""Of a refused line so much is quoted."""


class RowReader(Protocol):
    """Rows of one file."""

    @property
    def first_line(self) -> int:
        """The number of the first row's line: 2 below a header, else 1."""

    def skip(self, block: UInt8Array, start: int, rows: int) -> tuple[int, int]:
        """Passes over up to `rows` complete rows of a block (uint8 [B]) from byte `start` on.

        Returns (where it stops, rows passed). It stops where the last of them ends, or at `start`;
        blank lines may follow, then a row, which may be there only in part.
        """

    def holds_row(self, rest: UInt8Array) -> bool:
        """Whether what stands behind the last complete row of a file is a row that is cut off."""

    def read(self, block: UInt8Array, first_line: int) -> tuple[Rows, list[Rejected]]:
        """Reads all rows of a block (uint8 [B]); the last one may be cut off.

        Rows in the block = rows + rejected; both in the order of the file. A last row that cannot
        be read since it lacks its end is rejected as `CUT_SHORT`.
        """

    def quote(self, row: bytes) -> str:
        """A row as it stands in the quarantine: its text, or its bytes in hex."""


def is_cut(reader: RowReader, row: UInt8Array) -> bool:
    """Whether the last row of a file (uint8 [B]), which lacks its end, is cut off.

    False where all of it is there but a line's line feed.
    """
    _, rejected = reader.read(row, reader.first_line)
    return bool(rejected) and rejected[-1].reason == CUT_SHORT


class LineReader:
    """The half of a `RowReader` that all formats of one row a line share.

    A line of spaces and tabs alone is no row, as in `pandas.read_csv`, and no line is counted for
    it: the number of a row's line is that without blank ones.
    """

    def skip(self, block: UInt8Array, start: int, rows: int) -> tuple[int, int]:
        """See `RowReader.skip`."""
        end, passed = skip_rows(block, start, rows)
        return int(end), int(passed)

    def holds_row(self, rest: UInt8Array) -> bool:
        """See `RowReader.holds_row`."""
        return not is_blank(rest, 0, len(rest))

    def quote(self, row: bytes) -> str:
        """See `RowReader.quote`."""
        return quoted(row.rstrip(b"\r\n").rpartition(b"\n")[2])  # without blank lines before it


def not_blank(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that hold more than spaces and tabs."""
    return (line for line in lines if line.strip(BLANK))


def quoted(line: bytes) -> str:
    """The text of a line, up to `MAX_QUOTED_BYTES` of it, with broken UTF-8 as `\\xff`."""
    return line.rstrip(b"\r\n")[:MAX_QUOTED_BYTES].decode(errors="backslashreplace")


Tolerate = Callable[[bytes, int], tuple[ParsedRows, list[Rejected]]]


def read_lines(
    block: UInt8Array,
    first_line: int,
    scan: Callable[[UInt8Array, Columns, Int64Array], tuple[int, int]],
    tolerate: Tolerate,
    is_whole: Callable[[bytes], bool],
) -> tuple[Rows, list[Rejected]]:
    """Reads a block of lines with the compiled `scan`, and what it leaves with `tolerate`. Blank
    lines are passed over, and not counted in `first_line` or on the way.

    scan(block, columns, left) → (rows read, lines left), see `kaggle_scan.scan_lines`;
    tolerate(line, its number) → one row or one rejected line; is_whole(line): whether a line that
    cannot be read, and lacks its line feed, lacks nothing else.
    """
    unended = len(block) > 0 and block[-1] != LINE_FEED
    if unended:
        block = np.append(block, np.uint8(LINE_FEED))
    lines = count_lines(block)
    columns = Columns.for_block(lines, len(block))
    left = np.empty((lines, 3), np.int64)
    count, left_over = scan(block, columns, left)
    rows = columns.rows(count)
    if not left_over:
        return rows, []
    parsed, rejected, parsed_lines = ParsedRows(), [], []
    for line, start, end in left[:left_over].tolist():
        row, refused = _tolerated(block[start:end], first_line + line, tolerate)
        is_last = unended and end == len(block)
        if is_last and refused and not is_whole(block[start:end].tobytes()):
            refused = [
                replace(r, reason=CUT_SHORT, found=f"{r.reason}, {r.found}") for r in refused
            ]
        rejected += refused
        if len(row):
            parsed.extend(row)
            parsed_lines.append(line)
    if parsed_lines:
        order = np.argsort(np.concatenate([columns.lines[:count], parsed_lines]), kind="stable")
        rows = Rows.concat([rows, Rows.of(parsed)]).take(order)
    return rows, rejected


def _tolerated(
    line: UInt8Array, number: int, tolerate: Tolerate
) -> tuple[ParsedRows, list[Rejected]]:
    """What `tolerate` gives for a line that is not too long to be read."""
    if len(line) > MAX_LINE_BYTES:
        text = quoted(line[:MAX_QUOTED_BYTES].tobytes())
        found = f"found {len(line):,} bytes"
        return ParsedRows(), [Rejected(number, "line is longer than 16 MiB", text, found)]
    row, refused = tolerate(line.tobytes(), number)
    if len(line) > MAX_QUOTED_BYTES:
        text = quoted(line[:MAX_QUOTED_BYTES].tobytes())
        refused = [replace(rejected, text=text) for rejected in refused]
    return row, refused
