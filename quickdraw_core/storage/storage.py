"""What a store's files are read from and written to: a folder, or a place in an object store.

Both do the few things that a store needs, on names relative to it (`drawings/word=cat/…`). A name
appears with its whole content or not at all: in a folder by writing aside and renaming, in an
object store because a put is that already. A missing file is a `FileNotFoundError` in both. What
else may go wrong is an `OSError` of a folder and a `StoreError` of an object store; one that
answered before is asked again for half a minute before it counts as away.
"""

import hashlib
import os
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.errors import InputError, StoreError, StoreUnreachableError
from quickdraw_core.names import check_relative
from quickdraw_core.sources.objects import REFUSED, open_object_store, reason_of
from quickdraw_core.storage.location import Address
from quickdraw_core.system.files import cache_folder, opened_aside
from quickdraw_core.system.locks import FOLDER_LOCK

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")

PACKS = "pack"
"""The folder of a local store that is no part of it: flat arrays, made again where needed."""

_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Before each further try, while an object store does not answer."""

_THREADS = 8
"""Requests at once: they wait for the network, not for a core."""

_ANSWERED: set[Address] = set()
"""The buckets that answered this process before. An address that never did may be wrong:
that is told at once, and not after all pauses.
"""


class Written(NamedTuple):
    """What was written: the size in bytes, and the SHA-256 in hex."""

    size_bytes: int
    sha256: str


class Place(ABC):
    """Where a store is. `threads`: how many of its files to handle at once; None: one a core."""

    threads: int | None = None

    @property
    @abstractmethod
    def location(self) -> Path | Address:
        """What names the place, wherever it is read."""

    @abstractmethod
    def at(self, name: str) -> str:
        """Where a file is, for messages."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    @abstractmethod
    def read_table(
        self, name: str, columns: list[str] | None = None, use_threads: bool = True
    ) -> pa.Table:
        """Columns of a Parquet file, all if none are given."""

    @abstractmethod
    def sha256(self, name: str) -> str:
        """SHA-256 of a file's bytes, hex."""

    @abstractmethod
    def write(self, name: str, data: bytes, sync: bool = True) -> None:
        """Writes a file. sync: as `files.opened_aside` says."""

    @abstractmethod
    def create(self, name: str, fill: Callable[[Any], None]) -> Written:
        """A file of what `fill` writes into the path or Arrow stream that it is given."""

    @abstractmethod
    def is_file(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970; None where there is none."""

    @abstractmethod
    def version(self, name: str) -> Hashable:
        """What is another once a file was written anew, without reading it; None where it cannot
        be looked at.
        """

    @abstractmethod
    def sizes(self, names: Iterable[str]) -> Iterable[int | None]:
        """Bytes of each of some files, in their order; None for one that is not there."""

    @abstractmethod
    def names(self) -> list[str]:
        """All files, in no set order; not those of packs."""

    @abstractmethod
    def top(self) -> list[str] | None:
        """What is at the top, files and folders; None where there is no such place at all."""

    @abstractmethod
    def replace(self, name: str, new_name: str) -> None:
        """Renames a file."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Deletes a file, if there is one."""

    @abstractmethod
    def remove_tree(self, folder: str) -> None:
        """Deletes all files of a folder, if there are any."""

    @abstractmethod
    def prune(self, folder: str) -> None:
        """Deletes those folders below `folder` that hold nothing, and it too if it does not."""

    @property
    @abstractmethod
    def lock(self) -> Path:
        """The file whose lock whoever writes there holds (`locks.py`)."""

    def __str__(self) -> str:
        return str(self.location)


def place_of(location: Path | Address) -> Place:
    """The place that a location names; nothing is looked at yet."""
    return Bucket(location) if isinstance(location, Address) else Folder(location)


def modified_at(location: Path | Address) -> float | None:
    """When the file at a location was written, in seconds since 1970; None where none is."""
    if isinstance(location, Path):
        return Folder(location.parent).modified(location.name)
    url, _, name = location.url.rpartition("/")
    return Bucket(Address(url, location.query)).modified(name)


def _inside(name: str) -> str:
    """A name of a store's file or folder, empty for the store itself. Raises `StoreError` for one
    that would lead out of it.
    """
    try:
        if name:
            check_relative(name)
    except InputError as error:
        raise StoreError(f"a store names a file that is not in it: {error}") from error
    return name


class Folder(Place):
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> Path:
        """The folder."""
        return self.path

    def _path(self, name: str) -> Path:
        return self.path / _inside(name)

    @property
    def lock(self) -> Path:
        """In the folder, so that all hosts that see it see the lock."""
        return self.path / FOLDER_LOCK

    def at(self, name: str) -> str:
        """The path."""
        return str(self._path(name))

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self._path(name).read_bytes()

    def read_table(
        self, name: str, columns: list[str] | None = None, use_threads: bool = True
    ) -> pa.Table:
        """Columns of a Parquet file."""
        # Opened alone, so that `word=` in the path is not read as a column of its own.
        file = pq.ParquetFile(self._path(name))
        return file.read(columns=columns, use_threads=use_threads)

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's bytes, hex."""
        with self._path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write(self, name: str, data: bytes, sync: bool = True) -> None:
        """Writes a file aside and renames it."""
        with opened_aside(self._path(name), sync) as file:
            file.write(data)

    def create(self, name: str, fill: Callable[[Any], None]) -> Written:
        """Has a file written under a temporary name, syncs and renames it."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            fill(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return Written(path.stat().st_size, self.sha256(name))

    def is_file(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._path(name).is_file()

    def modified(self, name: str) -> float | None:
        """When a file was written."""
        try:
            return self._path(name).stat().st_mtime
        except FileNotFoundError:
            return None

    def version(self, name: str) -> Hashable:
        """Inode, time of the last write and size: a file that is renamed here has a new inode."""
        try:
            found = self._path(name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def sizes(self, names: Iterable[str]) -> Iterable[int | None]:
        """Bytes of each of some files, asked for one by one."""
        for name in names:
            try:
                yield self._path(name).stat().st_size
            except FileNotFoundError:
                yield None

    def names(self) -> list[str]:
        """All files but those of packs."""
        found = []
        for folder, folders, names in os.walk(self.path):
            if Path(folder) == self.path and PACKS in folders:
                folders.remove(PACKS)
            found += [(Path(folder) / name).relative_to(self.path).as_posix() for name in names]
        return found

    def top(self) -> list[str] | None:
        """What is in the folder; raises `NotADirectoryError` where it is a file."""
        try:
            return [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return None

    def replace(self, name: str, new_name: str) -> None:
        """Renames a file, into a folder that is made where it is missing."""
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
        """Deletes empty folders, from the deepest on."""
        for path, _, _ in os.walk(self._path(folder), topdown=False):
            with suppress(OSError):  # it is not empty
                Path(path).rmdir()


class Bucket(Place):
    """A place in an object store, through Arrow's file systems, as sources are read."""

    threads = _THREADS

    def __init__(self, address: Address) -> None:
        self.address = address
        self._bucket = Address("/".join(address.url.split("/")[:3]), address.query)

    @property
    def location(self) -> Address:
        """The address."""
        return self.address

    @property
    def lock(self) -> Path:
        """In the cache folder: an object store has no locks, so it is seen on this host alone."""
        digest = hashlib.sha256(self.address.url.encode()).hexdigest()[:32]
        return cache_folder("locks") / digest

    def at(self, name: str) -> str:
        """The address without its options."""
        return f"{self.address.url}/{name}" if name else self.address.url

    def read(self, name: str) -> bytes:
        """All bytes of an object."""

        def get(store: "FileSystem", path: str) -> bytes:
            with store.open_input_file(path) as file:
                # Not by position, which the client of gs:// would hold all threads for.
                return bytes(file.read_at(file.size(), 0))

        return self._asked("read", name, get)

    def read_table(
        self, name: str, columns: list[str] | None = None, use_threads: bool = True
    ) -> pa.Table:
        """Columns of a Parquet file: of some, only their bytes are fetched."""
        if columns is None:
            file = pq.ParquetFile(pa.BufferReader(self.read(name)))
            return file.read(use_threads=use_threads)

        def get(store: "FileSystem", path: str) -> pa.Table:
            with pq.ParquetFile(path, filesystem=store, pre_buffer=True) as file:
                return file.read(columns=columns, use_threads=use_threads)

        return self._asked("read", name, get)

    def sha256(self, name: str) -> str:
        """SHA-256 of an object's bytes, hex."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def write(self, name: str, data: bytes, sync: bool = True) -> None:
        """Puts an object; it is durable once it is there, whatever `sync` says."""
        self._put(name, pa.py_buffer(data))

    def create(self, name: str, fill: Callable[[Any], None]) -> Written:
        """Has an object's content made in memory, and puts it."""
        stream = pa.BufferOutputStream()
        fill(stream)
        data = stream.getvalue()
        self._put(name, data)
        return Written(data.size, hashlib.sha256(data).hexdigest())

    def is_file(self, name: str) -> bool:
        """Whether there is such an object."""
        return self.modified(name) is not None

    def modified(self, name: str) -> float | None:
        """When an object was put."""

        def get(store: "FileSystem", path: str) -> float | None:
            info: FileInfo = store.get_file_info(path)
            return (info.mtime_ns or 0) / 1e9 if info.is_file else None

        return self._asked("read", name, get)

    def version(self, name: str) -> Hashable:
        """Time of the last put and size."""

        def get(store: "FileSystem", path: str) -> Hashable:
            info: FileInfo = store.get_file_info(path)
            return (info.mtime_ns, info.size) if info.is_file else None

        return self._asked("read", name, get)

    def sizes(self, names: Iterable[str]) -> Iterable[int | None]:
        """Bytes of each of some objects, out of one listing."""
        found = {name: size for name, size in self._listed("") if size is not None}
        return [found.get(name) for name in names]

    def names(self) -> list[str]:
        """All objects."""
        return [name for name, size in self._listed("") if size is not None]

    def top(self) -> list[str]:
        """What is at the top. Raises `StoreError` where there is no such bucket."""
        bucket = self._asked("read", "", lambda store, path: self._has_bucket(store, path))
        if not bucket:
            raise StoreError(f"cannot read {self.at('')}: there is no such bucket")
        return [name for name, _ in self._listed("", recursive=False)]

    def replace(self, name: str, new_name: str) -> None:
        """Copies an object, then deletes it: both are there in between."""
        self.write(new_name, self.read(name))
        self.remove(name)

    def remove(self, name: str) -> None:
        """Deletes an object, if there is one."""
        with suppress(FileNotFoundError):
            self._asked("write to", name, lambda store, path: store.delete_file(path))

    def remove_tree(self, folder: str) -> None:
        """Deletes all objects below a name, a thousand a request."""
        with suppress(FileNotFoundError):
            self._asked("write to", folder, lambda store, path: store.delete_dir(path))

    def prune(self, folder: str) -> None:
        """Deletes the empty objects that Arrow leaves to stand for folders without files."""
        if folder not in self.top():
            return
        listed = self._listed(folder)
        files = [name for name, size in listed if size is not None]
        folders = {name for name, size in listed if size is None} | {folder}
        for name in sorted(folders, reverse=True):
            if not any(file.startswith(f"{name}/") for file in files):
                self.remove_tree(name)

    def _put(self, name: str, data: pa.Buffer) -> None:
        def put(store: "FileSystem", path: str) -> None:
            with store.open_output_stream(path) as stream:
                stream.write(data)

        self._asked("write to", name, put)

    def _listed(self, folder: str, recursive: bool = True) -> list[tuple[str, int | None]]:
        """Names below a folder, with the size of a file and None for a folder."""
        from pyarrow.fs import FileSelector

        def get(store: "FileSystem", path: str) -> list[tuple[str, int | None]]:
            selector = FileSelector(path, allow_not_found=True, recursive=recursive)
            found: list[FileInfo] = store.get_file_info(selector)
            cut = len(path) - len(folder)
            return [(f.path[cut:].strip("/"), f.size if f.is_file else None) for f in found]

        return self._asked("read", folder, get)

    @staticmethod
    def _has_bucket(store: "FileSystem", path: str) -> bool:
        from pyarrow.fs import FileType

        try:
            found = store.get_file_info(path.partition("/")[0])
        except OSError as error:
            # Who may read and write in a bucket need not have the right to look at it.
            if reason_of(error).words.startswith(REFUSED):
                return True
            raise
        return bool(found.type != FileType.NotFound)

    def _asked(self, verb: str, name: str, call: Callable[["FileSystem", str], T]) -> T:
        """What a call gives for a name, tried again while the store does not answer.

        Raises `FileNotFoundError`, `StoreUnreachableError` or, for all else, `StoreError`.
        """
        pauses = iter(_PAUSES_S)
        _inside(name)
        while True:
            try:
                store, root = open_object_store(str(self.address))
                found = call(store, f"{root}/{name}" if name else root)
                _ANSWERED.add(self._bucket)
                return found
            except FileNotFoundError:
                _ANSWERED.add(self._bucket)
                raise
            except InputError as error:
                raise StoreError(str(error)) from error
            except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
                words, passing = reason_of(error)
                kind = StoreUnreachableError if passing else StoreError
                fault = kind(f"cannot {verb} {self.at(name)}: {words}")
                waits = passing and self._bucket in _ANSWERED
                pause = next(pauses, None) if waits else None
                if pause is None:
                    raise fault from error
            time.sleep(pause)
