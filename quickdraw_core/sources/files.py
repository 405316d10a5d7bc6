"""One file of drawings, wherever it lies: what it is, whether it changed, and its bytes.

A `SourceFile` is a small value that travels to workers; what is open stays where it was opened.
"""

import hashlib
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import FileFormat, detect_format
from quickdraw_core.sources.backends import open_stored, probe_file
from quickdraw_core.sources.stored import FileProbe
from quickdraw_core.sources.unpacked import GZIP_MAGIC, Unpacked, broken_off_error, unpacked_head
from quickdraw_core.sources.zipped import ZipMember, mark_of_member, open_member, probe_member
from quickdraw_core.storage.urls import address_of, name_of


@dataclass(frozen=True)
class Stamp:
    """What a file was when it was inspected; another stamp means that it changed.

    size_bytes: as stored, so compressed; 0 if a web server does not state it. mtime_ns: since 1970
    UTC, 0 if unknown. head_tail_sha256: of the first and the last 64 KiB, and of the mark of
    the version if the server gives one. A web server that gives no ranges has no tail.
    """

    size_bytes: int
    mtime_ns: int
    head_tail_sha256: str

    @classmethod
    def of(cls, probe: FileProbe) -> "Stamp":
        """The stamp of a probe."""
        digest = hashlib.sha256(probe.head)
        digest.update(probe.tail)
        digest.update(probe.tag.encode())
        return cls(probe.size_bytes, probe.mtime_ns, digest.hexdigest())


@dataclass(frozen=True)
class SourceFile:
    """A file of drawings.

    location: absolute local path or URL; word: what all its drawings show, spelled with spaces,
    None for Kaggle's test files; compressed: with gzip, by its first bytes; sequential: it can
    be read from its beginning only; member: which file it is inside of the zip file there.
    """

    location: str = field(repr=False)  # Dask logs the arguments of what fails
    word: str | None
    format: FileFormat
    compressed: bool
    stamp: Stamp
    sequential: bool
    member: ZipMember | None = None

    @property
    def name(self) -> str:
        """Its name without the folders before it."""
        return name_of(self.location if self.member is None else self.member.name)

    @property
    def address(self) -> str:
        """The location without a URL's query, which may hold a signature: for records. That of
        a member is its path in the zip file behind that of the zip file.
        """
        return _address(self.location, self.member)

    def open(self, cut_short: bool = False, once: bool = False) -> BinaryIO:
        """The decompressed bytes, from the first one on; to be closed by the caller.

        cut_short: a compressed file that breaks off gives what it has and then ends, and the
        caller asks `broken_off`; without, it raises `InputError` there. once: nobody reads it
        again soon, so that it need not stay in memory.

        The file reads, reads into, and seeks when it is not `sequential`. A local one that is
        not packed in any way is the bare file of the system, whose reads raise `OSError`; all
        others raise `InputError`, and fill what they are asked to fill unless the file ends.
        """
        if once and self.member is None and not self.compressed:
            return open_stored(self.location, buffered=False, once=True)
        if self.member is not None:
            stored = open_member(self.location, self.member, self.address, self.sequential)
        else:
            stored = open_stored(self.location, buffered=self.compressed)
        if not self.compressed:
            return stored
        return cast(BinaryIO, Unpacked(stored, self.address, cut_short))

    def current_stamp(self) -> Stamp:
        """The stamp as it is now. Raises `InputError` if the file cannot be read."""
        return _stamp(probe_file(self.location), self.member)


def inspect(location: str, word: str | None, member: ZipMember | None = None) -> SourceFile:
    """Inspects a file, or a member of the zip file there; `word` is what its name says, and is
    dropped for a test file.

    Raises `InputError` if it cannot be read, is empty, or is not what its ending promises.
    """
    probe, address = probe_file(location), _address(location, member)
    stamp = _stamp(probe, member)
    if member is not None:
        probe = probe_member(probe, location, member, address)
    compressed = probe.head.startswith(GZIP_MAGIC)
    head, breaks_off = unpacked_head(probe, address) if compressed else (probe.head, False)
    try:
        file_format = detect_format(head, address)
    except InputError as error:
        if breaks_off:
            raise broken_off_error(address) from error
        raise
    return SourceFile(
        location=location,
        word=word if file_format.has_word else None,
        format=file_format,
        compressed=compressed,
        stamp=stamp,
        sequential=compressed or not probe.ranges or (member is not None and member.deflated),
        member=member,
    )


def _stamp(probe: FileProbe, member: ZipMember | None) -> Stamp:
    return Stamp.of(probe if member is None else mark_of_member(probe, member))


def _address(location: str, member: ZipMember | None) -> str:
    address = address_of(location)
    return address if member is None else f"{address}/{member.name}"
