"""Columns of a store as numpy arrays, and the sizes of drawings without their points."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quickdraw_core.drawing import Int64Array, UInt16Array


def numbers_of(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """A column of numbers without nulls, as numpy, read-only. `to_numpy` would import pandas."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.from_dlpack(array)


@dataclass(frozen=True)
class Lengths:
    """The sizes of N drawings with S strokes in all.

    of_strokes: points of each stroke, uint16 [S]; offsets: where each drawing's strokes begin
    and the last one's end, int64 [N + 1].
    """

    of_strokes: UInt16Array
    offsets: Int64Array

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Lengths":
        """The sizes of the drawings of a `stroke_lengths` column without nulls.

        Raises `ValueError` if a drawing has half a stroke length, an odd number of bytes.
        """
        import pyarrow.compute as pc  # half of what Arrow takes to import

        array = column.combine_chunks()
        sizes = numbers_of(pc.binary_length(array))
        if (sizes % 2).any():
            raise ValueError("stroke_lengths of an odd number of bytes")
        offsets = np.zeros(len(array) + 1, np.int64)
        np.cumsum(sizes // 2, out=offsets[1:])
        _, starts, values = array.buffers()
        if not offsets[-1] or values is None:
            return cls(np.empty(0, np.uint16), offsets)
        first = int(np.frombuffer(starts, np.int32)[array.offset])
        lengths = np.frombuffer(values, np.uint8)[first : first + 2 * int(offsets[-1])]
        return cls(lengths.view("<u2"), offsets)

    @property
    def strokes(self) -> Int64Array:
        """Strokes of each drawing: int64 [N]."""
        return np.diff(self.offsets)

    @property
    def points(self) -> Int64Array:
        """Points of each drawing: int64 [N]."""
        ends = np.zeros(len(self.of_strokes) + 1, np.int64)
        np.cumsum(self.of_strokes, out=ends[1:])
        points: Int64Array = np.diff(ends[self.offsets])
        return points
