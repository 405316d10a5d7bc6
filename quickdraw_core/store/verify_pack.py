"""Is the pack, where there is one, still the store in flat arrays?

A pack has no checksums of its own; it is compared with the drawings while they are in memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import StoreError
from quickdraw_core.stage import Opened
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.pack import (
    Pack,
    is_packed,
    opened_pack,
    pack_folder,
    recognized_of,
)
from quickdraw_core.store.reading import numbers_of
from quickdraw_core.store.store import Store


@dataclass(frozen=True)
class PackedPart:
    """Where the drawings of one file are in the pack, if both are as the manifest says."""

    pack: Pack
    label: int
    rows: slice
    points: slice
    strokes: slice

    def difference(self, table: pa.Table, sides: npt.NDArray[np.uint8]) -> str | None:
        """The first array of the pack that has other values than a file's columns.

        sides: the `Split` of each drawing, uint8 [N]. None: there is no difference.
        """
        batch = DrawingBatch.from_columns(
            *(table[name].combine_chunks() for name in ("x", "y", "stroke_lengths"))
        )
        drawings, ends = self.pack.drawings, slice(self.rows.start, self.rows.stop + 1)
        pairs: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
            "x": (drawings.x[self.points], batch.x),
            "y": (drawings.y[self.points], batch.y),
            "stroke_lengths": (drawings.stroke_lengths[self.strokes], batch.stroke_lengths),
            "point_offsets": (
                drawings.point_offsets[ends] - self.points.start,
                batch.point_offsets,
            ),
            "stroke_offsets": (
                drawings.stroke_offsets[ends] - self.strokes.start,
                batch.stroke_offsets,
            ),
            "labels": (self.pack.labels[self.rows], np.full(len(batch), self.label)),
            "key_ids": (self.pack.key_ids[self.rows], numbers_of(table["key_id"])),
            "splits": (self.pack.splits[self.rows], sides),
            "recognized": (self.pack.recognized[self.rows], recognized_of(table["recognized"])),
        }
        for name, (packed, stored) in pairs.items():
            if not np.array_equal(packed, stored):
                return name
        return None


def find_pack(store: Store, opened: Opened) -> tuple[Pack | None, list[str], list[str]]:
    """The pack of the store as it is now, if there is one; problems; notes on other packs.

    Problems: it cannot be opened, or its arrays have not the lengths that the manifest says.
    """
    folder = pack_folder(store)
    # Beside the pack of a store elsewhere lie those of other stores.
    beside = folder.parent if isinstance(store.path, Path) and folder.parent.is_dir() else None
    notes = [
        f"{other} is a pack that is not of this store, or of what it was before; nothing reads it"
        for other in (sorted(beside.iterdir()) if beside else ())
        if other != folder
    ]
    if not is_packed(folder):
        return None, [], notes
    try:
        pack = opened_pack(store, opened)
    except StoreError as error:
        return None, [str(error)], notes
    if fault := _length_fault(pack, store.manifest):
        return None, [f"the pack {folder} {fault}; delete that folder"], notes
    return pack, [], notes


def _length_fault(pack: Pack, manifest: Manifest) -> str | None:
    points = sum(file.points for file in manifest.files)
    strokes = sum(file.strokes for file in manifest.files)
    rows, drawings = manifest.rows_kept, pack.drawings
    lengths: dict[str, tuple[npt.NDArray[Any], int]] = {
        "x": (drawings.x, points),
        "y": (drawings.y, points),
        "stroke_lengths": (drawings.stroke_lengths, strokes),
        "point_offsets": (drawings.point_offsets, rows + 1),
        "stroke_offsets": (drawings.stroke_offsets, rows + 1),
        "labels": (pack.labels, rows),
        "key_ids": (pack.key_ids, rows),
        "splits": (pack.splits, rows),
        "recognized": (pack.recognized, rows),
    }
    for name, (array, length) in lengths.items():
        if array.shape != (length,):
            return f"has {name} of {array.size:,} values, the manifest asks for {length:,}"
    return None


def packed_parts(pack: Pack, manifest: Manifest) -> dict[str, PackedPart]:
    """Where each file's drawings are in the pack, by the file's path."""
    index = pack.label_map.index
    parts: dict[str, PackedPart] = {}
    row = point = stroke = 0
    files = [file for file in manifest.files if file.word in index]
    for file in sorted(files, key=lambda file: (index[file.word or ""], file.first_row)):
        rows, points = slice(row, row + file.rows), slice(point, point + file.points)
        strokes = slice(stroke, stroke + file.strokes)
        parts[file.path] = PackedPart(pack, index[file.word or ""], rows, points, strokes)
        row, point, stroke = rows.stop, points.stop, strokes.stop
    return parts
