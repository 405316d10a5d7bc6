"""What the formats of one row a line share. Lines that are strictly shaped go to compiled code,
the others one by one to a tolerant reader.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from quickdraw_core.drawing import Int64Array, UInt8Array
from quickdraw_core.formats.detect import BLANK
from quickdraw_core.formats.rows import CUT_SHORT, ParsedRows, Rejected, RowError, Rows
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.line_scan import (
    MAX_LINE_BYTES,
    is_blank,
    skip_rows,
)

LINE_FEED = 10
MAX_QUOTED_BYTES = 64 << 10
"""Of a refused line so much is quoted."""


class LineReader(ABC):
    """A `RowReader` of lines. A subclass says how a line is read, in both ways.

    A line of spaces and tabs alone is no row, as in `pandas.read_csv`, and no line is counted for
    it: the number of a row's line is that without blank ones.
    """

    first_line = 1

    @abstractmethod
    def scan(self, block: UInt8Array, columns: Columns, left: Int64Array) -> tuple[int, int]:
        """(rows read, lines left) of a block's strictly shaped lines: `kaggle_scan.scan_lines`."""

    @abstractmethod
    def parse_line(self, line: bytes) -> ParsedRows:
        """The one row of a line. Raises `RowError`."""

    @abstractmethod
    def is_whole(self, line: bytes) -> bool:
        """Whether a line that cannot be read, and lacks its line feed, lacks nothing else."""

    def skip(self, block: UInt8Array, start: int, rows: int) -> tuple[int, int]:
        """See `RowReader.skip`."""
        end, passed = skip_rows(block, start, rows)
        return int(end), int(passed)

    def holds_row(self, rest: UInt8Array) -> bool:
        """See `RowReader.holds_row`."""
        return not is_blank(rest, 0, len(rest))

    def quote(self, row: bytes) -> str:
        """See `RowReader.quote`."""
        return _quoted(row.rstrip(b"\r\n").rpartition(b"\n")[2])  # without blank lines before it

    def read(
        self, block: UInt8Array, first_line: int, rows: int | None = None
    ) -> tuple[Rows, list[Rejected]]:
        """See `RowReader.read`."""
        unended = len(block) > 0 and block[-1] != LINE_FEED
        if unended:
            block = np.append(block, np.uint8(LINE_FEED))
        if rows is None:
            _, rows = self.skip(block, 0, len(block))
        columns = Columns.for_block(rows + 1, len(block))  # a blank line is begun, too
        left = np.empty((rows, 3), np.int64)
        count, left_over = self.scan(block, columns, left)
        read = columns.rows(count)
        if not left_over:
            return read, []
        parsed, rejected, parsed_lines = ParsedRows(), [], []
        for number, start, end in left[:left_over].tolist():
            line = block[start:end].tobytes()
            row, refused = self.parse_lines([line], first_line + number)
            is_last = unended and end == len(block)
            if is_last and refused and not self.is_whole(line):
                (r,) = refused
                refused = [replace(r, reason=CUT_SHORT, found=f"{r.reason}, {r.found}")]
            rejected += refused
            if len(row):
                parsed.extend(row)
                parsed_lines.append(number)
        if parsed_lines:
            numbers = np.concatenate([columns.lines[:count], parsed_lines])
            read = Rows.concat([read, Rows.of(parsed)]).take(np.argsort(numbers, kind="stable"))
        return read, rejected

    def parse_lines(
        self, lines: Iterable[bytes], first_line: int
    ) -> tuple[ParsedRows, list[Rejected]]:
        """Reads lines one by one; `first_line` is the number of the first one. Blank lines are
        passed over. Lines = rows + rejected, always.
        """
        rows, rejected = ParsedRows(), []
        for number, line in enumerate((line for line in lines if line.strip(BLANK)), first_line):
            try:
                if len(line) > MAX_LINE_BYTES:
                    raise RowError("line is longer than 16 MiB", f"found {len(line):,} bytes")
                rows.extend(self.parse_line(line))
            except RowError as error:
                rejected.append(Rejected(number, str(error), _quoted(line), error.found))
        return rows, rejected


def _quoted(line: bytes) -> str:
    """The text of a line, up to `MAX_QUOTED_BYTES` of it, with broken UTF-8 as `\\xff`."""
    return line.rstrip(b"\r\n")[:MAX_QUOTED_BYTES].decode(errors="backslashreplace")
