"""Opening a store: its manifest, its checks, its columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from quickdraw_core.errors import StoreError
from quickdraw_core.labels import LabelMap
from quickdraw_core.stage import Opened
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location
from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.manifest import MANIFEST_NAME, FileRecord, Manifest
from quickdraw_core.store.schema import SCHEMA
from quickdraw_core.system.prefetch import on_threads, prefetched
from quickdraw_core.system.threads import usable_cores


@dataclass(frozen=True)
class Store:
    """A finished store. Files are read when asked for.

    path: an absolute path, or an address in an object store.
    """

    path: Location
    manifest: Manifest

    @classmethod
    def open(cls, path: Location) -> "Store":
        """Opens a store and checks that its files are there in their full size."""
        return cls.of(path, Manifest.read(path))

    @classmethod
    def of(cls, path: Location, manifest: Manifest) -> "Store":
        """As `open`, of a manifest that was read already."""
        storage = storage_of(path)
        sizes = storage.sizes(file.path for file in manifest.files)
        for file, size_bytes in zip(manifest.files, sizes, strict=True):
            _check_size(storage, file, size_bytes)
        return cls(_absolute(path), manifest)

    @property
    def storage(self) -> Storage:
        """What its files are read from."""
        return storage_of(self.path)

    @property
    def label_map(self) -> LabelMap:
        """Words and labels of the store. Raises `StoreError` if its drawings have none."""
        if self.manifest.label_map is None:
            raise StoreError(
                f"the drawings of {self.path} have no words (they are of a test file): they can "
                "be shown, but not used for training or evaluation"
            )
        return self.manifest.label_map

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yields (label, table) for each file, by label, then by first row."""
        index = self.label_map.index
        labelled = [(index[f.word], f) for f in self.manifest.files if f.word is not None]
        ordered = sorted(labelled, key=lambda pair: (pair[0], pair[1].first_row))
        read = partial(self._table, list(columns) if columns is not None else None)
        files = [file for _, file in ordered]
        # An object store is asked for several at once, since each waits for the network.
        threads = self.storage.threads or 0
        tables = prefetched(read, files, threads, max(1, threads - 1))
        for (label, _), table in zip(ordered, tables, strict=True):
            yield label, table

    def _table(self, columns: list[str] | None, file: FileRecord) -> pa.Table:
        table = self.storage.read_table(file.path, columns)
        return table.select(columns or SCHEMA.names).combine_chunks()

    def verify(self) -> None:
        """Reads every file and compares its SHA-256 with the manifest's."""
        threads = self.storage.threads or usable_cores()
        for damaged in on_threads(self._damage, self.manifest.files, threads):
            if damaged is not None:
                raise StoreError(
                    f"{damaged} is damaged: its checksum is not the manifest's; "
                    "ingest again to restore it"
                )

    def _damage(self, file: FileRecord) -> str | None:
        storage, digests = self.storage, {file.path: file.sha256}
        if file.quarantine_sha256 is not None:
            digests[file.quarantine_path] = file.quarantine_sha256
        for name, digest in digests.items():
            try:
                if storage.sha256(name) == digest:
                    continue
            except FileNotFoundError:
                pass
            return storage.address(name)
        return None


def open_store(location: Location, opened: Opened) -> Store:
    """The store, as `Store.open` opens and checks it: once, until its manifest changes."""
    return opened.once(
        ("store", _absolute(location)),
        lambda: Store.of(location, open_manifest(location, opened)),
        storage_of(location).version(MANIFEST_NAME),
    )


def open_manifest(location: Location, opened: Opened, name: str = MANIFEST_NAME) -> Manifest:
    """A store's manifest, as `Manifest.read` reads it: once, until it changes."""
    return opened.once(
        ("manifest", _absolute(location), name),
        lambda: Manifest.read(location, name),
        storage_of(location).version(name),
    )


def keep_store(location: Location, manifest: Manifest, opened: Opened) -> None:
    """Notes a store whose manifest this process has just written, for the two above."""
    version = storage_of(location).version(MANIFEST_NAME)
    path = _absolute(location)
    opened.keep(("manifest", path, MANIFEST_NAME), manifest, version)
    opened.keep(("store", path), Store(path, manifest), version)


def _absolute(location: Location) -> Location:
    return location.resolve() if isinstance(location, Path) else location


def _check_size(storage: Storage, file: FileRecord, size_bytes: int | None) -> None:
    if size_bytes is None:
        raise StoreError(
            f"the store lacks {storage.address(file.path)}, which its manifest names; "
            "ingest again to restore it"
        )
    if size_bytes != file.size_bytes:
        raise StoreError(
            f"{storage.address(file.path)} has {size_bytes} bytes, its manifest says "
            f"{file.size_bytes}; ingest again to restore it"
        )
