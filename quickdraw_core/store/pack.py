"""The pack: the store as flat arrays on disk, memory-mapped and shared by all processes.

Built once from the store and named by its fingerprint, so a pack never outlives the data that it
was made from: in `STORE/pack/` of a local store, in `packs/` of this machine's cache folder for a
store elsewhere. Any drawing is found in O(1); a process touches only the pages that it reads.
Parquet stays the form that people query; the pack is the form that feeds training.

Processes that ask for the same pack at once build it once: the first locks the folder, the
others wait. If the file system knows no locks, each builds one, and the first one stays.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt16Array, UInt64Array
from quickdraw_core.errors import StoreError, WriteError
from quickdraw_core.labels import LabelMap
from quickdraw_core.progress import Bar, progress
from quickdraw_core.stage import Opened
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.storage.storage import PACKS
from quickdraw_core.store.holdout import HoldoutRule, Split
from quickdraw_core.store.pack_arrays import ARRAYS, Position, array_lengths, packed_columns
from quickdraw_core.store.store import Store
from quickdraw_core.system.files import cache_folder, cause_of, is_cause
from quickdraw_core.system.locks import POLL_SECONDS, try_lock

PACK_VERSION = 1

_FACTS_NAME = "pack.json"
_STORE_NAME = "store.txt"
"""In a pack of the cache folder: the address of its store."""


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

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All arrays, by name."""
        values = vars(self) | vars(self.drawings)
        return {name: values[name] for name in ARRAYS}

    def rows(self, split: Split, label: int | None = None) -> Int64Array:
        """Indices of the drawings of one side of the holdout, of one class if given: int64 [n]."""
        if label is None:
            return np.flatnonzero(self.splits == split)
        first, end = class_starts(self.labels, np.array([label, label + 1]))
        rows: Int64Array = np.flatnonzero(self.splits[first:end] == split) + first
        return rows

    def test_rows(self, per_class: int) -> Int64Array:
        """The test drawings to judge on, as `first_rows` has them."""
        return self.first_rows(Split.TEST, per_class)

    def first_rows(self, split: Split, per_class: int) -> Int64Array:
        """Drawings of one side of the holdout: of each class the `per_class` smallest hashes.

        Returns their rows, int64 [n], ascending; a class with fewer gives what it has.
        """
        chosen = []
        for label in range(len(self.label_map)):
            rows = self.rows(split, label)
            order = np.argsort(self.holdout.hashes(self.key_ids[rows]), kind="stable")
            chosen.append(np.sort(rows[order[:per_class]]))
        return np.concatenate(chosen)


def class_starts(labels: UInt16Array, classes: npt.NDArray[np.integer]) -> Int64Array:
    """Where in ascending labels, uint16 [N], each of some classes begins: int64 [n].

    `np.searchsorted` alone would copy all labels to compare them with numbers of another kind.
    """
    starts: Int64Array = np.searchsorted(labels, classes.astype(labels.dtype))
    return starts


def open_pack(store: Store) -> Pack:
    """Opens the store's pack, and builds it first if it is missing.

    Raises `WriteError` if it cannot be built, `StoreError` if it cannot be opened.
    """
    return _open(store, _packed(store))


def opened_pack(store: Store, opened: Opened) -> Pack:
    """What `open_pack` returns: once, until the pack is built again."""
    folder = _packed(store)
    version = LocalStorage(folder).version(_FACTS_NAME)
    return opened.once(("pack", folder), lambda: _open(store, folder), version)


def _packed(store: Store) -> Path:
    """The folder of the store's pack, which is built first if it is missing."""
    folder = pack_folder(store)
    if not is_packed(folder):
        try:
            _build_once(store, folder)
        except OSError as error:
            raise WriteError(f"cannot write the pack {folder}: {cause_of(error)}") from error
    return folder


