"""Room for the rows of a block, which the compiled readers fill."""

from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt8Array, UInt16Array, UInt64Array
from quickdraw_core.formats.rows import Rows
from quickdraw_core.system.scratch import scratch

MAX_COUNTRY_BYTES = 8

# The shortest texts there are, which bound what a block can hold.
_BYTES_PER_POINT = 2  # "0,": x comes first, so a refused stroke may be all x
_BYTES_PER_STROKE = 10  # "[[0],[0]],"


class Columns(NamedTuple):
    """Room for the rows of one block: the arrays of `Rows`, and `lines`, int64 [N], the line
    of the block that each row stood in.
    """

    lines: Int64Array
    key_ids: UInt64Array
    recognized: UInt8Array
    timestamps_us: Int64Array
    country_bytes: UInt8Array
    country_offsets: Int64Array
    x: UInt8Array
    y: UInt8Array
    stroke_lengths: UInt16Array
    point_offsets: Int64Array
    stroke_offsets: Int64Array

    @classmethod
    def for_block(cls, lines: int, size_bytes: int) -> "Columns":
        """Room for whatever a block of `lines` lines and `size_bytes` bytes can hold."""
        points = size_bytes // _BYTES_PER_POINT + 1
        return cls.empty(
            lines, points, size_bytes // _BYTES_PER_STROKE + 1, lines * MAX_COUNTRY_BYTES
        )

    @classmethod
    def empty(cls, rows: int, points: int, strokes: int, country_bytes: int) -> "Columns":
        """Room for so many rows, points, strokes and bytes of country codes.

        The pages of what is not filled are never touched, so they cost no memory.
        """
        columns = cls(
            scratch(rows, np.int64),
            scratch(rows, np.uint64),
            scratch(rows),
            scratch(rows, np.int64),
            scratch(country_bytes),
            scratch(rows + 1, np.int64),
            scratch(points),
            scratch(points),
            scratch(strokes, np.uint16),
            scratch(rows + 1, np.int64),
            scratch(rows + 1, np.int64),
        )
        for offsets in (columns.country_offsets, columns.point_offsets, columns.stroke_offsets):
            offsets[0] = 0
        return columns

    def rows(self, count: int) -> Rows:
        """The first `count` rows, as views."""
        points, strokes = self.point_offsets[count], self.stroke_offsets[count]
        return Rows(
            self.key_ids[:count],
            self.recognized[:count],
            self.timestamps_us[:count],
            self.country_bytes[: self.country_offsets[count]],
            self.country_offsets[: count + 1],
            DrawingBatch(
                self.x[:points],
                self.y[:points],
                self.stroke_lengths[:strokes],
                self.point_offsets[: count + 1],
                self.stroke_offsets[: count + 1],
            ),
        )
