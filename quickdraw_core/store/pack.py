"""The pack: the store as flat arrays on disk, memory-mapped and shared by all processes.

Built once from the store and named by its fingerprint (`STORE/pack/<fingerprint>/`), so a pack
never outlives the data that it was made from. Any drawing is found in O(1); a process touches
only the pages that it reads. Parquet stays the form that people query; the pack is the form
that feeds training.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt16Array
from quickdraw_core.errors import StoreError
from quickdraw_core.labels import LabelMap
from quickdraw_core.progress import progress
from quickdraw_core.store.holdout import HoldoutRule, Split, UInt64Array
from quickdraw_core.store.store import Store

PACK_VERSION = 1

_ARRAYS = {
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

UNKNOWN_RECOGNIZED = 2
"""Value of `recognized` where the source does not say; else 0 or 1."""


@dataclass(frozen=True)
class Pack:
    """N drawings of a store, ordered by label.

    labels: uint16 [N]; key_ids: uint64 [N]; splits (`Split`): uint8 [N]; recognized: uint8 [N].
    """

    path: Path
    fingerprint: str
    label_map: LabelMap
    holdout: HoldoutRule
    drawings: DrawingBatch
    labels: UInt16Array
    key_ids: UInt64Array
    splits: npt.NDArray[np.uint8]
    recognized: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: Split, label: int | None = None) -> Int64Array:
        """Indices of the drawings of one side of the holdout, of one class if given."""
        chosen = self.splits == split
        if label is not None:
            chosen &= self.labels == label
        return np.flatnonzero(chosen)

    def test_rows(self, per_class: int) -> Int64Array:
        """The test drawings to judge on: of each class the `per_class` smallest hashes."""
        chosen = []
        for label in range(len(self.label_map)):
            rows = self.rows(Split.TEST, label)
            order = np.argsort(self.holdout.hashes(self.key_ids[rows]), kind="stable")
            chosen.append(np.sort(rows[order[:per_class]]))
        return np.concatenate(chosen)


def open_pack(store: Store) -> Pack:
    """Opens the store's pack, building it first where it is not there."""
    fingerprint = store.manifest.fingerprint
    folder = store.path / "pack" / fingerprint[:16]
    if not (folder / "pack.json").is_file():
        _build(store, folder)
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        recorded = json.loads((folder / "pack.json").read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot open the pack {folder}: {error}; delete that folder") from error
    if recorded != {"version": PACK_VERSION, "fingerprint": fingerprint}:
        raise StoreError(f"the pack {folder} was made by another version; delete that folder")
    columns = [arrays.pop(n) for n in ("x", "y", "stroke_lengths")]
    offsets = [arrays.pop(n) for n in ("point_offsets", "stroke_offsets")]
    return Pack(
        folder,
        fingerprint,
        store.label_map,
        store.manifest.holdout,
        DrawingBatch(*columns, *offsets),
        **arrays,
    )


def _build(store: Store, folder: Path) -> None:
    """Copies the store's columns into flat arrays, beside `folder`, then renames."""
    files = store.manifest.files
    drawings = sum(file.rows for file in files)
    points = sum(file.points for file in files)
    strokes = sum(file.strokes for file in files)
    lengths = {"x": points, "y": points, "stroke_lengths": strokes}
    lengths |= {"point_offsets": drawings + 1, "stroke_offsets": drawings + 1}
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        arrays = {
            name: np.lib.format.open_memmap(
                temporary / f"{name}.npy", "w+", dtype, (lengths.get(name, drawings),)
            )
            for name, dtype in _ARRAYS.items()
        }
        with progress("pack", drawings, "drawings") as bar:
            row = point = stroke = 0
            for label, table in store.tables():
                columns = (table[name].combine_chunks() for name in ("x", "y", "stroke_lengths"))
                batch = DrawingBatch.from_columns(*columns)
                rows = slice(row, row + len(batch))
                arrays["x"][point : point + len(batch.x)] = batch.x
                arrays["y"][point : point + len(batch.y)] = batch.y
                arrays["stroke_lengths"][stroke : stroke + len(batch.stroke_lengths)] = (
                    batch.stroke_lengths
                )
                arrays["point_offsets"][rows.start + 1 : rows.stop + 1] = (
                    batch.point_offsets[1:] + point
                )
                arrays["stroke_offsets"][rows.start + 1 : rows.stop + 1] = (
                    batch.stroke_offsets[1:] + stroke
                )
                key_ids = table["key_id"].to_numpy()
                arrays["labels"][rows] = label
                arrays["key_ids"][rows] = key_ids
                arrays["splits"][rows] = store.manifest.holdout.split(key_ids)
                arrays["recognized"][rows] = (
                    table["recognized"].cast("uint8").fill_null(UNKNOWN_RECOGNIZED).to_numpy()
                )
                row, point, stroke = (
                    rows.stop,
                    point + len(batch.x),
                    stroke + len(batch.stroke_lengths),
                )
                bar.advance(len(batch))
        for array in arrays.values():
            array.flush()
        (temporary / "pack.json").write_text(
            json.dumps({"version": PACK_VERSION, "fingerprint": store.manifest.fingerprint})
        )
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in folder.parent.iterdir():  # packs of what the store was before
        if old != folder and not old.name.startswith("."):
            shutil.rmtree(old, ignore_errors=True)
