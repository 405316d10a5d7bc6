"""Packed bytes → what they unpack to: gzip files, and the deflated members of zip files.

Both are the same stream (RFC 1951) between other heads and tails. It has no place to begin at but
its beginning.
"""

import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from isal import isal_zlib

from quickdraw_core.errors import InputError
from quickdraw_core.sources.stored import EDGE_BYTES, FileProbe

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP_MAGIC = b"\x1f\x8b\x08"
"""With the method, so that no packed drawing is taken for gzip by its key_id."""

HEAD_BYTES = 1 << 20
_GZIP, _DEFLATE = 31, -15
"""zlib's numbers for a stream in gzip's head and tail, and for a bare one."""
_IN_BYTES = 256 << 10
_OUT_BYTES = 1 << 20
_ISAL_ERROR = cast(type[Exception], isal_zlib.error)
_BROKEN_OFF = "its compressed data"


class _Packed(io.RawIOBase):
    """What a stream unpacks to; a subclass says what comes after its end."""

    form = ""

    def __init__(self, stored: BinaryIO, address: str, wbits: int, cut_short: bool) -> None:
        self._stored, self._address, self._cut_short = stored, address, cut_short
        self._stream: Any = isal_zlib.decompressobj(wbits)
        self._packed = b""
        self.broken_off = False

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills `buffer` unless the file ends; raises `InputError` if it is damaged."""
        filled = 0
        with memoryview(buffer) as view, view.cast("B") as target:
            while filled < len(target):
                piece = self._next(min(_OUT_BYTES, len(target) - filled))
                if not piece:
                    break
                target[filled : filled + len(piece)] = piece
                filled += len(piece)
        return filled

    def close(self) -> None:
        """Closes the packed file too."""
        if not self.closed:
            self._stored.close()
        super().close()

    def _goes_on(self) -> bool:
        """Whether another stream follows the one that ended, and is begun."""
        raise NotImplementedError

    def _next(self, size_bytes: int) -> bytes:
        """Up to so many further bytes; none at the end."""
        while not self._stream.eof or self._goes_on():
            at_end = not self._packed and not self._read()
            try:
                piece: bytes = self._stream.decompress(self._packed, size_bytes)
            except _ISAL_ERROR as error:
                raise damaged(self._address, self.form, error) from error
            ended = self._stream.eof
            self._packed = self._stream.unused_data if ended else self._stream.unconsumed_tail
            if piece:
                return piece
            if at_end and not ended:
                self.broken_off = True
                if not self._cut_short:
                    raise broken_off_error(self._address)
                break
        return b""

    def _read(self) -> bool:
        """Appends to the packed bytes; False if there are no more."""
        more = self._stored.read(_IN_BYTES)
        self._packed += more
        return bool(more)


class Unpacked(_Packed):
    """What a gzip file unpacks to, from all its members one after the other.

    cut_short: data that break off are no error; what is there comes, and `broken_off` is set.
    """

    form = "gzip"

    def __init__(self, stored: BinaryIO, address: str, cut_short: bool) -> None:
        super().__init__(stored, address, _GZIP, cut_short)

    def _goes_on(self) -> bool:
        """Whether another member follows; zeros before it are passed."""
        while True:
            self._packed = self._packed.lstrip(b"\0")
            if len(self._packed) >= len(GZIP_MAGIC) or not self._read():
                break
        if not self._packed:
            return False
        if not GZIP_MAGIC.startswith(self._packed[: len(GZIP_MAGIC)]):
            raise damaged(self._address, self.form, "other bytes follow them")
        self._stream = isal_zlib.decompressobj(_GZIP)
        return True


class Inflated(_Packed):
    """What a deflated member of a zip file unpacks to, checked against its `crc` at its end."""

    form = "zip"

    def __init__(self, stored: BinaryIO, address: str, crc: int) -> None:
        super().__init__(stored, address, _DEFLATE, cut_short=False)
        self._expected, self._crc = crc, 0

    def _next(self, size_bytes: int) -> bytes:
        piece = super()._next(size_bytes)
        self._crc = isal_zlib.crc32(piece, self._crc)
        if not piece and self._crc != self._expected:
            raise damaged(self._address, self.form, "another checksum than the directory's")
        return piece

    def _goes_on(self) -> bool:
        return False


def broken_off(file: BinaryIO) -> str:
    """In the middle of what a file broke off, for a message; nothing if it did not."""
    return _BROKEN_OFF if isinstance(file, Unpacked) and file.broken_off else ""


def unpacked_head(probe: FileProbe, address: str) -> tuple[bytes, bool]:
    """The first bytes of what a gzip file's head unpacks to, over all members that it shows, and
    whether the file is so short that it breaks off there.

    Raises `InputError` if it is damaged, or breaks off before anything.
    """
    data, unpacked = probe.head, b""
    breaks_off = False
    while data.startswith(GZIP_MAGIC) and len(unpacked) < HEAD_BYTES:
        stream = zlib.decompressobj(_GZIP)
        try:
            unpacked += stream.decompress(data, HEAD_BYTES)
        except zlib.error as error:
            raise damaged(address, Unpacked.form, error) from error
        whole_file = len(probe.head) < EDGE_BYTES and len(unpacked) < HEAD_BYTES
        breaks_off = whole_file and not stream.eof
        data = stream.unused_data
    if breaks_off and not unpacked:
        raise broken_off_error(address)
    return unpacked, breaks_off


def explain_cut(address: str, cut: str) -> str:
    """What is wrong with a file that ends in the middle of something, and what to do."""
    return f"{address} ends in the middle of {cut}: it was cut short; fetch it again"


def broken_off_error(address: str) -> InputError:
    """The error of compressed data that break off."""
    return InputError(explain_cut(address, _BROKEN_OFF))


def damaged(address: str, form: str, why: object) -> InputError:
    """The error of compressed data that do not unpack."""
    return InputError(f"{address} is damaged, its {form} data say: {why}; fetch it again")
