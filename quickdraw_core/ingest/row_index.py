"""Where the rows of a file begin, so that a window costs its own rows and not those before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quickdraw_core.ingest.windows import Window

STRIDE = 4_096
"""One row in so many has its byte offset kept."""

_BLOCK_BYTES = 1 << 24
_NEWLINE = ord("\n")


@dataclass(frozen=True)
class RowIndex:
    """offsets[k]: byte where data row `k * STRIDE` begins; rows: data rows in all."""

    rows: int
    offsets: tuple[int, ...]


def index_rows(path: Path) -> RowIndex:
    """Scans a file once for line ends. A last line without one counts as a row."""
    header_end = None
    rows, offsets, position, ends_open = 0, [], 0, False
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1 + position
            if header_end is None and len(ends):
                header_end = int(ends[0])
                offsets.append(header_end)
                ends = ends[1:]
            if header_end is not None and len(ends):
                # The k-th line end closes row k - 1 and begins row k.
                first = -(rows + 1) % STRIDE
                offsets.extend(int(end) for end in ends[first::STRIDE])
                rows += len(ends)
            position += len(block)
            ends_open = block[-1] != _NEWLINE
    if header_end is not None and ends_open:
        rows += 1
    return RowIndex(rows, tuple(offsets))


def read_window(path: Path, offset: int, offset_row: int, window: Window) -> Iterator[bytes]:
    """Lines of a window; `offset` is the byte where data row `offset_row` <= skiprows begins."""
    with path.open("rb") as file:
        file.seek(offset)
        for _ in range(window.skiprows - offset_row):
            file.readline()
        for _ in range(window.nrows):
            line = file.readline()
            if not line:
                return
            yield line
