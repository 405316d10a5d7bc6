"""A file's first read gives the windows and the index that two reads would give."""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from file_tree import sha256_of
from hypothesis import given, settings
from hypothesis import strategies as st
from row_files import (
    FORMS,
    CountedSource,
    lengthened,
    short_rows,
    source_of,
    write_form,
    write_lines,
)
from writers import Row
from writers import rows as a_row

from quickdraw_core.errors import InputError
from quickdraw_core.ingest import tasks
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.ingest.target import Target
from quickdraw_core.ingest.tasks import FirstReadTask, ingest_first_read
from quickdraw_core.reading import blocks, first_read, row_index
from quickdraw_core.reading import row_reader as reading
from quickdraw_core.reading.first_read import FoundWindow, found_windows, unread
from quickdraw_core.reading.row_index import RowIndex, index_rows
from quickdraw_core.reading.row_reader import parse_window, read_windows, window_groups
from quickdraw_core.reading.windows import STRIDE, WINDOW_BYTES, RowSelection
from quickdraw_core.sources.files import SourceFile

from fuzzing import assert_same_rows  # isort: skip

ALL = RowSelection("all")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test."""
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))


@contextmanager
def small(stride: int, strides_a_window: int, read_bytes: int) -> Iterator[None]:
    """Windows of few rows, in reads of few bytes."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(row_index, "STRIDE", stride)
        patch.setattr(first_read, "STRIDE", stride)
        patch.setattr(reading, "STRIDE", stride)
        patch.setattr(blocks, "BLOCK_BYTES", read_bytes)
        patch.setattr(first_read, "WINDOW_BYTES", read_bytes)
        patch.setattr(first_read, "_SPARE_BYTES", read_bytes)
        patch.setattr(tasks, "JOB_BYTES", 1)  # one window a job

        def rows_at_most(source: SourceFile, offsets: object) -> int:
            return stride * strides_a_window

        patch.setattr(reading, "rows_at_most", rows_at_most)
        patch.setattr(first_read, "rows_at_most", rows_at_most)
        yield


def one_by_one(source: SourceFile) -> Iterator[FoundWindow]:
    """The windows of a source, the file opened anew for each."""
    known = unread(source)
    while (found := next(found_windows(source, known), None)) is not None:
        yield found
        known = found.known


