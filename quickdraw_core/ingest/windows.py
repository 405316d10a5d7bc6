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
"""Rows of a window at most, about 28 MB of CSV: what one worker holds at a time."""


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
        """Reads the option. Raises `ConfigError` where it has another form."""
        if text == "all":
            return cls("all")
        if match := re.fullmatch(r"head:(\d+)", text):
            selection = cls("head", 1, int(match[1]))
        elif match := re.fullmatch(r"spread:(\d+)x(\d+)", text):
            selection = cls("spread", int(match[1]), int(match[2]))
        else:
            raise ConfigError(
                f"rows must be all, head:N or spread:WxR (W windows of R rows), found {text!r}"
            )
        if not selection.rows or not selection.windows:
            raise ConfigError(f"rows must ask for at least one row, found {text!r}")
        return selection


def select_windows(selection: RowSelection, rows: int, word: str, seed: int) -> list[Window]:
    """Windows over a file of `rows` data rows, in order, never overlapping.

    `spread` places its windows by chance, keyed by (seed, word): the rows outside are dealt
    out as gaps before, between and after. Where W·R reaches the file's rows, all are read.
    """
    if selection.kind == "spread" and selection.windows * selection.rows < rows:
        free = rows - selection.windows * selection.rows
        key = int.from_bytes(sha256(f"{seed}:{word}".encode()).digest()[:8], "little")
        starts = np.sort(np.random.default_rng(key).integers(0, free + 1, selection.windows))
        chosen = [
            Window(int(start) + number * selection.rows, selection.rows)
            for number, start in enumerate(starts)
        ]
    else:
        wanted = selection.rows * selection.windows if selection.kind != "all" else rows
        chosen = [Window(0, min(rows, wanted))]
    return [piece for window in chosen for piece in _pieces(window)]


def _pieces(window: Window) -> list[Window]:
    """Cuts a window into ones of at most `WINDOW_ROWS`."""
    end = window.skiprows + window.nrows
    return [
        Window(start, min(WINDOW_ROWS, end - start))
        for start in range(window.skiprows, end, WINDOW_ROWS)
    ]
