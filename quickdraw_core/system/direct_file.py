"""A local file whose bytes come straight from the disk if they are not in memory yet.

The page cache makes room for each byte and copies it, which takes eight times the processor time
of the disk alone, or more (`benchmarks/RESULTS.md`). What is read once gains nothing by it.
"""

import ctypes
import errno
import io
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PAGE_BYTES = mmap.PAGESIZE
_PIECE_BYTES = 2 << 20
"""Of one request: measured best; of 32 MiB the kernel takes more time to pin the memory."""
_SMALLEST_BYTES = 1 << 20
_CACHESTAT = 451
"""Number of the system call, since Linux 6.5; on most machines, elsewhere there is none of it."""
_REFUSED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheStat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")
    )


class DirectFile(io.FileIO):
    """A file of this machine, read-only, as `open(path, "rb", buffering=0)` gives it.

    A large read goes past the page cache if most of what it asks for is not there, the file system
    lies on a disk of this machine, and the memory is placed as `room_before` says. Where the
    system does not know these things, all reads are ordinary ones.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens the file. Raises `OSError`."""
        super().__init__(path, "rb")
        status = os.fstat(self.fileno())
        self._size_bytes = status.st_size
        self._direct = _open_direct(path, status)

    def room_before(self, address: int) -> int:
        """Bytes to leave free at `address`, so that what is read next behind them may come from
        the disk: memory and file must be at the same place in their pages.
        """
        return 0 if self._direct is None else (self.tell() - address) % PAGE_BYTES

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills `buffer`, or its beginning; 0 is the end of the file."""
        with memoryview(buffer) as view, view.cast("B") as target:
            if self._direct is not None and len(target) >= _SMALLEST_BYTES:
                position = self.tell()
                head = -position % PAGE_BYTES
                if head:  # up to the page's end; the next read goes on
                    return super().readinto(target[:head])
                length = len(target) // PAGE_BYTES * PAGE_BYTES
                if self._is_on_disk_only(position, length):
                    filled = self._read_direct(target[:length], position)
                    if filled:
                        self.seek(position + filled)
                        return filled
            return super().readinto(target)

    def close(self) -> None:
        """Closes the file."""
        self._close_direct()
        super().close()

    def _close_direct(self) -> None:
        direct, self._direct = getattr(self, "_direct", None), None
        if direct is not None:
            os.close(direct)

    def _is_on_disk_only(self, position: int, length: int) -> bool:
        """Whether less than half of a range is in memory, as far as the file goes."""
        assert _LIBC is not None
        length = min(length, self._size_bytes - position)
        if length <= 0:
            return False
        wanted, state = _Range(position, length), _CacheStat()
        references = ctypes.byref(wanted), ctypes.byref(state)
        if _LIBC.syscall(_CACHESTAT, self.fileno(), *references, 0):
            self._close_direct()  # it does not say, and will not
            return False
        return int(state.cached) * PAGE_BYTES < length / 2

    def _read_direct(self, target: memoryview, position: int) -> int:
        """Fills `target` as far as the file goes; how far. 0 also if the disk refuses."""
        filled = 0
        assert self._direct is not None
        try:
            while filled < len(target):
                piece = target[filled : filled + _PIECE_BYTES]
                count = os.preadv(self._direct, [piece], position + filled)
                filled += count
                if count < len(piece):
                    break
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._close_direct()
        return filled


def _open_direct(path: str | Path, status: os.stat_result) -> int | None:
    """A descriptor that reads past the page cache. None where that does not work, or where each
    read would wait for a network: file systems without a disk of their own have no block device.
    """
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    if _LIBC is None or status.st_size < _SMALLEST_BYTES:
        return None
    if not os.path.exists(f"/sys/dev/block/{device}"):  # noqa: PTH110 - raises nothing
        return None
    with suppress(OSError):
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        if os.path.samestat(os.fstat(direct), status):
            return direct
        os.close(direct)  # another file has got this name meanwhile
    return None


def _libc() -> "ctypes.CDLL | None":
    """The C library, if it has what is needed."""
    if not (hasattr(os, "O_DIRECT") and hasattr(os, "preadv")):
        return None
    with suppress(OSError):
        library = ctypes.CDLL(None)
        if hasattr(library, "syscall"):
            return library
    return None


_LIBC = _libc()