@settings(max_examples=60, deadline=None)
@given(
    st.lists(a_row, min_size=1, max_size=40),
    st.sampled_from(FORMS),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 900),
    st.booleans(),
)
def test_the_first_read_gives_what_the_index_gives(
    rows: list[Row], form: str, stride: int, strides: int, read_bytes: int, cut_off: bool
) -> None:
    rows = [Row(**{**vars(row), "word": "cat"}) for row in rows]
    with (
        tempfile.TemporaryDirectory() as folder,
        small(stride, strides, read_bytes),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("QUICKDRAW_CACHE", folder)
        path = write_form(Path(folder), form, rows)
        if cut_off:  # the last row, somewhere in its middle
            data = path.read_bytes() if form[-2:] != "gz" else gzip.decompress(path.read_bytes())
            path.write_bytes(data[:-5] if form[-2:] != "gz" else gzip.compress(data[:-5]))
        source = source_of(path)
        walks = [list(found_windows(source, unread(source)))]
        if not source.sequential:
            walks.append(list(one_by_one(source)))
        index = index_rows(source)
        groups = window_groups(source, index, ALL, 0)
        expected = [part for group in groups for part in read_windows(group)]
        for walk in walks:
            read = [parse_window(source, found.window, found.pieces) for found in walk]
            assert [part.window for part in read] == [part.window for part in expected]
            for part, twin in zip(read, expected, strict=True):
                assert_same_rows(part.rows, twin.rows)
                assert part.rejected == twin.rejected
            last = walk[-1].known
            assert (last.rows, last.offsets, last.end) == (index.rows, index.offsets, index.end)
            assert last.cut == index.cut == ("a row" if cut_off else "")
            assert [found.known.rows for found in walk] == [sum(found.window) for found in walk]


@pytest.mark.parametrize("length", [70, 490, 9_000])
def test_a_window_costs_one_read_of_about_its_bytes(tmp_path: Path, length: int) -> None:
    lines = lengthened(short_rows(80_000_000 // max(length, 400)), length)
    source = source_of(write_lines(tmp_path / "cat.csv", lines))
    counted = CountedSource(source)
    known, windows = unread(source), []
    while (found := next(found_windows(counted, known), None)) is not None:  # type: ignore[arg-type]
        windows.append(found.window)
        known = found.known
    groups = window_groups(source, index_rows(source), ALL, 0)
    assert windows == [window for group in groups for window in group.windows]
    assert known == RowIndex(known.rows, index_rows(source).offsets, known.end, known.complete)
    spare = first_read._SPARE_BYTES * (len(windows) + 1) + WINDOW_BYTES
    assert counted.bytes_read <= source.stamp.size_bytes + spare


def test_a_finished_first_read_keeps_the_index(tmp_path: Path) -> None:
    source = source_of(write_lines(tmp_path / "cat.csv", short_rows(50)))
    task = FirstReadTask(source, unread(source), Target(tmp_path / "store", 1, 5))
    first = ingest_first_read(task)
    assert first.known.complete
    assert [receipt.reused for receipt in first.receipts] == [False]
    counted = CountedSource(source)
    assert index_rows(counted) == first.known  # type: ignore[arg-type]
    assert counted.bytes_read == 0
    assert ingest_first_read(task) == ([], first.known)  # reads nothing


def test_windows_that_are_done_are_not_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small(10, 1, 5_000):
        source = source_of(write_lines(tmp_path / "cat.csv", short_rows(35)))
        task = FirstReadTask(source, unread(source), Target(tmp_path / "store", 1, 5))
        first = ingest_first_read(task)
        assert not first.known.complete
        assert first.known.rows == 10

        def refuse(*_: object) -> None:
            raise AssertionError("parsed again")

        monkeypatch.setattr("quickdraw_core.ingest.tasks.parse_window", refuse)
        again = ingest_first_read(task)
        assert [receipt.reused for receipt in again.receipts] == [True]
        assert again.known == first.known


def test_a_file_that_changes_between_its_windows_is_refused(tmp_path: Path) -> None:
    with small(10, 1, 5_000):
        path = write_lines(tmp_path / "cat.csv", short_rows(35))
        source = source_of(path)
        task = FirstReadTask(source, unread(source), Target(tmp_path / "store", 1, 5))
        known = ingest_first_read(task).known
        path.write_bytes(path.read_bytes()[:-300])
        later = FirstReadTask(source, known, Target(tmp_path / "store", 1, 5))
        with pytest.raises(InputError, match="changed while it was read"):
            ingest_first_read(later)


def test_the_store_is_the_same_whether_files_are_counted_first_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    for k, word in enumerate("abc"):
        lines = short_rows(2 * STRIDE + k, first_key=10_000_000 * (k + 1), word=word.encode())
        # Of each file more than one window.
        write_lines(folder / f"{word}.csv", lengthened(lines, WINDOW_BYTES // STRIDE - 3_000))

    def made(name: str, **options: object) -> dict[str, str]:
        config = {"source": folder, "store": tmp_path / name, "max_rejected": 1} | options
        ingest(IngestConfig.parse(config))
        return {
            path.relative_to(tmp_path / name).as_posix(): sha256_of(path)
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.suffix in (".parquet", ".json", ".jsonl")
        }

    first = made("first", workers=1)  # one file is read on, the two behind it counted first
    assert first == made("again", workers=1)  # all of them from the index
    assert len([name for name in first if name.endswith(".parquet")]) >= 6
