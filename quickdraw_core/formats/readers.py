"""What a format is to the ingest: where rows end, and what stands in them.

A reader is small and picklable, so it can travel to a worker; it holds no open file. It works
on blocks of bytes, and whoever feeds it decides how large they are.
"""

from typing import Protocol

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.formats.binary import BinaryReader
from quickdraw_core.formats.detect import FileFormat, Header, Layout
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.ndjson import NdjsonReader
from quickdraw_core.formats.rows import CUT_SHORT, Rejected, Rows


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

    def read(
        self, block: UInt8Array, first_line: int, rows: int | None = None
    ) -> tuple[Rows, list[Rejected]]:
        """Reads all rows of a block (uint8 [B]); the last one may be cut off. rows: how many it
        has, for which room is made: a smaller number breaks the program; None: they are counted.

        Rows in the block = rows + rejected; both in the order of the file. A last row that cannot
        be read since it lacks its end is rejected as `CUT_SHORT`.
        """

    def quote(self, row: bytes) -> str:
        """A row as it stands in the quarantine: its text, or its bytes in hex."""


def is_cut(reader: RowReader, row: UInt8Array) -> bool:
    """Whether the last row of a file (uint8 [B]), which lacks its end, is cut off.

    False if all of it is there but a line's line feed.
    """
    _, rejected = reader.read(row, reader.first_line)
    return bool(rejected) and rejected[-1].reason == CUT_SHORT


def reader_for(file_format: FileFormat, word: str | None) -> RowReader:
    """The reader of a file of this format whose rows all draw `word`; None if it has none."""
    if file_format.layout is Layout.CSV:
        return KaggleReader(Header(file_format.header or ()), word, file_format.raw)
    if file_format.layout is Layout.NDJSON:
        return NdjsonReader(word, file_format.raw)
    return BinaryReader(word)
