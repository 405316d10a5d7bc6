"""Opening a store: its manifest, its checks, its columns."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.errors import StoreError
from quickdraw_core.labels import LabelMap
from quickdraw_core.store.manifest import FileRecord, Manifest
from quickdraw_core.store.schema import SCHEMA, quarantine_path


@dataclass(frozen=True)
class Store:
    """A finished store on disk. Files are read when asked for, one at a time."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Opens a store and checks that its files are there in their full size."""
        manifest = Manifest.read(path)
        for file in manifest.files:
            _check_size(path / file.path, file)
        return cls(path.resolve(), manifest)

    @property
    def label_map(self) -> LabelMap:
        """Words and labels of the store. Raises `StoreError` where its drawings have none."""
        if self.manifest.label_map is None:
            raise StoreError(
                f"the drawings of {self.path} have no words (they are of a test file): they can "
                "be looked at, not trained on or judged by"
            )
        return self.manifest.label_map

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yields (label, table) for each file, by label, then by first row."""
        index = self.label_map.index
        labelled = [(index[f.word], f) for f in self.manifest.files if f.word is not None]
        for label, file in sorted(labelled, key=lambda pair: (pair[0], pair[1].first_row)):
            # The schema is given, and the file opened alone, so that `word=` in the path is
            # not read as a column of its own.
            names = list(columns) if columns is not None else SCHEMA.names
            table = pq.ParquetFile(self.path / file.path).read(columns=names)
            yield label, table.combine_chunks()

    def verify(self) -> None:
        """Reads every file and compares its SHA-256 with the manifest's."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter lock
            for damaged in pool.map(self._damage, self.manifest.files):
                if damaged is not None:
                    raise StoreError(
                        f"{damaged} is damaged: its checksum is not the manifest's; "
                        "ingest again to restore it"
                    )

    def _damage(self, file: FileRecord) -> Path | None:
        said = {self.path / file.path: file.sha256}
        if file.quarantine_sha256 is not None:
            said[self.path / quarantine_path(file.word, file.first_row)] = file.quarantine_sha256
        for path, digest in said.items():
            if not path.is_file() or sha256_of(path) != digest:
                return path
        return None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(path: Path, file: FileRecord) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise StoreError(
            f"the store lacks {path}, which its manifest names; ingest again to restore it"
        ) from None
    if found != file.size_bytes:
        raise StoreError(
            f"{path} has {found} bytes, its manifest says {file.size_bytes}; "
            "ingest again to restore it"
        )
