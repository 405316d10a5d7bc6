"""Lines of spaces and tabs alone are no rows, as in pandas."""

import gzip
import random
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_files import HEADER, read_window, short_rows, source_of

from quickdraw_core.formats.scanning.line_scan import skip_rows
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import IngestResult, ingest
from quickdraw_core.reading import first_read, row_index
from quickdraw_core.reading import row_reader as reading
from quickdraw_core.reading.first_read import found_windows, unread
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.reading.row_reader import DUPLICATE, read_windows, window_groups
from quickdraw_core.reading.windows import RowSelection, Window
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.verify import verify_store

BLANKS = [b"\n", b"\r\n", b"\r\r\n", b" \n", b"\t\n", b" \t \r\n"]

blank_lines = st.lists(st.sampled_from(BLANKS), max_size=3).map(b"".join)


def naively_skipped(data: bytes, start: int, rows: int) -> tuple[int, int]:
    """`skip_rows`, line by line."""
    end, passed = start, 0
    while passed < rows and (feed := data.find(b"\n", start)) >= 0:
        if data[start:feed].strip(b" \t\r"):
            end, passed = feed + 1, passed + 1
        start = feed + 1
    return end, passed


@settings(deadline=None)  # the first one compiles
@given(
    st.lists(st.sampled_from([*BLANKS, b"row\n", b"a b \r\n", b"\xc2\xa0\n", b"x" * 99 + b"\n"])),
    st.sampled_from([b"", b" ", b"row"]),
    st.integers(0, 70),
    st.randoms(use_true_random=False),
)
def test_rows_are_skipped_as_line_by_line(
    lines: list[bytes], rest: bytes, rows: int, chance: random.Random
) -> None:
    data = b"".join(lines) + rest
    start = sum(map(len, lines[: chance.randint(0, len(lines))]))
    found = skip_rows(np.frombuffer(data, np.uint8), start, rows)
    assert tuple(map(int, found)) == naively_skipped(data, start, rows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(blank_lines, min_size=2, max_size=20),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from(["cat.csv", "cat.csv.gz"]),
    st.integers(1, 5),
    st.integers(1, 300),
    st.integers(0, 20),
    st.integers(1, 20),
)
def test_a_window_is_what_pandas_reads_of_a_file_with_blank_lines(
    blanks: list[bytes],
    line_end: bytes,
    name: str,
    stride: int,
    block_bytes: int,
    skiprows: int,
    nrows: int,
) -> None:
    before, *behind = blanks
    rows = short_rows(len(behind), line_end)
    data = before + HEADER + b"".join(row + blank for row, blank in zip(rows, behind, strict=True))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUICKDRAW_CACHE", folder)
        for module in (row_index, reading, first_read):
            patch.setattr(module, "STRIDE", stride)
        for module in (reading, first_read):
            patch.setattr(module, "rows_at_most", lambda source, offsets: 2 * stride)
        patch.setattr(row_index, "_BLOCK_BYTES", block_bytes)
        path = Path(folder) / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        source = source_of(path)
        index = index_rows(source)
        expected = pd.read_csv(path)["key_id"].tolist()
        assert (index.rows, index.cut) == (len(rows), "")
        assert len(expected) == len(rows)

        window = Window(skiprows, nrows)
        table, rejected = read_window(source, window)
        assert table["key_id"].to_pylist() == expected[skiprows : skiprows + nrows]
        assert not rejected

        groups = window_groups(source, index, RowSelection("all"), 0)
        planned = [part for group in groups for part in read_windows(group)]
        assert [id for part in planned for id in part.rows.key_ids.tolist()] == expected
        first = list(found_windows(source, unread(source)))
        assert [found.window for found in first] == [part.window for part in planned]
        last = first[-1].known
        assert (last.rows, last.offsets, last.end) == (index.rows, index.offsets, index.end)


def run(source: Path, store: Path, **options: object) -> IngestResult:
    values = {"source": source, "store": store, "workers": 1, "test_per_class": 5} | options
    return ingest(IngestConfig.parse(values))


@pytest.mark.parametrize("name", ["cat.csv", "cat.ndjson"])
def test_a_file_with_blank_lines_gives_the_store_of_one_without(name: str, tmp_path: Path) -> None:
    rows = short_rows(60)
    head = HEADER
    if name == "cat.ndjson":
        head, line = b"", (
            b'{"word":"cat","countrycode":"US","timestamp":"2017-03-08 21:12:07.26604 UTC",'
            b'"recognized":true,"key_id":"%d","drawing":[[[1],[2]]]}\n'
        )  # fmt: skip
        rows = [line % (10_000_000 + number) for number in range(60)]
    rows[20] = b"nonsense\n"
    rows[40] = rows[7]
    kept = []
    for folder, between in (("plain", b""), ("windows", b"\r\n\r\r\n"), ("spaced", b"\n \n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(between + head + between + b"".join(
            row + between for row in rows
        ))  # fmt: skip
        store = tmp_path / f"{folder}-store"
        result = run(tmp_path / folder, store, max_rejected=0.1)
        assert (result.rows_read, result.rows_kept) == (60, 58)
        (file,) = Manifest.read(store).files
        (quarantine,) = store.glob("quarantine/*/*.jsonl")
        kept.append((pq.read_table(store / file.path), quarantine.read_text()))
        assert DUPLICATE in kept[-1][1]
        assert not verify_store(store).problems
    assert kept[0] == kept[1] == kept[2]
