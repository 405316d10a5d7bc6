"""The suspicious drawings: what is wrong with each, and the files that say so."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.drawing import Float32Array, Int64Array
from quickdraw_core.formats.rows import UNKNOWN_RECOGNIZED
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.system.files import open_atomic

NONE = -1


class Reason(IntEnum):
    """What is wrong with a drawing, the gravest first: each is listed for one reason alone."""

    WRONG_WORD = 0
    LIKE_NO_WORD = 1
    NEAR_DUPLICATE = 2

    @property
    def text(self) -> str:
        """As files and page name it: `wrong word`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Suspects:
    """N suspicious drawings.

    rows: of the pack, int64 [N]. reasons (`Reason`): int64 [N]. scores: float32 [N], 0 to 1; of
    one reason the higher is the more suspicious. own: float32 [N], probability of the given word,
    NaN of a near-duplicate. others: int64 [N], the label that the drawing looks like, or NONE.
    other_rows: int64 [N], the row of the drawing that it is a near-duplicate of, or NONE.
    """

    rows: Int64Array
    reasons: Int64Array
    scores: Float32Array
    own: Float32Array
    others: Int64Array
    other_rows: Int64Array

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: npt.NDArray[Any]) -> "Suspects":
        """Those of some, by mask or index."""
        return Suspects(*(getattr(self, name)[chosen] for name in _COLUMNS))

    def worst_first(self) -> "Suspects":
        """By reason, then the highest score first; of equal ones the lower row."""
        return self.where(np.lexsort((self.rows, -self.scores, self.reasons)))


_COLUMNS = tuple(column.name for column in fields(Suspects))


def joined(parts: Sequence[Suspects]) -> Suspects:
    """All of them; a drawing that is in several parts stays with its gravest reason."""
    whole = Suspects(*(np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS))
    order = np.lexsort((whole.reasons, whole.rows))
    _, first = np.unique(whole.rows[order], return_index=True)
    return whole.where(order[first]).worst_first()


def write_suspects(path: Path, suspects: Suspects, pack: Pack) -> None:
    """Writes all suspects to a Parquet file, worst first, for any tool to read."""
    _write(path, _columns(suspects, pack))


def write_mask(path: Path, suspects: Suspects, pack: Pack) -> int:
    """Writes the train drawings among the suspects: the file that `select.exclude` takes.

    Columns: key_id, word, reason, score. Returns their number.
    """
    trained = suspects.where(pack.splits[suspects.rows] == Split.TRAIN)
    columns = _columns(trained, pack)
    _write(path, {name: columns[name] for name in ("key_id", "word", "reason", "score")})
    return len(trained)


def _columns(suspects: Suspects, pack: Pack) -> dict[str, pa.Array]:
    words = [*pack.label_map.words, None]  # NONE is the last
    rows, other_rows = suspects.rows, suspects.other_rows
    key_ids = pack.key_ids
    recognized = pack.recognized[rows]
    return {
        "key_id": pa.array(key_ids[rows].tolist(), pa.uint64()),
        "word": pa.array([words[label] for label in pack.labels[rows]], pa.string()),
        "reason": pa.array([Reason(reason).text for reason in suspects.reasons], pa.string()),
        "score": pa.array(suspects.scores.tolist(), pa.float32()),
        "likely_word": pa.array([words[label] for label in suspects.others], pa.string()),
        "probability": pa.array(suspects.own.tolist(), pa.float32()),
        "duplicate_of": pa.array(
            [int(key_ids[row]) if row != NONE else None for row in other_rows], pa.uint64()
        ),
        "recognized": pa.array(
            [None if flag == UNKNOWN_RECOGNIZED else bool(flag) for flag in recognized], pa.bool_()
        ),
        "split": pa.array([Split(side).name.lower() for side in pack.splits[rows]], pa.string()),
    }


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    with open_atomic(path, sync=False) as file:
        pq.write_table(pa.table(columns), file, write_page_checksum=True)
