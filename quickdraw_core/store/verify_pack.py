"""Whether the pack of a store, if there is one, still holds what the store holds.

A pack has no checksums of its own; it is compared with the drawings while they are in memory.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from quickdraw_core.errors import StoreError
from quickdraw_core.stage import Opened
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.pack import Pack, is_packed, opened_pack, pack_folder
from quickdraw_core.store.pack_arrays import Position, array_lengths, packed_columns
from quickdraw_core.store.store import Store


@dataclass(frozen=True)
class PackedPart:
    """Where the drawings of one file are in the pack, if both are as the manifest says."""

    pack: Pack
    label: int
    start: Position

    def difference(self, table: pa.Table) -> str | None:
        """The first array of the pack that has other values than a file's columns, if any."""
        arrays = self.pack.arrays
        columns = packed_columns(table, self.label, self.pack.holdout, self.start)
        for name, (part, values) in columns.items():
            if not np.array_equal(arrays[name][part], values):
                return name
        return None


def find_pack(store: Store, opened: Opened) -> tuple[Pack | None, list[str], list[str]]:
    """The pack of the store as it is now, if there is one; problems; notes on other packs.

    Problems: it cannot be opened, or its arrays have other lengths than the manifest says.
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
    for name, length in array_lengths(manifest).items():
        array = pack.arrays[name]
        if array.shape != (length,):
            return f"has {name} of {array.size:,} values, the manifest asks for {length:,}"
    return None


def packed_parts(pack: Pack, manifest: Manifest) -> dict[str, PackedPart]:
    """Where each file's drawings are in the pack, by the file's path."""
    index = pack.label_map.index
    parts: dict[str, PackedPart] = {}
    start = Position()
    files = [file for file in manifest.files if file.word in index]
    for file in sorted(files, key=lambda file: (index[file.word or ""], file.first_row)):
        parts[file.path] = PackedPart(pack, index[file.word or ""], start)
        row, point, stroke = start
        start = Position(row + file.rows, point + file.points, stroke + file.strokes)
    return parts
