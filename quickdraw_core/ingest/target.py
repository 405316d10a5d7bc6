"""Where an ingest writes its windows, and how they become the store.

In: windows of Parquet, quarantine and receipts, one after the other. Out: a store that is the
earlier or the new one at any time, except during the last renames. A new store is written in
place. If a store can be read already, windows go to `STORE/unfinished` and are moved once all are
done, so that an ingest that fails leaves the earlier store unchanged. Windows of classes that
were left out stay there: a later ingest uses them, and people read their quarantine.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.cluster.environment import launcher_job
from quickdraw_core.errors import ConfigError, StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.receipts import Receipt, find_receipt
from quickdraw_core.names import is_word
from quickdraw_core.storage.begun_by import note_begun
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location
from quickdraw_core.storage.storage import PACKS, Storage
from quickdraw_core.store.manifest import (
    CROISSANT_NAME,
    MANIFEST_NAME,
    PREVIOUS_NAME,
    README_NAME,
    UNFINISHED,
    Manifest,
)
from quickdraw_core.store.schema import part_name, receipt_path
from quickdraw_core.system.files import require_writable
from quickdraw_core.system.locks import held, require_free
from quickdraw_core.system.prefetch import on_threads

FRESH_NAME = f"{UNFINISHED}/fresh"
"""Written when an ingest with --fresh begins beside a store that can be read. Until an ingest has
finished, with --fresh or without, windows of the earlier store are not used.
"""

_FOLDERS = ("drawings", "quarantine", "receipts")


def check_target(store: Location) -> None:
    """Raises `StoreError` for a folder of something else, `BusyError` if it is in use."""
    try:
        inside = storage_of(store).top() or ()
    except NotADirectoryError:
        raise StoreError(f"{store} is a file; give a folder for the store") from None
    ours = {MANIFEST_NAME, PREVIOUS_NAME, *_FOLDERS, UNFINISHED, PACKS}
    is_store = not {MANIFEST_NAME, PREVIOUS_NAME}.isdisjoint(inside)
    if is_store or (ours.intersection(inside) and CROISSANT_NAME in inside):
        # A README.md by itself is of something else; in a store it stays if it is not the card's.
        ours |= {CROISSANT_NAME, README_NAME}
    strangers = [name for name in inside if name not in ours and name[0] != "."]
    if strangers:
        raise StoreError(
            f"{store} is not a store: it holds {', '.join(sorted(strangers)[:3])}; "
            "give a new or empty folder"
        )
    lock = _lock_of(store)
    if lock is not None:
        require_free(lock, str(store))


@contextmanager
def alone(store: Location) -> Iterator[None]:
    """A block in which no other ingest works on a store. There is no lock if its file cannot be
    written: a store that is only read, or one in an object store, for a user without a cache.
    """
    lock = _lock_of(store)
    try:
        if lock is not None:
            require_writable(lock.parent)
    except ConfigError:
        lock = None
    with held(lock, str(store), "ingest") if lock is not None else nullcontext():
        yield


def _lock_of(store: Location) -> Path | None:
    try:
        return storage_of(store).lock
    except ConfigError:  # no home folder, and so no cache
        return None


@dataclass(frozen=True)
class Target:
    """Where windows are written and looked for, and what their receipts report; a small value
    that goes to workers.

    salt: of the holdout rule; smallest: how many holdout hashes a receipt reports; staged: new
    windows go to `STORE/unfinished`; searched: where earlier windows are looked for, True
    meaning there and False the store itself.
    """

    store: Location
    salt: int
    smallest: int
    staged: bool = False
    searched: tuple[bool, ...] = (False,)

    def storage(self, staged: bool) -> Storage:
        """What windows are written to and read from: the store, or its `unfinished`."""
        return storage_of(self.store / UNFINISHED if staged else self.store)

    def path_of(self, receipt: Receipt) -> str:
        """Where the drawings of a window lie now, relative to the store."""
        return f"{UNFINISHED}/{receipt.file.path}" if receipt.staged else receipt.file.path

    def find(self, word: str | None, first_row: int, key: str) -> Receipt | None:
        """The receipt of a window that is done, in any searched place, if it has this key."""
        for staged in self.searched:
            receipt = find_receipt(self.storage(staged), receipt_path(word, first_row), key)
            if receipt is not None:
                return receipt.model_copy(update={"staged": staged})
        return None


def open_target(config: IngestConfig) -> Target:
    """Prepares a store for an ingest; what can be read there stays so."""
    store, fresh = config.store, config.fresh
    storage = storage_of(store)
    readable = storage.is_file(MANIFEST_NAME)
    is_new = not (readable or {"receipts", UNFINISHED} & set(storage.top() or ()))
    if fresh:
        storage.remove_tree(UNFINISHED)
        if readable:
            storage.write(FRESH_NAME, b"an ingest with --fresh is at work\n")
        else:
            storage.remove_tree("receipts")
            storage.remove(PREVIOUS_NAME)
    job = launcher_job(os.environ)
    if fresh or (is_new and job):
        note_begun(storage, job)
    in_store = not (readable and (fresh or is_begun_anew(store)))
    in_unfinished = readable or UNFINISHED in (storage.top() or ())
    searched = (False,) * in_store + (True,) * in_unfinished
    return Target(store.absolute(), config.salt, config.test_per_class, readable, searched)


def is_begun_anew(store: Location) -> bool:
    """Whether an ingest with --fresh was begun there and has not finished."""
    return storage_of(store).is_file(FRESH_NAME)


def publish(
    target: Target,
    manifest: Manifest,
    card: Mapping[str, bytes],
    receipts: Iterable[Receipt],
    left_out: Iterable[str | None],
) -> None:
    """Makes the windows of `receipts` the store, and nothing else; `manifest` is its record.

    card: name → content of the files that describe it. left_out: words whose windows are kept in
    `unfinished`; what cannot be a word has none. If the process is killed here, the store counts
    as unfinished, with all that the next ingest needs.
    """
    storage, anew = storage_of(target.store), is_begun_anew(target.store)
    words = [word for word in left_out if word is None or is_word(word)]
    kept = {part_name(word, 0).partition("/")[0] for word in words}
    # Written while the old one is still valid: nothing after it needs room on the disk.
    for name, data in card.items():
        storage.write(f"{UNFINISHED}/{name}", data)
    manifest.write(target.store, f"{UNFINISHED}/{MANIFEST_NAME}")
    Manifest.set_aside(target.store, keep=not anew)
    staged = [name for r in receipts if r.staged for name in r.file.window_paths]
    _each(lambda name: storage.replace(f"{UNFINISHED}/{name}", name), staged, storage)
    _set_apart(storage, manifest, kept, overwrite=not target.staged)
    for name in (*card, MANIFEST_NAME):
        storage.replace(f"{UNFINISHED}/{name}", name)
    storage.remove(PREVIOUS_NAME)
    storage.prune(UNFINISHED)


def _set_apart(storage: Storage, manifest: Manifest, kept: set[str], overwrite: bool) -> None:
    """Deletes the windows that the manifest does not name: of an earlier ingest, of a killed one,
    and in `unfinished`. Those of the `kept` folders are moved to `unfinished` instead.

    overwrite: of a window that is in both, the one in the store is the newer.
    """
    present = set(storage.names())
    named = {name for file in manifest.files for name in file.window_paths}
    moved: list[str] = []
    deleted = [FRESH_NAME]
    for name in present - named:
        in_store = name.removeprefix(f"{UNFINISHED}/")
        is_staged = in_store != name
        if not _is_window(in_store):
            continue
        if name.endswith(".tmp") or _folder_of(in_store) not in kept:
            deleted.append(name)
        elif not is_staged:
            is_newest = overwrite or f"{UNFINISHED}/{name}" not in present
            (moved if is_newest else deleted).append(name)
    _each(lambda name: storage.replace(name, f"{UNFINISHED}/{name}"), moved, storage)
    _each(storage.remove, deleted, storage)
    for folder in _FOLDERS if moved or len(deleted) > 1 else ():
        storage.prune(folder)


def _each(act: Callable[[str], None], names: list[str], storage: Storage) -> None:
    for _ in on_threads(act, names, storage.threads):
        pass


def _is_window(name: str) -> bool:
    """Whether an ingest writes files of this name, for any of its windows."""
    top, *below = name.split("/")
    if not below:
        return name.startswith(".") and name.endswith(".tmp")
    return top in _FOLDERS and len(below) == 2 and below[0].startswith("word=")


def _folder_of(name: str) -> str:
    """The folder of a window's class: `word=cat` of `drawings/word=cat/part-000000000.parquet`."""
    return name.split("/")[-2] if "/" in name else ""
