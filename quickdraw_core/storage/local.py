"""A folder of this machine as a storage."""

import hashlib
import io
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.storage.storage import PACKS, FileStatus, Storage, WrittenFile, check_inside
from quickdraw_core.system.files import open_atomic
from quickdraw_core.system.locks import FOLDER_LOCK


class _HashedStream(io.RawIOBase):
    """What is written into it goes on to `file`, and a SHA-256, so that no file is read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.size_bytes = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self.size_bytes

    def write(self, data: Any) -> int:
        """Writes all of `data`."""
        self.digest.update(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)


class LocalStorage(Storage):
    """A folder. A file is written under a temporary name and renamed."""

    location: Path

    def _path(self, name: str) -> Path:
        return self.location / check_inside(name)

    @property
    def lock(self) -> Path:
        """In the folder, so that all hosts that see it see the lock."""
        return self.location / FOLDER_LOCK

    def address(self, name: str) -> str:
        """The path."""
        return str(self._path(name))

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self._path(name).read_bytes()

    def read_table(
        self, name: str, columns: list[str] | None = None, use_threads: bool = True
    ) -> pa.Table:
        """Columns of a Parquet file, of which no others are read."""
        # Opened alone, so that `word=` in the path is not read as a column of its own.
        file = pq.ParquetFile(self._path(name))
        return file.read(columns=columns, use_threads=use_threads)

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's bytes, which are not all in memory at once."""
        with self._path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write(self, name: str, data: bytes | pa.Buffer, sync: bool = True) -> None:
        """Writes a file."""
        with open_atomic(self._path(name), sync) as file:
            file.write(data)

    def create(self, name: str, fill: Callable[[Any], None]) -> WrittenFile:
        """Writes a file, which is not in memory as a whole."""
        with open_atomic(self._path(name)) as file:
            stream = _HashedStream(file)
            fill(stream)
        return WrittenFile(stream.size_bytes, stream.digest.hexdigest())

    def status(self, name: str) -> FileStatus | None:
        """Size, time of the last write and inode, which is new for a file that is renamed here."""
        try:
            status = self._path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        is_file = stat.S_ISREG(status.st_mode)
        return FileStatus(status.st_size, status.st_mtime_ns, status.st_ino) if is_file else None

    def names(self) -> list[str]:
        """All files except those of packs."""
        paths: list[Path] = []
        for folder, folders, names in os.walk(self.location):
            if Path(folder) == self.location and PACKS in folders:
                folders.remove(PACKS)
            paths += (Path(folder, name) for name in names)
        return [path.relative_to(self.location).as_posix() for path in paths]

    def top(self) -> list[str] | None:
        """Names of the files and folders. Raises `NotADirectoryError` for a file."""
        try:
            return [path.name for path in self.location.iterdir()]
        except FileNotFoundError:
            return None

    def replace(self, name: str, new_name: str) -> None:
        """Renames a file, into a folder that is made if it is missing."""
        path = self._path(new_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path(name).replace(path)

    def remove(self, name: str) -> None:
        """Deletes a file, if there is one."""
        self._path(name).unlink(missing_ok=True)

    def remove_tree(self, folder: str) -> None:
        """Deletes a folder, if there is one."""
        shutil.rmtree(self._path(folder), ignore_errors=True)

    def prune(self, folder: str) -> None:
        """Deletes empty folders, the deepest first."""
        for path, _, _ in os.walk(self._path(folder), topdown=False):
            with suppress(OSError):  # it is not empty
                Path(path).rmdir()
