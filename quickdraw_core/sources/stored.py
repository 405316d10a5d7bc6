"""Files as they are stored, still compressed: what a probe says, and reading by position.

Each backend (local, object store, web) has a probe and an open file; this module holds what
they share.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

EDGE_BYTES = 64 << 10
"""So many bytes of a file's beginning and of its end tell whether it changed."""

REQUEST_BYTES = 8 << 20
"""One request asks for at least so much, so that small reads do not cost a round trip each."""


@dataclass(frozen=True)
class FileProbe:
    """What is known of a stored file without reading all of it.

    size_bytes: 0 if a web server does not state it; mtime_ns: of the last change, since 1970 UTC,
    0 if unknown; tag: a server's mark of the version, or nothing; ranges: it can be read from
    any byte on; head, tail: the first and the last bytes, `EDGE_BYTES` at most, that overlap
    nowhere. Without ranges there is no tail.
    """

    size_bytes: int
    mtime_ns: int
    tag: str
    ranges: bool
    head: bytes
    tail: bytes


@dataclass(frozen=True)
class Listed:
    """A file of a listing: where it is, and its path below the folder that was listed."""

    location: str
    path: str


def tail_start(size_bytes: int) -> int:
    """The byte where the tail of a `FileProbe` begins."""
    return max(size_bytes - EDGE_BYTES, min(size_bytes, EDGE_BYTES))


class StoredFile(io.RawIOBase):
    """A remote file, read-only; a subclass says how bytes come from there.

    A read of N bytes gets N, or all that are left, or raises `InputError`.
    """

    def __init__(self) -> None:
        self._position = 0

    def _size(self) -> int:
        raise NotImplementedError

    def _fill(self, view: memoryview) -> int:
        """Fills `view` from the position on, as far as the file goes; returns how far."""
        raise NotImplementedError

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position without reading anything."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}
        self._position = offset + (start[whence] if whence in start else self._size())
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills `buffer` as far as the file goes; 0 is its end."""
        with memoryview(buffer) as view, view.cast("B") as bytes_view:
            filled = self._fill(bytes_view)
        self._position += filled
        return filled

    def readall(self) -> bytes:
        """All bytes from the position on."""
        return b"".join(iter(lambda: self.read(REQUEST_BYTES) or b"", b""))