def _open(store: Store, folder: Path) -> Pack:
    fingerprint = store.manifest.fingerprint
    if not isinstance(store.path, Path):
        with suppress(OSError):
            os.utime(folder)  # shows when a pack of the cache was last used
    try:
        # As plain arrays: with numpy's class for mapped ones each slice and each call of
        # compiled code costs microseconds more.
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ARRAYS
        }
        recorded = json.loads((folder / _FACTS_NAME).read_text("utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_cause(error):
            raise StoreError(f"cannot open the pack {folder}: {cause_of(error)}") from error
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


def pack_folder(store: Store) -> Path:
    """Where the pack of a store is, or would be."""
    name = store.manifest.fingerprint[:16]
    if isinstance(store.path, Path):
        return store.path / PACKS / name
    return (cache_folder("packs") / name).absolute()


def is_packed(folder: Path) -> bool:
    """Whether a whole pack is there."""
    return (folder / _FACTS_NAME).is_file()


def _build_once(store: Store, folder: Path) -> None:
    """Builds a pack, unless another process has done so meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        progress("pack", store.manifest.rows_kept, "drawings") as bar,
        _locked(folder.parent, bar) as alone,
    ):
        if is_packed(folder):
            return
        if alone:  # what is left of packs that were never finished
            for left in folder.parent.glob(".*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
        _build(store, folder, bar)
        _remove_outdated(store, folder)


@contextmanager
def _locked(folder: Path, bar: Bar) -> Iterator[bool]:
    """Locks a folder, until this process ends at most; False if the file system has no locks."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        while (is_locked := try_lock(opened)) is False:
            bar.note("waiting for another process that builds a pack")
            time.sleep(POLL_SECONDS)
        bar.note("")
        yield is_locked is True
    finally:
        os.close(opened)


def _build(store: Store, folder: Path, bar: Bar) -> None:
    """Copies the store's columns into flat arrays, beside `folder`, then renames."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        arrays = _create(temporary, store)
        start = Position()
        for label, table in store.tables():
            columns = packed_columns(table, label, store.manifest.holdout, start)
            for name, (part, values) in columns.items():
                arrays[name][part] = values
            start = Position(*(columns[n][0].stop for n in ("labels", "x", "stroke_lengths")))
            bar.advance(len(table))
        for array in arrays.values():
            array.flush()
        if not isinstance(store.path, Path):
            (temporary / _STORE_NAME).write_text(f"{store.path}\n", "utf-8")
        facts = {"version": PACK_VERSION, "fingerprint": store.manifest.fingerprint}
        (temporary / _FACTS_NAME).write_text(json.dumps(facts), "utf-8")
        if not is_packed(folder):  # at most the rest of one that was deleted
            shutil.rmtree(folder, ignore_errors=True)
        try:
            temporary.rename(folder)
        except OSError:
            if not is_packed(folder):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_outdated(store: Store, folder: Path) -> None:
    """Deletes packs of earlier contents of the store; processes that have one open keep it."""
    for old in folder.parent.iterdir():
        if old == folder or old.name.startswith("."):
            continue
        if isinstance(store.path, Path) or store_of_pack(old) == str(store.path):
            shutil.rmtree(old, ignore_errors=True)


def packs_in(folder: Path) -> list[Path]:
    """The packs in the `pack/` of a store or of the cache folder, and what is left of unfinished
    ones (`is_packed` is false of those).
    """
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.is_dir())
    return []


def remove_pack(folder: Path) -> bool:
    """Deletes a pack, if no process builds one beside it now; returns whether it did. Processes
    that have it open keep it. A kill leaves what the next build deletes.
    """
    opened = os.open(folder.parent, os.O_RDONLY)
    try:
        if try_lock(opened) is False:
            return False
        aside = folder
        if not folder.name.startswith("."):
            aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
            folder.rename(aside)
        shutil.rmtree(aside)
        return True
    finally:
        os.close(opened)


def store_of_pack(folder: Path) -> str | None:
    """The address of the store of a pack in the cache folder."""
    try:
        return (folder / _STORE_NAME).read_text("utf-8").strip()
    except OSError:
        return None


def _create(folder: Path, store: Store) -> dict[str, np.memmap[Any, Any]]:
    """Empty arrays on disk, with all their room. Raises `OSError` if there is too little."""
    arrays = {}
    for name, length in array_lengths(store.manifest).items():
        path = folder / f"{name}.npy"
        arrays[name] = np.lib.format.open_memmap(path, "w+", ARRAYS[name], (length,))
        if hasattr(os, "posix_fallocate"):  # macOS has none
            # A page without room on the disk would kill the process.
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return arrays
