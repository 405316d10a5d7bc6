"""Large arrays that are used again as soon as nothing refers to them any more.

A fresh array comes from the kernel page by page, each filled with zeros first. Where one of the
same size is filled for every window of a file, that took a third of the time of reading it.
"""

import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_KEPT = 12
"""Arrays kept a thread: more than a window takes."""

_SMALLEST_BYTES = 1 << 20
_UNUSED = sys.getrefcount(np.empty(0)) + 1  # the list's reference


class _Kept(threading.local):
    """The arrays of a thread, uint8, the one that was taken last at the end."""

    def __init__(self) -> None:
        self.arrays: list[npt.NDArray[np.uint8]] = []


_kept = _Kept()


def scratch(count: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    """An array of `count` elements whose values are not set, as of `np.empty`.

    It belongs to the caller as long as any view or buffer of it is referred to.
    """
    size_bytes = count * np.dtype(dtype).itemsize
    if size_bytes < _SMALLEST_BYTES:
        return np.empty(count, dtype)
    return _bytes(size_bytes)[:size_bytes].view(dtype)


def _bytes(size_bytes: int) -> npt.NDArray[np.uint8]:
    arrays = _kept.arrays
    for index in range(len(arrays)):
        fits = size_bytes <= len(arrays[index]) <= 2 * size_bytes
        if fits and sys.getrefcount(arrays[index]) == _UNUSED:
            arrays.append(arrays.pop(index))
            return arrays[-1]
    arrays.append(np.empty(size_bytes, np.uint8))
    del arrays[:-MAX_KEPT]
    return arrays[-1]
