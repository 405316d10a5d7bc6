"""What `describe` says of a store is what a plain count over all its rows says."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_store import Row, build_store
from strategies import drawing

from quickdraw_core.errors import StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.store.describe import Description, Distribution, describe_store
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.schema import SCHEMA
from quickdraw_core.store.store import Store

rows = st.builds(
    Row,
    key_id=st.integers(0, 2**64 - 1),
    countrycode=st.none() | st.sampled_from(["US", "NA", "ZZ", "ø"]),
    recognized=st.none() | st.booleans(),
    timestamp_us=st.none() | st.integers(0, 2**32 * 1_000_000),
    strokes=drawing,
)
windows = st.lists(rows, max_size=8)
stores = st.dictionaries(
    st.sampled_from(["cat", "ice cream", "zebra"]), st.lists(windows, min_size=1, max_size=3)
)


def frame_of(store: Store) -> pd.DataFrame:
    """All rows of a store, with their numbers of strokes and points and their side."""
    frames = []
    for file in store.manifest.files:
        table = pq.ParquetFile(store.path / file.path).read()
        frame = pd.DataFrame({name: table[name].to_pylist() for name in table.column_names})
        frame["word"] = file.word
        frame["side"] = store.manifest.holdout.split(table["key_id"].to_numpy())
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    frame["points"] = frame["x"].map(len).astype(int)
    frame["strokes"] = frame["stroke_lengths"].map(len).astype(int) // 2
    return frame


def percentile(values: list[int], percent: int) -> int:
    """The smallest value that `percent` of all values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def check_numbers(found: Description, frame: pd.DataFrame) -> None:
    """`found` against a recomputation from all rows."""
    known = frame["recognized"].dropna()
    assert found.drawings == len(frame)
    assert found.recognized == (pytest.approx(known.mean()) if len(known) else None)
    assert found.recognized_unsaid == len(frame) - len(known)
    for split in Split:
        assert getattr(found, split.name.lower()) == (frame["side"] == split).sum()
    for name in ("strokes", "points"):
        numbers, values = getattr(found, name), frame[name].tolist()
        assert numbers.mean == pytest.approx(np.mean(values))
        assert numbers.max == max(values)
        for percent in (50, 90, 99):
            assert getattr(numbers, f"p{percent}") == percentile(values, percent)
    counts = frame["countrycode"].value_counts()
    assert {c.code: c.drawings for c in found.countries} == counts.to_dict()
    assert [c.drawings for c in found.countries] == sorted(counts, reverse=True)
    assert all(c.share == pytest.approx(c.drawings / len(frame)) for c in found.countries)
    assert found.without_country == frame["countrycode"].isna().sum()
    times = pd.to_datetime(frame["timestamp"], utc=True).dropna()
    moments = found.first_timestamp, found.last_timestamp
    if len(times):
        assert [pd.Timestamp(t) for t in moments] == [times.min(), times.max()]
    else:
        assert moments == (None, None)
    for one in found.by_class:
        some = frame[frame["word"].isna() if one.word is None else frame["word"] == one.word]
        assert one.drawings == len(some)
        if len(some):
            assert one.strokes == pytest.approx(some["strokes"].mean())
            assert one.points == pytest.approx(some["points"].mean())
        known = some["recognized"].dropna()
        assert one.recognized == (pytest.approx(known.mean()) if len(known) else None)
        for split in Split:
            assert getattr(one, split.name.lower()) == (some["side"] == split).sum()


@settings(max_examples=25, deadline=None)
@given(stores)
def test_all_numbers_are_those_of_a_plain_count(windows: dict[str, list[list[Row]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(Path(folder), windows)
        found = describe_store(store.path)
        assert [one.word for one in found.by_class] == sorted(windows)
        assert found.classes == len(windows)
        if store.manifest.rows_kept:
            check_numbers(found, frame_of(store))
        else:
            assert (found.drawings, found.bytes_per_drawing, found.countries) == (0, None, ())
            assert found.strokes == found.points == Distribution(None, None, None, None, None)
        assert json.loads(json.dumps(found.to_json(), allow_nan=False))["drawings"] == (
            store.manifest.rows_kept
        )


def test_an_ingested_store_is_described(store: Store) -> None:
    found = describe_store(store.path)
    check_numbers(found, frame_of(store))
    manifest = store.manifest
    assert found.fingerprint == manifest.fingerprint
    assert (found.rows_read, found.rejected) == (manifest.rows_read, manifest.rejected)
    assert [(s.form, s.files, s.rows_read) for s in found.sources] == [("csv", 4, 600)]
    assert found.size_bytes == sum(p.stat().st_size for p in store.path.rglob("*.parquet"))
    assert found.bytes_per_drawing == pytest.approx(found.size_bytes / 600)


def test_drawings_of_a_test_file_are_described_without_words(tmp_path: Path) -> None:
    lines = [f'{n << 21},NA,"[[[0,{n}],[0,9]]]"\n' for n in range(1, 40)]
    source = tmp_path / "test_simplified.csv"
    source.write_text("key_id,countrycode,drawing\n" + "".join(lines))
    ingest(IngestConfig(source=source, store=tmp_path / "store", workers=1))
    found = describe_store(tmp_path / "store")
    check_numbers(found, frame_of(Store.open(tmp_path / "store")))
    assert (found.classes, [one.word for one in found.by_class]) == (0, [None])
    assert (found.recognized, found.first_timestamp) == (None, None)


@given(st.lists(st.integers(0, 300), min_size=1))
def test_a_histogram_gives_the_percentiles_of_its_values(values: list[int]) -> None:
    found = Distribution.of(np.bincount(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.p50, found.p90, found.p99) == tuple(percentile(values, p) for p in (50, 90, 99))
    assert found.max == max(values)


def test_the_points_are_not_read(tmp_path: Path) -> None:
    """Nine tenths of a store are x and y: what stands there makes no difference."""
    row = Row(1, "DE", True, 0, [([7] * 5_000, [9] * 5_000)])
    built = build_store(tmp_path, {"cat": [[row]]})
    before = describe_store(built.path)
    (path,) = built.path.rglob("*.parquet")
    group = pq.ParquetFile(path).metadata.row_group(0)
    data = bytearray(path.read_bytes())
    for name in ("x", "y"):
        column = group.column(SCHEMA.names.index(name))
        start = column.data_page_offset
        data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    assert describe_store(built.path) == before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    built = build_store(tmp_path, {"cat": [[Row(1, "DE", True, 0, [([7], [9])])]]})
    (path,) = built.path.rglob("*.parquet")
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StoreError, match=r"cannot read .*word=cat/part-.*quickdraw verify"):
        describe_store(built.path)
