"""Which rows of a file are read: pure functions from a row count to windows.

`Window(skiprows, nrows)` means what pandas means by it with the header kept:
`read_csv(skiprows=range(1, skiprows + 1), nrows=nrows)`.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from quickdraw_core.errors import ConfigError

WINDOW_ROWS = 65_536
"""Rows of a window at most: about 28 MB of simplified CSV."""

WINDOW_BYTES = 32 << 20
"""Bytes of a window at most, as long as the file's rows are about alike."""

STRIDE = 4_096
"""One row in so many has its byte offset kept; windows are cut at multiples of it."""


class Window(NamedTuple):
    """Data rows `skiprows` to `skiprows + nrows - 1` of a file, counted from 0."""

    skiprows: int
    nrows: int


@dataclass(frozen=True)
class RowSelection:
    """What `--rows` says: `all`, `head:N`, or `spread:WxR` (W windows of R rows)."""

    kind: str
    windows: int = 1
    rows: int = 0

    @classmethod
    def parse(cls, text: str) -> "RowSelection":
        """Reads the option. Raises `ConfigError` if it has another form."""
        if text == "all":
            return cls("all")
        if match := re.fullmatch(r"head:([0-9]+)", text):
            selection = cls("head", 1, int(match[1]))
        elif match := re.fullmatch(r"spread:([0-9]+)x([0-9]+)", text):
            selection = cls("spread", int(match[1]), int(match[2]))
        else:
            raise ConfigError(
                f"rows must be all, head:N or spread:WxR (W windows of R rows), found {text!r}"
            )
        if not selection.rows or not selection.windows:
            raise ConfigError(f"rows must ask for at least one row, found {text!r}")
        return selection


def select_windows(
    selection: RowSelection, rows: int, word: str, seed: int, piece_rows: int = WINDOW_ROWS
) -> list[Window]:
    """Windows over a file of `rows` data rows, in order, never overlapping, none longer than
    `piece_rows`.

    If a selection asks for as many rows as the file has, all are read. A larger selection contains
    the smaller one: `head:N` of a larger N, `spread` of more windows (see `_spread`).
    """
    if selection.kind == "all" or selection.windows * selection.rows >= rows:
        chosen = [Window(0, rows)]
    elif selection.kind == "head":
        chosen = [Window(0, selection.rows)]
    else:
        chosen = _spread(selection, rows, word, seed)
    return [piece for window in chosen for piece in _pieces(window, piece_rows)]


def piece_rows(rows: int, size_bytes: int) -> int:
    """Rows of a window of a file with `rows` rows in `size_bytes` bytes.

    A power of two times `STRIDE`, as large as both bounds of a window allow. So the cuts stay
    where they are if the length of the rows changes a little.
    """
    window_rows = WINDOW_ROWS
    while window_rows > STRIDE and window_rows * size_bytes > WINDOW_BYTES * max(1, rows):
        window_rows //= 2
    return window_rows


def _spread(selection: RowSelection, rows: int, word: str, seed: int) -> list[Window]:
    """The first W slots of R rows into which random rows of the file fall.

    The random rows depend on (seed, word) alone. More windows therefore only add to the ones
    before; so do windows k times as long, except for the rows at the file's end that fill no slot.
    """
    key = int.from_bytes(sha256(f"{seed}:{word}".encode()).digest()[:8], "little")
    generator = np.random.default_rng(key)
    slots = rows // selection.rows
    random_rows = np.empty(0, np.int64)
    chosen = np.empty(0, np.int64)
    while len(chosen) < selection.windows:
        more = generator.integers(0, rows, 1024 + len(random_rows))
        random_rows = np.append(random_rows, more)
        whole = random_rows // selection.rows
        whole = whole[whole < slots]
        _, first = np.unique(whole, return_index=True)
        chosen = whole[np.sort(first)]
    starts = np.sort(chosen[: selection.windows]) * selection.rows
    return [Window(int(start), selection.rows) for start in starts]


def _pieces(window: Window, piece_rows: int) -> list[Window]:
    end = window.skiprows + window.nrows
    return [
        Window(start, min(piece_rows, end - start))
        for start in range(window.skiprows, end, piece_rows)
    ]
