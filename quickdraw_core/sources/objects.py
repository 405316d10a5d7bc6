"""Files in an object store, s3:// and gs://, through pyarrow's own clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quickdraw_core.errors import InputError
from quickdraw_core.sources.stored import EDGE_BYTES, FileProbe, Listed, StoredFile, tail_start
from quickdraw_core.storage.object_client import open_object_store, reason_of
from quickdraw_core.storage.urls import address_of, object_url

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileInfo

_PIECE_BYTES = 64 << 20


def probe_object(url: str) -> FileProbe:
    """Probes an object. Raises `InputError` if it is not there or cannot be reached."""
    with _plain_words(url):
        store, path = open_object_store(url)
        with store.open_input_file(path) as file:
            info = store.get_file_info(path)
            metadata = file.metadata() or {}
            start = tail_start(info.size)
            head = file.read_at(EDGE_BYTES, 0)
            tail = file.read_at(EDGE_BYTES, start) if start < info.size else b""
        tag = metadata.get(b"ETag", b"").decode(errors="replace")
    return FileProbe(info.size, info.mtime_ns or 0, tag, True, bytes(head), bytes(tail))


def list_objects(url: str, recursive: bool) -> list[Listed]:
    """The files inside a folder, directly or also in the folders below it, in no set order.

    Raises `InputError` if there is no such folder.
    """
    from pyarrow.fs import FileSelector, FileType

    with _plain_words(url):
        store, folder = open_object_store(url)
        infos: list[FileInfo] = store.get_file_info(FileSelector(folder, recursive=recursive))
    paths = [info.path for info in infos if info.type == FileType.File]
    return [Listed(object_url(url, path), path[len(folder) :].lstrip("/")) for path in paths]


class ObjectFile(StoredFile):
    """An object as it is stored. Each read is one request: buffer small ones."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._file: NativeFile | None = None
        with _plain_words(url):
            store, path = open_object_store(url)
            self._file = store.open_input_file(path)
            self._size_bytes: int = self._file.size()

    def close(self) -> None:
        """Closes the object."""
        if self._file is not None and not self.closed:
            self._file.close()
        super().close()

    def _size(self) -> int:
        return self._size_bytes

    def _fill(self, view: memoryview) -> int:
        assert self._file is not None
        wanted = max(0, min(len(view), self._size_bytes - self._position))
        for start in range(0, wanted, _PIECE_BYTES):
            piece = view[start : min(start + _PIECE_BYTES, wanted)]
            # Not seek and read: the client of gs:// would hold all other threads meanwhile.
            with _plain_words(self._url):
                data = self._file.read_at(len(piece), self._position + start)
            if len(data) != len(piece):
                raise InputError(
                    f"{address_of(self._url)} became shorter while it was read; read it again "
                    "once it is complete"
                )
            piece[:] = data
        return wanted


@contextmanager
def _plain_words(url: str) -> Iterator[None]:
    """Turns the client's errors into an `InputError` that says what to do."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        why = reason_of(error).words
        raise InputError(f"cannot read {address_of(url)}: {why}") from error
