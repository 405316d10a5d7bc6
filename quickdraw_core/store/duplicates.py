"""Drawings whose key_id an earlier drawing of the store has, found in bounded memory.

The ids are dealt out by hash to passes, each a job of its own: it reads the id column of all
files, keeps the ids that are its own, sorts them and looks at neighbours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from quickdraw_core.store.holdout import UInt64Array, mix64

IDS_PER_PASS = 16_000_000
"""128 MB of ids, and as much again while they are gathered."""


@dataclass(frozen=True)
class DuplicateSearch:
    """One pass: over the files `paths` of `store`, in the order that says what is earlier."""

    store: Path
    paths: tuple[str, ...]
    number: int
    passes: int


def duplicate_searches(store: Path, files: list[tuple[str, int]]) -> list[DuplicateSearch]:
    """The passes over `files`, (path, rows) in order, which find all duplicates together."""
    rows = sum(count for _, count in files)
    passes = -(-rows // IDS_PER_PASS)
    paths = tuple(path for path, _ in files)
    return [DuplicateSearch(store, paths, number, passes) for number in range(passes)]


def find_duplicates(search: DuplicateSearch) -> dict[str, list[int]]:
    """The rows (positions in their Parquet file) that repeat an earlier row's key_id, by path."""
    ids = np.concatenate([_own_ids(search, path)[1] for path in search.paths])
    ids.sort()
    repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
    if not len(repeated):
        return {}
    found: dict[str, list[int]] = {}
    seen: set[int] = set()
    for path in search.paths:
        rows, own = _own_ids(search, path)
        for place in np.flatnonzero(np.isin(own, repeated)):
            key_id = int(own[place])
            if key_id in seen:
                found.setdefault(path, []).append(int(rows[place]))
            seen.add(key_id)
    return found


def _own_ids(search: DuplicateSearch, path: str) -> tuple[npt.NDArray[np.int64], UInt64Array]:
    """The rows of a file that belong to this pass, and their ids."""
    file = pq.ParquetFile(search.store / path)
    ids: UInt64Array = file.read(columns=["key_id"])["key_id"].to_numpy()
    if search.passes == 1:
        return np.arange(len(ids)), ids
    rows = np.flatnonzero(mix64(ids) % np.uint64(search.passes) == search.number)
    return rows, ids[rows]
