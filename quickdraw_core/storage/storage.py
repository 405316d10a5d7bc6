"""What a store's files are read from and written to, whatever holds them.

Files have names relative to the storage (`drawings/word=cat/…`). A file appears with its whole
content or not at all. A missing file is a `FileNotFoundError`. Other failures are an `OSError` in
a folder and a `StoreError` in an object store.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.errors import InputError, StoreError
from quickdraw_core.names import check_relative
from quickdraw_core.storage.location import Address

PACKS = "pack"
"""The folder of a local store that is no part of it: flat arrays, made again when needed."""


class WrittenFile(NamedTuple):
    """Size and SHA-256 (hex) of a file that was written."""

    size_bytes: int
    sha256: str


class FileStatus(NamedTuple):
    """What is known of a file without reading it; inode: 0 in an object store."""

    size_bytes: int
    modified_ns: int
    inode: int = 0


class Storage(ABC):
    """A folder of files. threads: how many of its files to handle at once; None: one a core."""

    threads: int | None = None

    def __init__(self, location: Path | Address) -> None:
        self.location = location

    @abstractmethod
    def address(self, name: str) -> str:
        """Path or address of a file, for messages."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def read_table(
        self, name: str, columns: list[str] | None = None, use_threads: bool = True
    ) -> pa.Table:
        """Columns of a Parquet file, all if none are given."""
        file = pq.ParquetFile(pa.BufferReader(self.read(name)))
        return file.read(columns=columns, use_threads=use_threads)

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's bytes, hex."""
        return hashlib.sha256(self.read(name)).hexdigest()

    @abstractmethod
    def write(self, name: str, data: bytes | pa.Buffer, sync: bool = True) -> None:
        """Writes a file. sync: as `files.open_atomic` says."""

    def create(self, name: str, fill: Callable[[Any], None]) -> WrittenFile:
        """Writes a file of what `fill` writes into the stream that it is given."""
        stream = pa.BufferOutputStream()
        fill(stream)
        data = stream.getvalue()
        self.write(name, data)
        return WrittenFile(data.size, hashlib.sha256(data).hexdigest())

    @abstractmethod
    def status(self, name: str) -> FileStatus | None:
        """Size and time of a file; None if there is no such file."""

    def is_file(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.status(name) is not None

    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970; None if there is no such file."""
        status = self.status(name)
        return None if status is None else status.modified_ns / 1e9

    def version(self, name: str) -> Hashable:
        """A value that changes when a file is written again; None if it has no status."""
        try:
            return self.status(name)
        except OSError:
            return None

    def sizes(self, names: Iterable[str]) -> Iterable[int | None]:
        """Bytes of each file, in the order of `names`; None for a missing file."""
        for name in names:
            status = self.status(name)
            yield None if status is None else status.size_bytes

    @abstractmethod
    def names(self) -> list[str]:
        """All files except those of packs, in no set order."""

    @abstractmethod
    def top(self) -> list[str] | None:
        """Names of the files and folders at the top; None if there is no such folder."""

    def replace(self, name: str, new_name: str) -> None:
        """Renames a file; by default, a copy is written and the old file deleted."""
        self.write(new_name, self.read(name))
        self.remove(name)

    @abstractmethod
    def remove(self, name: str) -> None:
        """Deletes a file, if there is one."""

    @abstractmethod
    def remove_tree(self, folder: str) -> None:
        """Deletes all files of a folder, if there are any."""

    @abstractmethod
    def prune(self, folder: str) -> None:
        """Deletes the empty folders below `folder`, and `folder` itself if it is empty."""

    @property
    @abstractmethod
    def lock(self) -> Path:
        """The file to lock (`locks.py`) before writing here."""

    def __str__(self) -> str:
        return str(self.location)


def check_inside(name: str) -> str:
    """A name of a storage's file or folder; empty: the storage itself. Raises `StoreError` if the
    name leads out of it.
    """
    try:
        if name:
            check_relative(name)
    except InputError as error:
        raise StoreError(f"a store names a file that is not in it: {error}") from error
    return name
