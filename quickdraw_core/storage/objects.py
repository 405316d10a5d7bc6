"""A folder in an object store as a storage, through Arrow's file systems.

Writing an object puts it as a whole. A store that answered before is asked again for half a minute
before it counts as unreachable.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.errors import InputError, StoreError, StoreUnreachableError
from quickdraw_core.storage.location import Address
from quickdraw_core.storage.object_client import REFUSED, open_object_store, reason_of
from quickdraw_core.storage.storage import FileStatus, Storage, check_inside
from quickdraw_core.system.files import cache_folder
from quickdraw_core.system.retries import Attempts

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")

_RETRIES, _BACKOFF_SECONDS = 6, 0.5
"""While an object store does not answer: with pauses that double, half a minute."""

_ANSWERED: set[Address] = set()
"""The buckets that answered this process before. An address that never did may be wrong:
it fails at once, and not after all pauses.
"""


class ObjectStorage(Storage):
    """A folder of objects. threads: requests wait for the network, not for a core."""

    location: Address
    threads = 8

    def __init__(self, location: Address) -> None:
        super().__init__(location)
        self._bucket = Address("/".join(location.url.split("/")[:3]), location.query)

    @property
    def lock(self) -> Path:
        """In the cache folder: an object store has no locks, so only this host sees it."""
        digest = hashlib.sha256(self.location.url.encode()).hexdigest()[:32]
        return cache_folder("locks") / digest

    def address(self, name: str) -> str:
        """The address without its options."""
        return f"{self.location.url}/{name}" if name else self.location.url

    def read(self, name: str) -> bytes:
        """All bytes of an object."""

        def get(store: "FileSystem", path: str) -> bytes:
            with store.open_input_file(path) as file:
                # Not by position, which the client of gs:// would hold all threads for.
                return bytes(file.read_at(file.size(), 0))

        return self._request("read", name, get)

    def read_table(
        self, name: str, columns: list[str] | None = None, use_threads: bool = True
    ) -> pa.Table:
        """Columns of a Parquet file; only the bytes of `columns` are fetched."""
        if columns is None:
            return super().read_table(name, None, use_threads)

        def get(store: "FileSystem", path: str) -> pa.Table:
            with pq.ParquetFile(path, filesystem=store, pre_buffer=True) as file:
                return file.read(columns=columns, use_threads=use_threads)

        return self._request("read", name, get)

    def write(self, name: str, data: bytes | pa.Buffer, sync: bool = True) -> None:
        """Puts an object. It is durable once it is there, with and without `sync`."""

        def put(store: "FileSystem", path: str) -> None:
            with store.open_output_stream(path) as stream:
                stream.write(data)

        self._request("write to", name, put)

    def status(self, name: str) -> FileStatus | None:
        """Size of an object and the time of its last put."""

        def get(store: "FileSystem", path: str) -> FileStatus | None:
            info: FileInfo = store.get_file_info(path)
            return FileStatus(info.size, info.mtime_ns or 0) if info.is_file else None

        return self._request("read", name, get)

    def sizes(self, names: Iterable[str]) -> Iterable[int | None]:
        """Bytes of each object, from one listing."""
        sizes = dict(self._listed(""))
        return [sizes.get(name) for name in names]

    def names(self) -> list[str]:
        """All objects."""
        return [name for name, size in self._listed("") if size is not None]

    def top(self) -> list[str]:
        """Names at the top. Raises `StoreError` for a bucket that does not exist."""
        if not self._request("read", "", self._has_bucket):
            raise StoreError(f"cannot read {self.address('')}: there is no such bucket")
        return [name for name, _ in self._listed("", recursive=False)]

    def remove(self, name: str) -> None:
        """Deletes an object, if there is one."""
        with suppress(FileNotFoundError):
            self._request("write to", name, lambda store, path: store.delete_file(path))

    def remove_tree(self, folder: str) -> None:
        """Deletes all objects below a name, a thousand a request."""
        with suppress(FileNotFoundError):
            self._request("write to", folder, lambda store, path: store.delete_dir(path))

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

    def _listed(self, folder: str, recursive: bool = True) -> list[tuple[str, int | None]]:
        """Names below a folder, with the size of a file and None for a folder."""
        from pyarrow.fs import FileSelector

        def get(store: "FileSystem", path: str) -> list[tuple[str, int | None]]:
            selector = FileSelector(path, allow_not_found=True, recursive=recursive)
            infos: list[FileInfo] = store.get_file_info(selector)
            cut = len(path) - len(folder)
            return [(i.path[cut:].strip("/"), i.size if i.is_file else None) for i in infos]

        return self._request("read", folder, get)

    @staticmethod
    def _has_bucket(store: "FileSystem", path: str) -> bool:
        from pyarrow.fs import FileType

        try:
            info: FileInfo = store.get_file_info(path.partition("/")[0])
        except OSError as error:
            # Who may read and write in a bucket need not have the right to look at it.
            if reason_of(error).words.startswith(REFUSED):
                return True
            raise
        return bool(info.type != FileType.NotFound)

    def _request(self, verb: str, name: str, call: Callable[["FileSystem", str], T]) -> T:
        """What a call returns for a name; it is tried again while the store does not answer.

        Raises `FileNotFoundError`, `StoreUnreachableError` or, for all else, `StoreError`.
        """
        attempts = Attempts(_RETRIES, _BACKOFF_SECONDS)
        check_inside(name)
        while True:
            try:
                store, root = open_object_store(str(self.location))
                result = call(store, f"{root}/{name}" if name else root)
                _ANSWERED.add(self._bucket)
                return result
            except FileNotFoundError:
                _ANSWERED.add(self._bucket)
                raise
            except InputError as error:
                raise StoreError(str(error)) from error
            except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
                words, passing = reason_of(error)
                kind = StoreUnreachableError if passing else StoreError
                fault = kind(f"cannot {verb} {self.address(name)}: {words}")
                waits = passing and self._bucket in _ANSWERED
                pause = attempts.failed(fault) if waits else None
                if pause is None:
                    raise fault from error
            time.sleep(pause)
