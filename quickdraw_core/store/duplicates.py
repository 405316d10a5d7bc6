"""Drawings whose key_id an earlier drawing of the store has, found in bounded memory.

Sorting all ids would take longer than reading them. A first pass sets a bit for each id, chosen by
its hash, and keeps those whose bit was set before: all repeated ones, and a few others. A second
pass gathers all ids that share a bit with one of those, few enough to sort.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import uint64

from quickdraw_core.drawing import UInt64Array
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location
from quickdraw_core.storage.storage import Storage
from quickdraw_core.system.compiled import compiled
from quickdraw_core.system.prefetch import on_threads

BITS_A_ROW = 16
"""Bits of a filter at least: of many rows, one id in 30 is kept for nothing."""

MAX_FILTER_BITS = 1 << 30
"""128 MiB. At 50 million rows one id in 40 is kept for nothing."""

_FILES_AT_ONCE = 8
_unsigned: Any = uint64
_SPREAD = _unsigned(0x9E37_79B9_7F4A_7C15)  # 2**64 over the golden ratio: Fibonacci hashing
_WORD_BITS = _unsigned(6)
_IN_WORD = _unsigned(63)
_1 = _unsigned(1)


@dataclass(frozen=True)
class DuplicateSearch:
    """The files `paths` of `store`, with `rows` rows in all; earlier files come first."""

    store: Location
    paths: tuple[str, ...]
    rows: int


def find_duplicates(search: DuplicateSearch) -> dict[str, list[int]]:
    """The rows (positions in their Parquet file) that repeat an earlier row's key_id, by path."""
    bits = _empty_filter(search.rows)
    suspects = _joined([_add_ids(ids, bits) for _, ids in _ids(search)])
    if not len(suspects):
        return {}
    bits.fill(0)  # now of the suspects: two filters at once would take twice the memory
    _add_ids(suspects, bits)
    shared = _joined([_ids_in(ids, bits) for _, ids in _ids(search)])
    shared.sort()
    repeated = np.unique(shared[1:][shared[1:] == shared[:-1]])
    return _positions(search, repeated) if len(repeated) else {}


def _positions(search: DuplicateSearch, repeated: UInt64Array) -> dict[str, list[int]]:
    """Where each of the repeated ids stands again after its first position, by path."""
    positions: dict[str, list[int]] = {}
    earlier: set[int] = set()
    for path, ids in _ids(search):
        for row in np.flatnonzero(np.isin(ids, repeated)):
            key_id = int(ids[row])
            if key_id in earlier:
                positions.setdefault(path, []).append(int(row))
            earlier.add(key_id)
    return positions


def _ids(search: DuplicateSearch) -> Iterator[tuple[str, UInt64Array]]:
    """The files one after the other, and their ids; a few are in memory at a time."""
    storage = storage_of(search.store)
    for first in range(0, len(search.paths), _FILES_AT_ONCE):
        paths = search.paths[first : first + _FILES_AT_ONCE]
        read = on_threads(partial(_read_ids, storage), paths, storage.threads)
        yield from zip(paths, read, strict=True)


def _read_ids(storage: Storage, path: str) -> UInt64Array:
    chunks = storage.read_table(path, ["key_id"])["key_id"].chunks
    # Not by `to_numpy`, which would import pandas.
    return _joined(
        [np.frombuffer(c.buffers()[1], np.uint64)[c.offset : c.offset + len(c)] for c in chunks]
    )


def _joined(parts: Sequence[UInt64Array]) -> UInt64Array:
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _empty_filter(rows: int) -> UInt64Array:
    """A filter without a bit set, as words of 64: uint64 [bits / 64]."""
    bits = 1 << max(64, BITS_A_ROW * rows - 1).bit_length()
    return np.zeros(min(bits, MAX_FILTER_BITS) // 64, np.uint64)


def _add_ids(ids: UInt64Array, bits: UInt64Array) -> UInt64Array:
    """Sets the bit of each id, one after the other; returns the ids whose bit was set before."""
    hits = np.empty(len(ids), np.uint64)
    return hits[: _add(ids, bits, _shift(bits), hits)].copy()


def _ids_in(ids: UInt64Array, bits: UInt64Array) -> UInt64Array:
    """The ids whose bit is set."""
    hits = np.empty(len(ids), np.uint64)
    return hits[: _find(ids, bits, _shift(bits), hits)].copy()


def _shift(bits: UInt64Array) -> np.uint64:
    """How far a hash is shifted to be the number of a bit."""
    return np.uint64(64 - (64 * len(bits) - 1).bit_length())


@compiled()
def _add(ids: UInt64Array, bits: UInt64Array, shift: np.uint64, hits: UInt64Array) -> int:
    count = 0
    for key_id in ids:
        index = (key_id * _SPREAD) >> shift
        word = bits[index >> _WORD_BITS]
        bit = _1 << (index & _IN_WORD)
        if word & bit:
            hits[count] = key_id
            count += 1
        bits[index >> _WORD_BITS] = word | bit
    return count


@compiled()
def _find(ids: UInt64Array, bits: UInt64Array, shift: np.uint64, hits: UInt64Array) -> int:
    count = 0
    for key_id in ids:
        index = (key_id * _SPREAD) >> shift
        if bits[index >> _WORD_BITS] & (_1 << (index & _IN_WORD)):
            hits[count] = key_id
            count += 1
    return count
