"""The scores of a test file's rows, piece by piece, kept in a file if they are needed twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import UInt64Array

Scores = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True)
class ScoredPiece:
    """N rows of a test file. key_ids: uint64 [N]. readable: bool [N]. log_probabilities: float32
    [M, K], natural, of the M readable rows.
    """

    key_ids: UInt64Array
    readable: Flags
    log_probabilities: Scores


class ScoreSpool:
    """Keeps pieces in a file of 4 · K bytes a row, and 9 bytes a row in memory.

    Iterating gives the log probabilities alone, float32 [n, K], of some thousand rows at a time.
    Each piece is memory-mapped only while it is used, so that they take no memory.
    """

    def __init__(self, file: BinaryIO, classes: int) -> None:
        self._file, self._classes = file, classes
        self._rows: list[tuple[UInt64Array, Flags]] = []
        self._count = 0

    def add(self, piece: ScoredPiece) -> None:
        """Appends rows."""
        self._file.write(np.ascontiguousarray(piece.log_probabilities, np.float32).data)
        self._rows.append((piece.key_ids, piece.readable))
        self._count += len(piece.log_probabilities)

    def __iter__(self) -> Iterator[Scores]:
        self._file.flush()
        for first in range(0, self._count, _ROWS_AT_ONCE):
            yield self._mapped(first, min(_ROWS_AT_ONCE, self._count - first))

    def pieces(self) -> Iterator[ScoredPiece]:
        """The pieces as they were added."""
        self._file.flush()
        first = 0
        for key_ids, readable in self._rows:
            rows = int(readable.sum())
            yield ScoredPiece(key_ids, readable, self._mapped(first, rows))
            first += rows

    def _mapped(self, first: int, rows: int) -> Scores:
        shape = rows, self._classes
        if not rows:
            return np.empty(shape, np.float32)
        offset = first * self._classes * 4
        # Mode "c", though nobody writes: to compiled code a read-only array is another type.
        return np.asarray(np.memmap(self._file, np.float32, "c", offset, shape))
