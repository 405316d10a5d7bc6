"""A key_id that stands again is found wherever it is, and nothing else is."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.store import duplicates
from quickdraw_core.store.duplicates import DuplicateSearch, find_duplicates

IDS = (
    st.integers(0, 5)
    | st.integers(0, 2**43 - 1).map(lambda k: k << 21)
    | st.integers(0, 2**64 - 1)
)
"""Real ones end in 21 zero bits."""


def search(store: Path, files: Sequence[Sequence[int]]) -> DuplicateSearch:
    """Writes files of these ids."""
    for number, ids in enumerate(files):
        column = pa.array(np.array(ids, np.uint64))
        pq.write_table(pa.table({"key_id": column}), store / f"{number}.parquet")
    paths = tuple(f"{number}.parquet" for number in range(len(files)))
    return DuplicateSearch(store, paths, sum(map(len, files)))


def found_naively(files: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    seen: set[int] = set()
    found: dict[str, list[int]] = {}
    for number, ids in enumerate(files):
        for row, key_id in enumerate(ids):
            if key_id in seen:
                found.setdefault(f"{number}.parquet", []).append(row)
            seen.add(key_id)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(IDS, max_size=30), min_size=1, max_size=12), st.sampled_from([64, 2**20]))
def test_exactly_the_repeated_ids_are_found(files: list[list[int]], most_bits: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "MAX_FILTER_BITS", most_bits)
        assert find_duplicates(search(Path(folder), files)) == found_naively(files)


def test_few_of_many_ids_are_noted_for_nothing(tmp_path: Path) -> None:
    ids = np.random.default_rng(3).permutation(1 << 20).astype(np.uint64) << np.uint64(21)
    bits = duplicates._empty_filter(len(ids))
    assert len(duplicates._add_ids(ids, bits)) < len(ids) / 20
    assert find_duplicates(search(tmp_path, [ids.tolist()])) == {}
