"""What a batch of drawings is in memory: columns, not objects.

All points of all drawings lie end to end in two arrays, so a batch is five buffers whatever its
size, can be memory-mapped, sliced, sent between threads and handed to compiled code as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
UInt64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

MAX_STROKE_POINTS = 65_535
"""Points of a stroke: the store keeps their number in 16 bits."""

Stroke = tuple[Sequence[int], Sequence[int]]
"""One stroke: its x coordinates and its y coordinates, equally many."""


@dataclass(frozen=True)
class DrawingBatch:
    """N simplified drawings, with S strokes and P points in all.

    x, y: uint8 [P]; stroke_lengths (points a stroke): uint16 [S]; point_offsets and
    stroke_offsets, where each drawing begins and the last ends: int64 [N + 1].
    """

    x: UInt8Array
    y: UInt8Array
    stroke_lengths: UInt16Array
    point_offsets: Int64Array
    stroke_offsets: Int64Array

    def __len__(self) -> int:
        return len(self.point_offsets) - 1

    @classmethod
    def from_strokes(cls, drawings: Iterable[Sequence[Stroke]]) -> "DrawingBatch":
        """Builds a batch from nested lists: drawing → stroke → (xs, ys), integers 0..255."""
        xs: list[int] = []
        ys: list[int] = []
        lengths: list[int] = []
        point_offsets, stroke_offsets = [0], [0]
        for drawing in drawings:
            for stroke_x, stroke_y in drawing:
                if len(stroke_x) != len(stroke_y):
                    raise ValueError(f"a stroke of {len(stroke_x)} x and {len(stroke_y)} y")
                xs.extend(stroke_x)
                ys.extend(stroke_y)
                lengths.append(len(stroke_x))
            point_offsets.append(len(xs))
            stroke_offsets.append(len(lengths))
        return cls(
            np.array(xs, np.uint8),
            np.array(ys, np.uint8),
            np.array(lengths, np.uint16),
            np.array(point_offsets, np.int64),
            np.array(stroke_offsets, np.int64),
        )

    @classmethod
    def from_packed(
        cls, x: Sequence[bytes], y: Sequence[bytes], stroke_lengths: Sequence[bytes]
    ) -> "DrawingBatch":
        """Builds a batch from each drawing's packed bytes, the form of the store's columns."""
        return cls._from_ragged(joined_bytes(x), joined_bytes(y), joined_bytes(stroke_lengths))

    @classmethod
    def from_columns(cls, x: pa.Array, y: pa.Array, stroke_lengths: pa.Array) -> "DrawingBatch":
        """Views three binary Arrow columns of the store as a batch, without copying points."""
        columns = map(_binary_buffers, (x, y, stroke_lengths))
        return cls._from_ragged(*columns)

    @classmethod
    def _from_ragged(
        cls,
        x: tuple[UInt8Array, Int64Array],
        y: tuple[UInt8Array, Int64Array],
        stroke_lengths: tuple[UInt8Array, Int64Array],
    ) -> "DrawingBatch":
        """Of the bytes of each column, end to end, and their offsets."""
        (x_values, point_offsets), (y_values, y_offsets) = x, y
        lengths, byte_offsets = stroke_lengths
        if not np.array_equal(point_offsets, y_offsets):
            raise ValueError("the x and y columns differ in length in some drawing")
        return cls(x_values, y_values, lengths.view("<u2"), point_offsets, byte_offsets // 2)

    def strokes(self, index: int) -> list[tuple[list[int], list[int]]]:
        """Drawing `index` as nested lists, the form of the CSV's JSON."""
        start = int(self.point_offsets[index])
        strokes = []
        for length in self.stroke_lengths[
            self.stroke_offsets[index] : self.stroke_offsets[index + 1]
        ]:
            end = start + int(length)
            strokes.append((self.x[start:end].tolist(), self.y[start:end].tolist()))
            start = end
        return strokes

    @classmethod
    def concat(cls, parts: Sequence["DrawingBatch"]) -> "DrawingBatch":
        """The drawings of all `parts`, one after the other."""
        return cls(
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.stroke_lengths for part in parts]),
            joined_offsets([part.point_offsets for part in parts]),
            joined_offsets([part.stroke_offsets for part in parts]),
        )

    def take(self, indices: npt.NDArray[Any]) -> "DrawingBatch":
        """Gathers drawings in the order of `indices` (int [M]) into a batch of its own."""
        points, point_offsets = ragged_indices(self.point_offsets, indices)
        strokes, stroke_offsets = ragged_indices(self.stroke_offsets, indices)
        return DrawingBatch(
            self.x[points],
            self.y[points],
            self.stroke_lengths[strokes],
            point_offsets,
            stroke_offsets,
        )


def _binary_buffers(column: pa.Array) -> tuple[UInt8Array, Int64Array]:
    """Values uint8 and offsets int64 [N + 1], starting at 0, of a binary Arrow array."""
    _, offsets_buffer, values_buffer = column.buffers()
    if offsets_buffer is None or len(column) == 0:
        return np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int64)
    first, last = column.offset, column.offset + len(column) + 1
    width = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(offsets_buffer, width)[first:last].astype(np.int64)
    if values_buffer is None:
        return np.empty(0, np.uint8), offsets - offsets[0]
    values = np.frombuffer(values_buffer, np.uint8)[offsets[0] : offsets[-1]]
    return values, offsets - offsets[0]


def joined_bytes(values: Sequence[bytes]) -> tuple[UInt8Array, Int64Array]:
    """All of N byte strings end to end, uint8, and their offsets, int64 [N + 1]."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return np.frombuffer(b"".join(values), np.uint8), offsets


def ragged_indices(offsets: Int64Array, rows: npt.NDArray[Any]) -> tuple[Int64Array, Int64Array]:
    """Indices of all elements of the ragged `rows`, end to end, and their new offsets."""
    starts = np.asarray(offsets[rows], np.int64)
    lengths = np.asarray(offsets[np.asarray(rows) + 1], np.int64) - starts
    new_offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=new_offsets[1:])
    elements = np.arange(new_offsets[-1], dtype=np.int64)
    return elements + np.repeat(starts - new_offsets[:-1], lengths), new_offsets


def joined_offsets(parts: Sequence[Int64Array]) -> Int64Array:
    """Offsets (int64 [N + 1] each, from 0) of ragged arrays that are put end to end."""
    starts = np.cumsum([0, *(int(offsets[-1]) for offsets in parts)])
    moved = [offsets[1:] + start for offsets, start in zip(parts, starts[:-1], strict=True)]
    return np.concatenate([np.zeros(1, np.int64), *moved])
