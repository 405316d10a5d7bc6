"""One file of drawings, wherever it lies: what it is, whether it changed, and its bytes.

A `SourceFile` is a small value that travels to workers; what is open stays where it was opened.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

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
from quickdraw_core.sources.unpacked import GZIP_MAGIC, Unpacked, broken_off_error, unpacked_head
from quickdraw_core.sources.web import WebFile, look_web


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

    location: str = field(repr=False)  # Dask logs the arguments of what fails
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

    def open(self, cut_short: bool = False) -> BinaryIO:
        """The decompressed bytes, from the first one on; to be closed by the caller.

        cut_short: a compressed file that breaks off gives what it has and then ends, and the
        caller asks `broken_off`; without, it raises `InputError` there.

        The file reads, reads into, and seeks when it is not `sequential`. A local one that is
        not compressed is the bare file of the system, whose reads raise `OSError`; all others
        raise `InputError`, and fill what they are asked to fill unless the file ends.
        """
        stored = _open_stored(self.location, buffered=self.compressed)
        if not self.compressed:
            return stored
        return cast(BinaryIO, Unpacked(stored, self.address, cut_short))

    def current_stamp(self) -> Stamp:
        """The stamp as it is now. Raises `InputError` where the file cannot be read."""
        return Stamp.of(_look(self.location))


def inspect(location: str, word: str | None) -> SourceFile:
    """Looks at a file; `word` is what its name says, and is dropped for a test file.

    Raises `InputError` where it cannot be read, is empty, or is not what its ending promises.
    """
    look, address = _look(location), address_of(location)
    compressed = look.head.startswith(GZIP_MAGIC)
    head, breaks_off = unpacked_head(look, address) if compressed else (look.head, False)
    try:
        shape = detect_shape(head, address)
    except InputError as error:
        if breaks_off:
            raise broken_off_error(address) from error
        raise
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
