"""One file of drawings, wherever it lies: what it is, whether it changed, and its bytes.

A `SourceFile` is a small value that travels to workers; what is open stays where it was opened.
"""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from isal import igzip, isal_zlib

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import Shape, detect_shape
from quickdraw_core.sources.objects import OBJECT_SCHEMES, ObjectFile, look_object
from quickdraw_core.sources.stored import (
    EDGE_BYTES,
    REQUEST_BYTES,
    Look,
    address_of,
    name_of,
    scheme_of,
    tail_start,
)
from quickdraw_core.sources.web import WebFile, look_web

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_GZIP_MAGIC = b"\x1f\x8b\x08"
"""With the method, so that no packed drawing is taken for gzip by its key_id."""
_GZIP_WBITS = 31
_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20
_DAMAGE = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))


@dataclass(frozen=True)
class Stamp:
    """What a file was when it was looked at; another stamp means that it changed.

    size_bytes: as stored, so compressed; 0 where a web server does not say. mtime_ns: since 1970
    UTC, 0 where unknown. head_tail_sha256: of the first and the last 64 KiB, and of the mark of
    the version where a server gives one. A web server that gives no ranges has no tail.
    """

    size_bytes: int
    mtime_ns: int
    head_tail_sha256: str

    @classmethod
    def of(cls, look: Look) -> "Stamp":
        """The stamp of what a look saw."""
        digest = hashlib.sha256(look.head)
        digest.update(look.tail)
        digest.update(look.tag.encode())
        return cls(look.size_bytes, look.mtime_ns, digest.hexdigest())


@dataclass(frozen=True)
class SourceFile:
    """A file of drawings.

    location: absolute local path or URL; word: what all its drawings show, spelled with spaces,
    None for Kaggle's test files; compressed: with gzip, by its first bytes; sequential: it can
    be read from its beginning only.
    """

    location: str
    word: str | None
    shape: Shape
    compressed: bool
    stamp: Stamp
    sequential: bool

    @property
    def name(self) -> str:
        """The last part of the location."""
        return name_of(self.location)

    @property
    def address(self) -> str:
        """The location without a URL's query, which may hold a signature: for records."""
        return address_of(self.location)

    def open(self) -> BinaryIO:
        """The decompressed bytes, from the first one on; to be closed by the caller.

        The file reads, reads into, and seeks when it is not `sequential`. A local one that is
        not compressed is the bare file of the system, whose reads raise `OSError`; all others
        raise `InputError`, and fill what they are asked to fill unless the file ends.
        """
        stored = _open_stored(self.location, buffered=self.compressed)
        if not self.compressed:
            return stored
        return cast(BinaryIO, _Unzipped(stored, self.address))

    def current_stamp(self) -> Stamp:
        """The stamp as it is now. Raises `InputError` where the file cannot be read."""
        return Stamp.of(_look(self.location))


def inspect(location: str, word: str | None) -> SourceFile:
    """Looks at a file; `word` is what its name says, and is dropped for a test file.

    Raises `InputError` where it cannot be read, is empty, or is not what its ending promises.
    """
    look, address = _look(location), address_of(location)
    compressed = look.head.startswith(_GZIP_MAGIC)
    head = _unzipped_head(look, address) if compressed else look.head
    shape = detect_shape(head, address)
    return SourceFile(
        location=location,
        word=word if shape.has_word else None,
        shape=shape,
        compressed=compressed,
        stamp=Stamp.of(look),
        sequential=compressed or not look.ranges,
    )


def _look(location: str) -> Look:
    scheme = scheme_of(location)
    if not scheme:
        return _look_local(location)
    return look_object(location) if scheme in OBJECT_SCHEMES else look_web(location)


def _open_stored(location: str, buffered: bool) -> BinaryIO:
    """The bytes as they are stored; buffered: for many small reads."""
    scheme = scheme_of(location)
    if not scheme:
        with _local_errors(location):
            return cast(BinaryIO, Path(location).open("rb", buffering=0))
    if scheme not in OBJECT_SCHEMES:
        return cast(BinaryIO, WebFile(location))
    file = ObjectFile(location)
    return cast(BinaryIO, io.BufferedReader(file, REQUEST_BYTES) if buffered else file)


def _look_local(path: str) -> Look:
    with _local_errors(path), Path(path).open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        head = file.read(EDGE_BYTES)
        file.seek(tail_start(status.st_size))
        tail = file.read(EDGE_BYTES)
    return Look(status.st_size, status.st_mtime_ns, "", True, head, tail)


@contextmanager
def _local_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _unzipped_head(look: Look, address: str) -> bytes:
    """The first bytes of what a file's head unpacks to, over all members that it shows.

    Raises `InputError` where it is damaged, or is the whole file and breaks off.
    """
    data, unpacked = look.head, b""
    while data.startswith(_GZIP_MAGIC) and len(unpacked) < _HEAD_BYTES:
        unzip = zlib.decompressobj(_GZIP_WBITS)
        try:
            unpacked += unzip.decompress(data, _HEAD_BYTES)
        except zlib.error as error:
            raise _damaged(address, error) from error
        if not unzip.eof and len(unpacked) < _HEAD_BYTES and len(look.head) < EDGE_BYTES:
            raise _damaged(address, EOFError())
        data = unzip.unused_data
    return unpacked


class _Unzipped(io.RawIOBase):
    """What a gzip file unpacks to, from all its members one after the other."""

    def __init__(self, stored: BinaryIO, address: str) -> None:
        self._stored, self._address = stored, address
        self._file = igzip.IGzipFile(fileobj=stored)  # type: ignore[no-untyped-call]

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills `buffer` unless the file ends; raises `InputError` where it is damaged."""
        filled = 0
        with memoryview(buffer) as view, view.cast("B") as target:
            try:
                # In pieces: a large buffer in one go takes twice as long.
                while count := self._file.readinto(target[filled : filled + _PIECE_BYTES]):
                    filled += count
            except _DAMAGE as error:
                raise _damaged(self._address, error) from error
        return filled

    def close(self) -> None:
        """Closes both files."""
        if not self.closed:
            self._file.close()
            self._stored.close()
        super().close()


def _damaged(address: str, error: Exception) -> InputError:
    if isinstance(error, EOFError):
        return InputError(
            f"{address} ends in the middle of its compressed data: it was cut short; "
            "fetch it again"
        )
    return InputError(f"{address} is damaged, its gzip data say: {error}; fetch it again")
