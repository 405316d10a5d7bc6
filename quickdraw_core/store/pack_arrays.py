"""The arrays of a pack: their types, their lengths, and what the drawings of a file fill. Pure."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.formats.rows import UNKNOWN_RECOGNIZED
from quickdraw_core.store.columns import numbers_of
from quickdraw_core.store.holdout import HoldoutRule
from quickdraw_core.store.manifest import Manifest

ARRAYS = {
    "x": np.uint8,
    "y": np.uint8,
    "stroke_lengths": np.uint16,
    "point_offsets": np.int64,
    "stroke_offsets": np.int64,
    "labels": np.uint16,
    "key_ids": np.uint64,
    "splits": np.uint8,
    "recognized": np.uint8,
}


class Position(NamedTuple):
    """How many drawings, points and strokes are in the pack before those of a file."""

    row: int = 0
    point: int = 0
    stroke: int = 0


def array_lengths(manifest: Manifest) -> dict[str, int]:
    """The length of each array of the pack of a store."""
    strokes = sum(file.strokes for file in manifest.files)
    lengths = dict.fromkeys(ARRAYS, manifest.rows_kept)
    lengths |= dict.fromkeys(("x", "y"), sum(file.points for file in manifest.files))
    offsets = dict.fromkeys(("point_offsets", "stroke_offsets"), manifest.rows_kept + 1)
    return lengths | {"stroke_lengths": strokes} | offsets


def pack_bytes(manifest: Manifest) -> int:
    """What the arrays of the pack of a store take on the disk, but for their headers."""
    lengths = array_lengths(manifest)
    return sum(length * np.dtype(ARRAYS[name]).itemsize for name, length in lengths.items())


def packed_columns(
    table: pa.Table, label: int, holdout: HoldoutRule, start: Position
) -> dict[str, tuple[slice, npt.NDArray[Any]]]:
    """The part of each array of a pack that the drawings of a file fill, and its values.

    table: the columns of the file; start: where its drawings begin.
    """
    batch = DrawingBatch.from_columns(
        *(table[name].combine_chunks() for name in ("x", "y", "stroke_lengths"))
    )
    key_ids = numbers_of(table["key_id"])
    rows = slice(start.row, start.row + len(batch))
    points = slice(start.point, start.point + len(batch.x))
    strokes = slice(start.stroke, start.stroke + len(batch.stroke_lengths))
    offsets = slice(rows.start, rows.stop + 1)
    return {
        "x": (points, batch.x),
        "y": (points, batch.y),
        "stroke_lengths": (strokes, batch.stroke_lengths),
        "point_offsets": (offsets, batch.point_offsets + start.point),
        "stroke_offsets": (offsets, batch.stroke_offsets + start.stroke),
        "labels": (rows, np.full(len(batch), label)),
        "key_ids": (rows, key_ids),
        "splits": (rows, holdout.split(key_ids)),
        "recognized": (rows, _recognized(table["recognized"])),
    }


def _recognized(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """The store's `recognized` as a pack holds it: 0, 1 or UNKNOWN_RECOGNIZED, uint8 [N]."""
    is_known = column.is_valid()
    is_recognized = pc.and_kleene(column, is_known)  # False if it is null
    numbers = numbers_of(is_recognized.cast("uint8"))
    return np.where(numbers_of(is_known.cast("uint8")), numbers, np.uint8(UNKNOWN_RECOGNIZED))
