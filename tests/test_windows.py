import csv
import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from row_files import (
    FORMS,
    CountedSource,
    read_window,
    short_rows,
    source_of,
    write_form,
    write_lines,
)
from writers import Row
from writers import rows as a_row

from quickdraw_core.errors import ConfigError
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.formats.kaggle import format_drawing
from quickdraw_core.ingest.scan import strokes
from quickdraw_core.reading import blocks, row_index
from quickdraw_core.reading import row_reader as reading
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.reading.row_reader import read_windows, window_groups
from quickdraw_core.reading.windows import (
    STRIDE,
    WINDOW_BYTES,
    WINDOW_ROWS,
    RowSelection,
    Window,
    piece_rows,
    select_windows,
)


@contextmanager
def small_strides(rows: int) -> Iterator[None]:
    """An index with an offset every few rows, so that small files have deep windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_index, "STRIDE", rows)
        patch.setattr(reading, "STRIDE", rows)
        yield


# A window is what pandas reads.

Values = tuple[int, str, str, str, datetime]


def as_pandas_reads(path: Path, window: Window) -> list[Values]:
    frame = pd.read_csv(
        path,
        skiprows=range(1, window.skiprows + 1),
        nrows=window.nrows,
        keep_default_na=False,
        dtype=str,
    )
    return [
        (
            int(row["key_id"]),
            row["countrycode"],
            json.dumps(json.loads(row["drawing"])),
            row["recognized"],
            datetime.fromisoformat(row["timestamp"]),
        )
        for row in frame.to_dict("records")
    ]


def as_we_read(path: Path, window: Window) -> list[Values]:
    table, rejected = read_window(source_of(path), window)
    assert not rejected
    return [
        (
            row["key_id"],
            row["countrycode"] or "",
            json.dumps(strokes(row["x"], row["y"], row["stroke_lengths"])),
            str(row["recognized"]),
            row["timestamp"].replace(tzinfo=None),
        )
        for row in table.to_pylist()
    ]


text = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('",; \t\u2028'), max_size=8
)
"""Whatever fits into a line, with quotes and commas in plenty."""


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """A CSV of drawings in some order of columns, some quoting, with some line ends."""
    found = draw(st.lists(a_row, min_size=1, max_size=16))
    countries = draw(st.lists(text, min_size=len(found), max_size=len(found)))
    names = draw(st.permutations([*TRAIN_COLUMNS, *draw(st.sets(st.sampled_from("abc")))]))
    file = io.StringIO(newline="")
    writer = csv.writer(
        file,
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )
    writer.writerow(names)
    for row, country in zip(found, countries, strict=True):
        moment = datetime(2017, 1, 1).fromtimestamp(row.timestamp_us // 1_000_000)
        fields = {
            "countrycode": country,
            "drawing": format_drawing(row.strokes),
            "key_id": row.key_id,
            "recognized": row.recognized,
            "timestamp": moment.isoformat(" ", "microseconds"),
            "word": "cat",
        }
        writer.writerow(fields.get(name, draw(text)) for name in names)
    data = file.getvalue().encode()
    return data if draw(st.booleans()) else data.rstrip(b"\r\n")


@settings(max_examples=50, deadline=None)
@given(csv_files(), st.data())
def test_a_window_is_what_pandas_reads(data: bytes, draws: st.DataObject) -> None:
    rows = data.rstrip(b"\r\n").count(b"\n")
    window = Window(
        draws.draw(st.integers(0, rows + 2), "skiprows"),
        draws.draw(st.integers(0, rows + 2), "nrows"),
    )
    stride = draws.draw(st.integers(1, 8), "stride")
    with tempfile.TemporaryDirectory() as folder, small_strides(stride):
        path = Path(folder) / "cat.csv"
        path.write_bytes(data)
        assert as_we_read(path, window) == as_pandas_reads(path, window)


ROWS = 3 * STRIDE + 1_000


@pytest.fixture(
    scope="module", params=["LF", "CRLF", "LF, none at the end", "CRLF, none at the end"]
)
def deep_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = short_rows(ROWS, b"\r\n" if "CRLF" in request.param else b"\n")
    if "none" in request.param:
        lines[-1] = lines[-1].rstrip(b"\r\n")
    return write_lines(tmp_path_factory.mktemp("deep") / "cat.csv", lines)


@pytest.mark.parametrize(
    "skiprows",
    sorted(
        edge + step
        for edge in (0, STRIDE, 2 * STRIDE, 3 * STRIDE, ROWS)
        for step in (-2, -1, 0, 1)
        if edge + step >= 0
    ),
)
def test_a_deep_window_is_what_pandas_reads(deep_file: Path, skiprows: int) -> None:
    for nrows in (1, 2, STRIDE + 1, ROWS):
        window = Window(skiprows, nrows)
        table, rejected = read_window(source_of(deep_file), window)
        expected = pd.read_csv(
            deep_file, skiprows=range(1, skiprows + 1), nrows=nrows, usecols=["key_id"]
        )
        assert table["key_id"].to_pylist() == expected["key_id"].tolist()
        assert not rejected


def test_a_window_of_real_drawings_is_what_pandas_reads(shared_data: Path) -> None:
    path = shared_data / "train_simplified" / "cat.csv"
    rows = len(pd.read_csv(path, usecols=["key_id"]))
    for window in (Window(0, 20), Window(rows // 2, 30), Window(rows - 7, 10)):
        assert as_we_read(path, window) == as_pandas_reads(path, window)


# Where pandas would go on, a line is a row.


def test_a_line_is_a_row_even_where_a_quoted_field_goes_on(tmp_path: Path) -> None:
    lines = short_rows(30)
    lines[11] = lines[11].replace(b"],[", b"],\n[")
    source = source_of(write_lines(tmp_path / "cat.csv", lines))
    assert index_rows(source).rows == 31
    table, rejected = read_window(source, Window(0, 31))
    assert table["key_id"].to_pylist() == [10_000_000 + i for i in range(30) if i != 11]
    assert [row.line for row in rejected] == [13, 14]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 19), st.integers(0, 10**6), st.integers(1, 6))
def test_a_stray_quote_costs_only_its_line(line: int, place: int, stride: int) -> None:
    lines = short_rows(20)
    at = place % (len(lines[line]) - 1)
    lines[line] = lines[line][:at] + b'"' + lines[line][at:]
    with tempfile.TemporaryDirectory() as folder, small_strides(stride):
        source = source_of(write_lines(Path(folder) / "cat.csv", lines))
        table, rejected = read_window(source, Window(0, 20))
        behind, _ = read_window(source, Window(line + 1, 20))
    assert {row.line for row in rejected} <= {line + 2}
    assert len(table) + len(rejected) == 20
    others = [10_000_000 + i for i in range(20) if i != line]
    assert [i for i in table["key_id"].to_pylist() if i - 10_000_000 != line] == others
    assert behind["key_id"].to_pylist() == others[line:]


# The windows of a selection.

ALL, HEADS, SPREADS = (
    st.just("all"),
    st.integers(1, 500_000).map(lambda n: f"head:{n}"),
    st.tuples(st.integers(1, 20), st.integers(1, 20_000)).map(lambda p: f"spread:{p[0]}x{p[1]}"),
)
ROW_COUNTS = st.integers(0, 300_000)
SEEDS = st.integers(0, 5)
PIECE_ROWS = st.sampled_from([STRIDE * 2**k for k in range(5)])


def covered(windows: list[Window]) -> set[int]:
    """The numbers of the rows in some windows."""
    return {row for window in windows for row in range(window.skiprows, sum(window))}


@given(ALL | HEADS | SPREADS, ROW_COUNTS, SEEDS, PIECE_ROWS)
def test_windows_are_in_order_apart_bounded_and_as_many_rows_as_asked(
    text: str, rows: int, seed: int, rows_at_most: int
) -> None:
    selection = RowSelection.parse(text)
    windows = select_windows(selection, rows, "cat", seed, rows_at_most)
    wanted = rows if selection.kind == "all" else selection.windows * selection.rows
    assert sum(window.nrows for window in windows) == min(rows, wanted)
    assert all(0 < window.nrows <= rows_at_most for window in windows)
    end = 0
    for window in windows:
        assert window.skiprows >= end
        end = window.skiprows + window.nrows
    assert end <= rows
    assert windows == select_windows(selection, rows, "cat", seed, rows_at_most)


@given(st.integers(1, 300_000), st.integers(1, 300_000), ROW_COUNTS, PIECE_ROWS)
def test_a_longer_head_keeps_all_whole_windows_of_a_shorter_one(
    one: int, other: int, rows: int, rows_at_most: int
) -> None:
    short, long = (
        select_windows(RowSelection("head", 1, n), rows, "cat", 0, rows_at_most)
        for n in sorted([one, other])
    )
    assert {window for window in short if window.nrows == rows_at_most} <= set(long)
    assert covered(short) <= covered(long)


@given(st.integers(1, 15), st.integers(1, 15), st.integers(1, 300), st.integers(1, 4_000), SEEDS)
def test_a_spread_of_more_windows_contains_one_of_fewer(
    windows: int, more: int, size: int, rows: int, seed: int
) -> None:
    few, many = (
        select_windows(RowSelection("spread", count, size), rows, "cat", seed)
        for count in (windows, windows + more)
    )
    if (windows + more) * size < rows:
        assert set(few) < set(many)
    assert covered(few) <= covered(many)


@given(st.integers(1, 12), st.integers(1, 100), st.integers(2, 5), st.integers(1, 4_000), SEEDS)
def test_a_spread_of_longer_windows_contains_one_of_shorter_but_at_the_end(
    windows: int, size: int, times: int, rows: int, seed: int
) -> None:
    assume(windows * size * times < rows)
    short, long = (
        select_windows(RowSelection("spread", windows, nrows), rows, "cat", seed)
        for nrows in (size, size * times)
    )
    last_slot = rows // (size * times) * size * times
    assert {row for row in covered(short) if row < last_slot} <= covered(long)


def test_a_spread_reaches_all_parts_of_a_file() -> None:
    spread = RowSelection("spread", 1, 10)
    starts = [select_windows(spread, 100_000, "cat", seed)[0].skiprows for seed in range(200)]
    assert {start * 10 // 100_000 for start in starts} == set(range(10))


@given(ALL | HEADS | SPREADS, ROW_COUNTS, SEEDS, PIECE_ROWS)
def test_windows_are_cut_at_multiples_of_a_piece_from_where_they_begin(
    text: str, rows: int, seed: int, rows_at_most: int
) -> None:
    selection = RowSelection.parse(text)
    whole = select_windows(selection, rows, "cat", seed, 1 << 40)
    pieces = select_windows(selection, rows, "cat", seed, rows_at_most)
    assert pieces == [
        Window(start, min(rows_at_most, sum(window) - start))
        for window in whole
        for start in range(window.skiprows, sum(window), rows_at_most)
    ]


@given(st.integers(0, 10**9), st.integers(0, 10**13))
def test_a_piece_is_the_largest_power_of_two_of_strides_within_both_bounds(
    rows: int, size_bytes: int
) -> None:
    found = piece_rows(rows, size_bytes)
    assert found in [STRIDE * 2**k for k in range(5)]
    if found > STRIDE:
        assert found * size_bytes <= WINDOW_BYTES * max(1, rows)
    if found < WINDOW_ROWS:
        assert 2 * found * size_bytes > WINDOW_BYTES * max(1, rows)


def test_spread_windows_differ_by_word_and_seed() -> None:
    spread = RowSelection.parse("spread:3x10")
    chosen = {
        tuple(select_windows(spread, 100_000, word, seed))
        for word in ("cat", "dog")
        for seed in (0, 1)
    }
    assert len(chosen) == 4


@pytest.mark.parametrize(
    "text",
    ["", "some", "head:", "head:0", "head:-1", "spread:3", "spread:0x4", "spread:4x0", "tail:9"],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="rows must"):
        RowSelection.parse(text)


# The windows of a file, read in groups.


@settings(max_examples=40, deadline=None)
@given(
    st.lists(a_row, min_size=1, max_size=40),
    st.sampled_from(FORMS),
    st.sampled_from(["all", "head:7", "head:30", "spread:3x4", "spread:5x2"]),
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_the_windows_of_a_file_together_are_the_rows_selected(
    found: list[Row], form: str, text: str, stride: int, rows_at_most: int
) -> None:
    found = [Row(**{**vars(row), "word": "cat"}) for row in found]
    selection = RowSelection.parse(text)
    with (
        tempfile.TemporaryDirectory() as folder,
        small_strides(stride),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(reading, "rows_at_most", lambda source, offsets: rows_at_most)
        source = source_of(write_form(Path(folder), form, found))
        groups = window_groups(source, index_rows(source), selection, 0)
        read = [part for group in groups for part in read_windows(group)]
    windows = select_windows(selection, len(found), "cat", 0, rows_at_most)
    assert [part.window for part in read] == windows
    assert all(len(part.rows) == part.window.nrows for part in read)
    key_ids = [row.key_id for row in found]
    assert [part.rows.key_ids.tolist() for part in read] == [
        key_ids[window.skiprows : sum(window)] for window in windows
    ]
    assert len(groups) == (1 if form.endswith(".gz") else len(windows))


def test_the_cuts_do_not_depend_on_what_the_cache_holds(tmp_path: Path) -> None:
    # Rows of about the size at which the bound of bytes takes over from that of rows, and some
    # long ones at the end, which only an index of the whole file knows.
    lines = short_rows(9 * STRIDE)
    pad = WINDOW_BYTES // WINDOW_ROWS - len(lines[0])
    lines = [line.replace(b"US", b"U" * pad) for line in lines]
    lines += [lines[0].replace(b"U", b"U" * 3)] * STRIDE
    source = source_of(write_lines(tmp_path / "cat.csv", lines))
    selection = RowSelection("head", 1, 8 * STRIDE + 5)
    incomplete = index_rows(source, selection.rows)
    assert not incomplete.complete
    complete = index_rows(source)
    assert complete.complete
    cut = [
        [group.windows for group in window_groups(source, index, selection, 0)]
        for index in (incomplete, complete)
    ]
    assert cut[0] == cut[1]


# What a window costs.


@pytest.mark.parametrize("nrows", [1, 50, STRIDE, 2 * STRIDE + 3])
def test_a_deep_window_costs_no_more_than_a_shallow_one(tmp_path: Path, nrows: int) -> None:
    rows = 8 * STRIDE
    lines = short_rows(rows)
    row_bytes = len(lines[0])
    source = source_of(write_lines(tmp_path / "cat.csv", lines))
    index = index_rows(source)
    assert index.rows == rows
    costs = []
    for skiprows in (rows // 100 - 1, rows // 2, rows - max(nrows, rows // 100)):
        window = Window(skiprows, nrows)
        counted = CountedSource(source)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "select_windows", lambda *_, window=window: [window])
            (group,) = window_groups(counted, index, RowSelection("all"), 0)  # type: ignore[arg-type]
        (found,) = read_windows(group)
        first = 10_000_000 + skiprows
        assert found.rows.key_ids.tolist() == list(range(first, first + nrows))
        assert nrows * row_bytes <= counted.bytes_read <= (nrows + 2 * STRIDE) * row_bytes
        costs.append(counted.bytes_read)
    assert max(costs) - min(costs) <= STRIDE * row_bytes


def test_a_compressed_file_is_never_in_memory_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = short_rows(3_000)
    path = tmp_path / "cat.csv"
    write_lines(path, lines)
    packed = tmp_path / "cat.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    path.unlink()
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)
    monkeypatch.setattr(reading, "rows_at_most", lambda source, offsets: 100)
    counted = CountedSource(source_of(packed))
    (group,) = window_groups(counted, index_rows(counted), RowSelection("all"), 0)  # type: ignore[arg-type]
    counted.asked.clear()
    read = list(read_windows(group))
    assert len(read) == 30
    assert sum(len(part.rows) for part in read) == 3_000
    assert max(counted.asked) <= 20_000
