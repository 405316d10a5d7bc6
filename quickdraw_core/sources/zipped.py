"""The members of a zip file, each read as a file of its own, without unpacking the others.

Kaggle serves `train_simplified.zip`, a member a class, and single files as `cat.csv.zip`. The
directory stands at the end of a zip file, so the file must be readable from any byte on.
A member that is stored as it is can be read from any byte on too; one that is deflated is read
from its beginning.
"""

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from quickdraw_core.errors import InputError
from quickdraw_core.sources.backends import open_stored, probe_file
from quickdraw_core.sources.stored import EDGE_BYTES, REQUEST_BYTES, FileProbe, StoredFile
from quickdraw_core.sources.unpacked import Inflated, explain_cut
from quickdraw_core.storage.urls import OBJECT_SCHEMES, address_of, scheme_of

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 1
_BUFFER_BYTES = 256 << 10
_READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ZipMember:
    """A file inside a zip file.

    name: its path there; offset: byte of the zip file where its local header begins; packed_bytes,
    size_bytes: its size there, and unpacked; method: how it is packed, zip's number; flags: zip's;
    crc: of its content.
    """

    name: str
    offset: int
    packed_bytes: int
    size_bytes: int
    method: int
    flags: int
    crc: int

    @property
    def deflated(self) -> bool:
        """Whether it can be read from its beginning only."""
        return self.method != zipfile.ZIP_STORED


def list_zip(location: str) -> list[ZipMember]:
    """The files inside a zip file, in its order.

    Raises `InputError` if it cannot be read, is no zip file, or was cut short.
    """
    address = address_of(location)
    if not probe_file(location).ranges:
        raise InputError(
            f"cannot read {address}: a zip file is read from its end, and the server gives no "
            "ranges; download it first"
        )
    with closing(open_stored(location, buffered=False)) as stored, _zip_errors(address):
        buffered = io.BufferedReader(cast(io.RawIOBase, stored), _BUFFER_BYTES)
        with zipfile.ZipFile(buffered) as archive:
            return [_member(info) for info in archive.infolist() if not info.is_dir()]


def _member(info: zipfile.ZipInfo) -> ZipMember:
    return ZipMember(
        name=info.filename.replace("\\", "/"),
        offset=info.header_offset,
        packed_bytes=info.compress_size,
        size_bytes=info.file_size,
        method=info.compress_type,
        flags=info.flag_bits,
        crc=info.CRC,
    )


@contextmanager
def _zip_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeError) as error:
        if "not a zip file" in str(error):  # its directory was not found
            raise InputError(explain_cut(address, "a zip file, without its directory")) from error
        raise InputError(f"{address} is damaged as a zip file: {error}; fetch it again") from error
    except OSError as error:
        raise InputError(f"cannot read {address}: {error.strerror or error}") from error


def open_member(
    location: str, member: ZipMember, address: str, buffered: bool = False
) -> BinaryIO:
    """The content of a member, to be closed by the caller. It seeks if it is not deflated.

    buffered: for many small reads. Raises `InputError` if it is packed in a way that is not
    read, or is not there.
    """
    if member.flags & _ENCRYPTED:
        raise InputError(f"{address} is encrypted; unpack the zip file with its password first")
    if member.method not in _READ_METHODS:
        raise InputError(
            f"{address} is packed by zip's method {member.method}, and only what is stored (0) or "
            "deflated (8) is read; unpack the zip file first"
        )
    stored = open_stored(location, buffered=False)
    try:
        with _zip_errors(address):
            start = _content_start(stored, member, address)
            section = _Section(stored, start, member.packed_bytes)
    except BaseException:
        stored.close()
        raise
    # A read of an object store is a request.
    packed: io.IOBase = section
    if buffered and scheme_of(location) in OBJECT_SCHEMES:
        packed = io.BufferedReader(section, REQUEST_BYTES)
    if not member.deflated:
        return cast(BinaryIO, packed)
    return cast(BinaryIO, Inflated(cast(BinaryIO, packed), address, member.crc))


def _content_start(stored: BinaryIO, member: ZipMember, address: str) -> int:
    """The byte of the zip file where a member's content begins, behind its local header."""
    stored.seek(member.offset)
    header = stored.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
        raise InputError(f"{address} is not where the zip file's directory says; fetch it again")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    return member.offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


def probe_member(probe: FileProbe, location: str, member: ZipMember, address: str) -> FileProbe:
    """The probe of a member: the head of its content, and all else of its zip file's `probe`."""
    with closing(open_member(location, member, address)) as file, _zip_errors(address):
        return replace(mark_of_member(probe, member), head=file.read(EDGE_BYTES))


def mark_of_member(probe: FileProbe, member: ZipMember) -> FileProbe:
    """What shows whether a member changed: the probe of its zip file, whose directory stands in
    the tail, with the member's size and what the directory says of it.
    """
    return replace(probe, size_bytes=member.packed_bytes, tag=f"{probe.tag} {member}")


class _Section(StoredFile):
    """`size_bytes` bytes of a file from `start` on, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, size_bytes: int) -> None:
        super().__init__()
        self._file, self._start, self._size_bytes = file, start, size_bytes

    def _size(self) -> int:
        return self._size_bytes

    def _fill(self, view: memoryview) -> int:
        wanted = view[: max(0, self._size_bytes - self._position)]
        self._file.seek(self._start + self._position)
        filled: int = self._file.readinto(wanted) if wanted else 0  # type: ignore[attr-defined]
        return filled

    def close(self) -> None:
        """Closes the file too."""
        if not self.closed:
            self._file.close()
        super().close()
