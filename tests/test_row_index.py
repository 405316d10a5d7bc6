import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_files import (
    FORMS,
    HEADER,
    CountedSource,
    blocks_of,
    short_rows,
    source_of,
    write_form,
    write_lines,
)
from writers import Row
from writers import rows as a_row

from quickdraw_core.errors import InputError
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.reading import blocks, row_index
from quickdraw_core.reading.blocks import Block, window_blocks
from quickdraw_core.reading.row_index import STRIDE, RowIndex, index_rows, require_whole
from quickdraw_core.reading.windows import Window
from quickdraw_core.sources.files import SourceFile

LINES = short_rows(2 * STRIDE + 5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUICKDRAW_CACHE", str(folder))
    return folder


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "cat.csv", LINES)


@contextmanager
def small(stride: int, block_bytes: int) -> Iterator[None]:
    """An index with an offset every few rows, found in blocks of few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_index, "STRIDE", stride)
        patch.setattr(row_index, "_BLOCK_BYTES", block_bytes)
        patch.setattr(blocks, "BLOCK_BYTES", block_bytes)
        yield


def scanned(source: SourceFile, enough: int | None = None) -> tuple[RowIndex, int]:
    """The index, and how many bytes of the source were read to find it."""
    counted = CountedSource(source)
    index = index_rows(counted, enough)  # type: ignore[arg-type]
    assert counted.opened <= 1
    assert bool(counted.opened) == bool(counted.bytes_read)
    return index, counted.bytes_read


# What an index says.


def row_starts(path: Path) -> tuple[list[int], int]:
    """Where each row of a file begins, looked for one row at a time, and how long it is."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    starts, i = [], 0
    if ".csv" in path.name:
        i = data.index(b"\n") + 1
    while i < len(data):
        starts.append(i)
        if path.suffix == ".bin":
            strokes = int.from_bytes(data[i + 15 : i + 17], "little")
            i += 17
            for _ in range(strokes):
                i += 2 + 2 * int.from_bytes(data[i : i + 2], "little")
        else:
            end = data.find(b"\n", i)
            i = len(data) if end < 0 else end + 1
    return starts, len(data)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(a_row, min_size=1, max_size=40),
    st.sampled_from(FORMS),
    st.integers(1, 9),
    st.integers(1, 700),
    st.booleans(),
)
def test_an_index_says_what_a_naive_count_says_whatever_the_block_size(
    rows: list[Row], form: str, stride: int, block_bytes: int, cut_off: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, small(stride, block_bytes):
        path = write_form(Path(folder), form, rows)
        if cut_off:  # the last row, in front of its word
            data = path.read_bytes() if form[-2:] != "gz" else gzip.decompress(path.read_bytes())
            data = data[:-15]
            path.write_bytes(data if form[-2:] != "gz" else gzip.compress(data))
        starts, end = row_starts(path)
        found = index_rows(source_of(path))
    assert len(starts) == len(rows)
    cut = "a row" if cut_off else ""
    assert found == RowIndex(len(rows), tuple(starts[::stride]), end, cut=cut)


@pytest.mark.parametrize("rows", [1, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE])
def test_every_stride_th_row_has_its_offset(tmp_path: Path, rows: int) -> None:
    path = write_lines(tmp_path / "cat.csv", LINES[:rows])
    index = index_rows(source_of(path))
    line = len(LINES[0])
    assert index.offsets == tuple(range(len(HEADER), len(HEADER) + rows * line, STRIDE * line))
    assert (index.rows, index.end) == (rows, len(HEADER) + rows * line)
    for row in {0, rows // 2, rows - 1}:
        offset, first = index.start_of(row)
        assert first <= row < first + STRIDE
        assert offset == len(HEADER) + first * line
        assert row < (index.end_of(row + 1) - len(HEADER)) / line <= row + STRIDE


def test_a_file_that_lost_all_its_rows_has_none(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "cat.csv", LINES[:1])
    source = source_of(path)
    write_lines(path, [])
    assert index_rows(source) == RowIndex(0, (), len(HEADER))


# The cache.


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_did_not_change_is_scanned_once(tmp_path: Path, form: str) -> None:
    row = Row(1, "US", True, 1, "cat", [([1], [2])])
    path = write_form(tmp_path, form, [row] * 50)
    first, cost = scanned(source_of(path))
    assert cost > 0
    again, cost = scanned(source_of(path))
    assert cost == 0
    assert again == first


def with_one_more_row(path: Path, at: int) -> None:
    """Turns one byte into a line end: neither the size changes nor, set back, the time."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    assert data[at] != 10
    data[at] = 10
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_that_changed_is_scanned_again(csv_path: Path) -> None:
    rows, middle = len(LINES), csv_path.stat().st_size // 2
    index_rows(source_of(csv_path))
    with csv_path.open("ab") as file:
        file.write(LINES[0])
    assert index_rows(source_of(csv_path)).rows == rows + 1  # its size

    with_one_more_row(csv_path, middle)
    later = csv_path.stat().st_mtime_ns + 1_000_000_000
    os.utime(csv_path, ns=(later, later))
    assert index_rows(source_of(csv_path)).rows == rows + 2  # its time

    with_one_more_row(csv_path, len(HEADER) + 3)
    assert index_rows(source_of(csv_path)).rows == rows + 3  # its head

    with_one_more_row(csv_path, csv_path.stat().st_size - 9)
    assert index_rows(source_of(csv_path)).rows == rows + 4  # its tail


def test_files_of_one_name_in_two_folders_are_not_mixed_up(tmp_path: Path) -> None:
    for rows in (3, 4):
        (tmp_path / str(rows)).mkdir()
        write_lines(tmp_path / str(rows) / "cat.csv", LINES[:rows])
    for _ in range(2):
        for rows in (3, 4):
            assert index_rows(source_of(tmp_path / str(rows) / "cat.csv")).rows == rows


def test_an_index_of_a_file_that_changed_meanwhile_is_not_kept(csv_path: Path) -> None:
    source = source_of(csv_path)
    data = csv_path.read_bytes()
    times = csv_path.stat()
    csv_path.write_bytes(HEADER + LINES[0])
    index_rows(source)
    csv_path.write_bytes(data)
    os.utime(csv_path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert index_rows(source_of(csv_path)).rows == len(LINES)


def test_without_a_cache_folder_it_works_as_well(
    csv_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        index, cost = scanned(source_of(csv_path))
        assert index.rows == len(LINES)
        assert cost == csv_path.stat().st_size - len(HEADER)


def damages(text: str) -> dict[str, str]:
    facts = json.loads(text)
    return {
        "empty": "",
        "cut": text[: len(text) // 2],
        "zeros": "\0" * len(text),
        "list": "[]",
        "null": "null",
        "no fact": "{}",
        "no offsets": json.dumps({k: v for k, v in facts.items() if k != "offsets"}),
        "other offsets": json.dumps(facts | {"offsets": facts["offsets"][:-1]}),
        "no number": json.dumps(facts | {"rows": "many"}),
        "other version": json.dumps(facts | {"version": -1}),
        "other stride": json.dumps(facts | {"stride": 7}),
    }


def test_a_damaged_cache_is_made_anew(csv_path: Path, cache: Path) -> None:
    source = source_of(csv_path)
    expected, _ = scanned(source)
    (kept,) = (path for path in cache.rglob("*") if path.is_file())
    sound = kept.read_text()
    for name, text in damages(sound).items():
        kept.write_text(text)
        index, cost = scanned(source)
        assert index == expected, name
        assert cost > 0, name
        assert scanned(source) == (expected, 0), name
    kept.write_bytes(b"\xff\xfe")
    assert scanned(source)[0] == expected
    assert kept.read_text() == sound


def test_two_processes_at_once_find_the_same(csv_path: Path, cache: Path) -> None:
    code = """
import sys
from pathlib import Path
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.sources.find import find_sources

(source,) = find_sources(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    print(index_rows(source), flush=True)
    for path in Path(sys.argv[2]).rglob("*.json"):
        path.unlink(missing_ok=True)
"""
    command = [sys.executable, "-c", code, str(csv_path), str(cache)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2  # type: ignore[union-attr]
    for process in processes:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    expected = f"{index_rows(source_of(csv_path))}\n"
    assert outputs == [expected * 40] * 2
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 1


def test_many_threads_at_once_find_the_same(csv_path: Path, cache: Path) -> None:
    source = source_of(csv_path)
    barrier, found = threading.Barrier(8), []

    def look() -> None:
        barrier.wait(300)
        found.append(index_rows(source))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 1


# No more of the file than is needed.


def test_a_scan_stops_where_it_has_enough_rows(csv_path: Path) -> None:
    source = source_of(csv_path)
    with small(STRIDE, 10_000):
        part, cost = scanned(source, enough=300)
        assert 300 <= part.rows < 600
        assert cost <= 300 * len(LINES[0]) + 10_000
        assert not part.complete
        assert part.end == len(HEADER) + part.rows * len(LINES[0])
        whole, cost = scanned(source)  # what was not complete was not kept
        assert whole.complete
        assert cost == csv_path.stat().st_size - len(HEADER)
        assert scanned(source, enough=300) == (whole, 0)
        assert whole.offsets[: len(part.offsets)] == part.offsets


def test_enough_rows_that_the_file_has_not_give_the_whole_index(csv_path: Path) -> None:
    index = index_rows(source_of(csv_path), enough=len(LINES) + 1)
    assert index.complete
    assert index.rows == len(LINES)


# A source that cannot be read.


def test_a_source_that_is_gone_is_named(csv_path: Path) -> None:
    source = source_of(csv_path)
    csv_path.unlink()
    with pytest.raises(InputError, match=r"cat\.csv"):
        index_rows(source)


def test_a_gzip_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cat.csv.gz"
    path.write_bytes(gzip.compress(HEADER + b"".join(LINES))[:-200])
    source = source_of(path)
    index = index_rows(source)
    with pytest.raises(
        InputError, match=r"cat\.csv\.gz ends in the middle of its compressed data"
    ):
        require_whole(source, index)


def test_a_row_without_an_end_is_refused(csv_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [*LINES[:10], b"x" * 50_000 + b"\n", *LINES[:10]]
    write_lines(csv_path, lines)
    source = source_of(csv_path)
    assert index_rows(source).rows == 21
    monkeypatch.setattr(blocks, "MAX_ROW_BYTES", 20_000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(row_index, "_BLOCK_BYTES", 1_000)
    monkeypatch.setenv("QUICKDRAW_CACHE", str(csv_path.parent / "other"))
    with pytest.raises(InputError, match=r"cat\.csv: row 11 is longer than 20,000 bytes"):
        index_rows(source)
    # The rows before it can be had.
    reader = reader_for(source.format, source.word)
    with source.open() as file:
        file.seek(len(HEADER))
        (block,) = window_blocks(file, reader, 0, Window(2, 5), 1_000)
    assert block.data.tobytes() == b"".join(lines[2:7])


# Blocks.


def joined(found: list[Block]) -> tuple[bytes, int]:
    """All bytes of blocks that follow each other, and their rows."""
    for block, following in itertools.pairwise(found):
        assert block.row + block.rows == following.row
    return b"".join(block.data.tobytes() for block in found), sum(block.rows for block in found)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(a_row, min_size=1, max_size=30),
    st.sampled_from(FORMS),
    st.integers(1, 9),
    st.integers(1, 500),
    st.integers(0, 32),
    st.integers(0, 32),
    st.booleans(),
)
def test_the_blocks_of_a_window_are_its_rows_whatever_their_size(
    rows: list[Row], form: str, stride: int, block_bytes: int, skip: int, nrows: int, cut: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, small(stride, block_bytes):
        path = write_form(Path(folder), form, rows)
        data = gzip.decompress(path.read_bytes()) if form[-2:] == "gz" else path.read_bytes()
        if cut:
            data = data[:-3]
            path.write_bytes(gzip.compress(data) if form[-2:] == "gz" else data)
        starts, end = row_starts(path)
        source = source_of(path)
        found = list(blocks_of(source, Window(skip, nrows)))
    edges = [*starts, end]
    first, last = min(skip, len(starts)), min(skip + nrows, len(starts))
    assert joined(found) == (data[edges[first] : edges[last]], last - first)
    assert all(block.rows for block in found)
    assert not found or found[0].row == skip


def test_a_giant_row_costs_few_reads(csv_path: Path) -> None:
    giant = LINES[0].replace(b"[1]", b"[" + b"1," * 200_000 + b"1]")
    write_lines(csv_path, [LINES[0], giant, LINES[1]])
    with small(STRIDE, 100):
        counted = CountedSource(source_of(csv_path))
        found = list(blocks_of(counted, Window(0, 3)))
    assert joined(found) == (LINES[0] + giant + LINES[1], 3)
    assert len(counted.asked) < 60  # twice: once for the index


def test_a_window_is_one_read_of_its_own_bytes(csv_path: Path) -> None:
    counted = CountedSource(source_of(csv_path))
    index_rows(counted)  # type: ignore[arg-type]
    counted.asked.clear()
    assert sum(block.rows for block in blocks_of(counted, Window(STRIDE, STRIDE))) == STRIDE
    assert counted.asked == [STRIDE * len(LINES[0])]
