"""Google's binary form: one record a drawing, little-endian, without padding; no header.

    uint64 key_id, 2 bytes countrycode, int8 recognized, uint32 seconds since 1970 UTC,
    uint16 strokes, and for each stroke: uint16 points, a byte of x each, a byte of y each

In: blocks of bytes. Out: `Rows` and, for each record that holds no drawing, a `Rejected` with
its reason, so that records in = rows out + rejected. Two zero bytes are the code of no country.

Nothing marks where a record begins, so a damaged length puts the reader out of step: what it
takes for the next record runs beyond the end of the file, and all the rest is refused as one,
with a reason of its own (`OUT_OF_STEP`). A record says no word: its file's name does.

Source of the form: `examples/binary_file_parser.py` of Google's `quickdraw-dataset`.
"""

from dataclasses import dataclass

import numpy as np

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.formats.lines import MAX_QUOTED_BYTES
from quickdraw_core.formats.rows import Rejected, Rows
from quickdraw_core.formats.scanning.binary_scan import (
    REASONS,
    columns_for,
    found_in,
    records_at_most,
    scan_records,
    skip_records,
)


@dataclass(frozen=True)
class BinaryReader:
    """Reads the records of one binary file: a `RowReader` whose line is a record's number.

    word: what all of them draw, or None; no record says another.
    """

    word: str | None

    first_line = 1

    def skip(self, block: UInt8Array, start: int, rows: int) -> tuple[int, int]:
        """See `RowReader.skip`."""
        end, passed = skip_records(block, start, rows)
        return int(end), int(passed)

    def holds_row(self, rest: UInt8Array) -> bool:
        """See `RowReader.holds_row`."""
        return len(rest) > 0

    def read(
        self, block: UInt8Array, first_line: int, rows: int | None = None
    ) -> tuple[Rows, list[Rejected]]:
        """See `RowReader.read`."""
        columns = columns_for(len(block))
        refused = np.empty((records_at_most(len(block)), 4), np.int64)
        count, refusals = scan_records(block, columns, refused)
        rejected = [
            Rejected(
                first_line + record,
                REASONS[fault],
                self.quote(block[start : min(end, start + MAX_QUOTED_BYTES)].tobytes()),
                found_in(block[start:end].tobytes(), fault),
            )
            for record, start, end, fault in refused[:refusals].tolist()
        ]
        return columns.rows(count), rejected

    def quote(self, row: bytes) -> str:
        """See `RowReader.quote`: the hex of a record, up to `MAX_QUOTED_BYTES` bytes of it."""
        return row[:MAX_QUOTED_BYTES].hex()
