import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from conftest import ROWS, WORDS
from dask import dataframe
from hypothesis import given
from row_files import FORMS, HEADER, short_rows, source_of, write_form, write_lines
from strategies import drawing
from writers import random_rows

from quickdraw_core.drawing import DrawingBatch, Stroke
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.formats.detect import TEST_COLUMNS, TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.ingest import scan as scan_module
from quickdraw_core.ingest.scan import COLUMNS, scan, strokes
from quickdraw_core.reading import row_index
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.reading.windows import RowSelection, select_windows


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Computes in this thread, unless a test says otherwise."""
    with dask.config.set(scheduler="synchronous"):
        yield


def expected_rows(folder: Path, word: str) -> pd.DataFrame:
    """All rows of `<word>.csv`, by the tolerant parser."""
    lines = (folder / f"{word}.csv").read_bytes().splitlines(keepends=True)
    rows, _ = KaggleReader(Header(TRAIN_COLUMNS), word).parse_lines(lines[1:], 2)
    return pd.DataFrame(
        {
            "word": word,
            "key_id": rows.key_ids,
            "countrycode": rows.countrycodes,
            "recognized": rows.recognized,
            "us": rows.timestamps_us,
            "x": rows.x,
            "y": rows.y,
            "stroke_lengths": rows.stroke_lengths,
        },
        dtype=object,
    )


def values_of(frame: pd.DataFrame) -> pd.DataFrame:
    """A computed frame as plain Python values."""
    plain = {name: frame[name].tolist() for name in COLUMNS if name != "timestamp"}
    plain["countrycode"] = [None if pd.isna(code) else code for code in plain["countrycode"]]
    plain["us"] = frame["timestamp"].astype("int64").tolist()
    found = pd.DataFrame(plain, dtype=object)
    return found[["word", "key_id", "countrycode", "recognized", "us", "x", "y", "stroke_lengths"]]


def assert_is(frame: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert values_of(frame).to_dict("list") == expected.to_dict("list")


def test_the_frame_holds_every_row_of_the_csvs_in_order(csv_folder: Path) -> None:
    frame = scan(csv_folder)
    assert tuple(frame.columns) == COLUMNS
    assert frame.npartitions == len(WORDS)
    found = frame.compute()
    assert len(found) == len(WORDS) * ROWS
    assert_is(found, pd.concat([expected_rows(csv_folder, word) for word in sorted(WORDS)]))


def test_the_columns_have_the_types_that_are_promised(csv_folder: Path) -> None:
    frame = scan(csv_folder)
    binary = "binary[pyarrow]"
    promised = ["category", "uint64", "string", "boolean", "datetime64[us, UTC]", *[binary] * 3]
    assert [str(dtype) for dtype in frame.dtypes] == promised
    assert frame.compute().dtypes.equals(frame.dtypes)
    assert frame.partitions[0].compute().dtypes.equals(frame.dtypes)
    assert list(frame.word.cat.categories) == sorted(WORDS)


@pytest.mark.parametrize("rows", ["head:40", "spread:3x10", "spread:1x7"])
def test_a_selection_is_one_partition_a_window(csv_folder: Path, rows: str) -> None:
    words = ("sun", "star")
    frame = scan(csv_folder, rows=rows, classes=words, seed=3)
    parts = [frame.partitions[i].compute() for i in range(frame.npartitions)]
    expected = [
        expected_rows(csv_folder, word)[window.skiprows : sum(window)]
        for word in sorted(words)
        for window in select_windows(RowSelection.parse(rows), ROWS, word, 3)
    ]
    assert len(parts) == len(expected)
    for part, rows_of_window in zip(parts, expected, strict=True):
        assert_is(part, rows_of_window)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_frame(tmp_path: Path, form: str) -> None:
    rows = random_rows(np.random.default_rng(1), 60)
    found = scan(write_form(tmp_path, form, rows), rows="spread:3x15").compute()
    assert len(found) == 45
    by_id = {row.key_id: row for row in rows}
    unit_us = 1_000_000 if form == "bin" else 1
    for row in values_of(found).to_dict("records"):
        source = by_id[row["key_id"]]
        assert strokes(row["x"], row["y"], row["stroke_lengths"]) == [
            [list(x), list(y)] for x, y in source.strokes
        ]
        assert row["word"] == "cat"
        assert row["countrycode"] == source.countrycode
        assert row["recognized"] == source.recognized
        assert row["us"] == source.timestamp_us // unit_us * unit_us


@pytest.mark.parametrize("form", ["csv", "csv.gz"])
def test_a_compressed_file_is_one_partition(tmp_path: Path, form: str) -> None:
    path = write_form(tmp_path, form, random_rows(np.random.default_rng(1), 60))
    frame = scan(path, rows="spread:4x5")
    assert frame.npartitions == (1 if form == "csv.gz" else 4)
    assert len(frame) == 20


def test_several_sources_are_one_frame(tmp_path: Path, csv_folder: Path) -> None:
    path = write_form(tmp_path, "ndjson", random_rows(np.random.default_rng(1), 5))
    frame = scan([csv_folder / "sun.csv", str(path)])
    assert frame.word.value_counts().compute().to_dict() == {"sun": ROWS, "cat": 5}


def test_a_source_without_words_says_none(tmp_path: Path) -> None:
    lines = [b'%d,NA,"[[[1, 2], [3, 4]]]"\n' % (i << 21) for i in range(4)]
    path = tmp_path / "test_simplified.csv"
    path.write_bytes(",".join(TEST_COLUMNS).encode() + b"\n" + b"".join(lines))
    found = scan(path).compute()
    assert found["key_id"].tolist() == [i << 21 for i in range(4)]
    assert found["countrycode"].tolist() == ["NA"] * 4  # Namibia
    assert found[["word", "recognized", "timestamp"]].isna().all(axis=None)


def test_rows_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    lines = short_rows(20)
    lines[3] = b"nonsense\n"
    lines[10] = lines[10].replace(b"[1]", b"[256]")
    lines[19] = lines[19][:-30]
    found = scan(write_lines(tmp_path / "cat.csv", lines), allow_cut=True).compute()
    numbers = [i for i in range(20) if i not in (3, 10, 19)]
    assert found["key_id"].tolist() == [10_000_000 + i for i in numbers]


def test_a_window_without_a_readable_row_is_an_empty_partition(tmp_path: Path) -> None:
    frame = scan(write_lines(tmp_path / "cat.csv", [b"nonsense\n"] * 3))
    found = frame.compute()
    assert len(found) == 0
    assert found.dtypes.equals(frame.dtypes)


# Laziness: what is read when.


def test_only_the_row_index_is_read_to_build_the_frame(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "cat.csv", short_rows(20))
    frame = scan(path)
    path.write_bytes(HEADER + b"".join(short_rows(19)))
    with pytest.raises(InputError, match=r"cat\.csv changed while it was read"):
        frame.compute()
    frame = scan(path)
    path.unlink()
    with pytest.raises(InputError, match=r"cat\.csv"):
        frame.compute()


def test_the_cached_row_index_spares_a_second_scan(
    csv_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(csv_folder)
    for word in WORDS:
        index_rows(source_of(csv_folder / f"{word}.csv"))
    monkeypatch.delattr(row_index, "window_blocks")
    assert scan(csv_folder).npartitions == len(WORDS)


@pytest.mark.parametrize("names", [["word"], ["key_id"], ["x", "word"], ["timestamp", "key_id"]])
def test_only_the_columns_wanted_are_made(
    csv_folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scan(csv_folder).compute()[names]
    made = []
    build = scan_module._frame

    def spy(table: Any, word: Any, words: Any, columns: Any) -> Any:
        made.append(set(table.column_names) | {"word"})
        return build(table, word, words, columns)

    monkeypatch.setattr(scan_module, "_frame", spy)
    early = scan(csv_folder, columns=names)
    assert list(early.columns) == names
    made.clear()
    pd.testing.assert_frame_equal(early.compute(), whole)
    pd.testing.assert_frame_equal(scan(csv_folder)[names].compute(), whole)  # chosen later
    made = [columns for columns in made if "y" not in columns]
    assert len(made) == 2 * len(WORDS)
    assert all(columns <= {*names, "word", "key_id"} for columns in made)


def test_one_column_is_a_series(csv_folder: Path) -> None:
    assert scan(csv_folder)["key_id"].nunique().compute() == len(WORDS) * ROWS


PROCESSES = pytest.param("processes", marks=pytest.mark.services)  # each imports Dask: 3 seconds


@pytest.mark.parametrize("scheduler", ["threads", PROCESSES])
def test_it_computes_on_threads_and_on_processes(
    csv_folder: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dask sets it for good if it is not set, and then no process of a later test is forked.
    monkeypatch.setenv("PYTHONHASHSEED", "6640")
    frame = scan(csv_folder, rows="spread:2x20", classes=["sun", "ice cream"])
    expected = frame.compute()
    found = frame.compute(scheduler=scheduler, num_workers=2)
    pd.testing.assert_frame_equal(found, expected)


def test_a_partition_travels_as_a_few_facts(csv_folder: Path) -> None:
    frame = scan(csv_folder)
    assert len(pickle.dumps(frame)) < 20_000


# What people do with it.


def test_a_frame_can_be_explored(csv_folder: Path) -> None:
    frame = scan(csv_folder)
    assert len(frame) == len(WORDS) * ROWS
    sizes = frame.groupby("word", observed=True).size().compute()
    assert sizes.to_dict() == dict.fromkeys(WORDS, ROWS)
    suns = frame[frame.word == "sun"].compute()
    assert suns["key_id"].tolist() == expected_rows(csv_folder, "sun")["key_id"].tolist()
    assert 0 < frame.recognized.mean().compute() <= 1
    assert frame.head(3)["key_id"].tolist() == frame.compute()["key_id"].tolist()[:3]


def with_drawings(part: pd.DataFrame) -> pd.DataFrame:
    rows = zip(part.x, part.y, part.stroke_lengths, strict=True)
    return part.assign(drawing=pd.Series([strokes(*row) for row in rows], part.index, object))


def test_drawings_come_back_as_nested_lists(csv_folder: Path) -> None:
    with dask.config.set({"dataframe.convert-string": False}):
        frame = scan(csv_folder, classes=["sun"]).map_partitions(with_drawings)
        found = frame.drawing.compute().tolist()
    expected = expected_rows(csv_folder, "sun")
    batch = DrawingBatch.from_packed(*(expected[n] for n in ("x", "y", "stroke_lengths")))
    assert found == [[[x, y] for x, y in batch.strokes(i)] for i in range(len(batch))]


@given(drawing)
def test_strokes_is_the_inverse_of_packing(found: list[Stroke]) -> None:
    batch = DrawingBatch.from_strokes([found])
    packed = (batch.x, batch.y, batch.stroke_lengths.astype("<u2"))
    assert strokes(*(values.tobytes() for values in packed)) == [[x, y] for x, y in found]


def test_real_drawings_are_all_there(shared_data: Path) -> None:
    words = (shared_data / "categories_340.txt").read_text().split("\n")[:40]
    frame = scan(
        shared_data / "train_simplified", rows="head:16", classes=words, columns=["word", "key_id"]
    )
    found = frame.compute()
    assert found["word"].value_counts().to_dict() == dict.fromkeys(words, 16)
    assert found["key_id"].is_unique


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": "some"}, "rows must be all"),
        ({"columns": ["wort"]}, "no column 'wort': did you mean 'word'"),
        ({"columns": []}, "columns is empty"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    csv_folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        scan(csv_folder, **options)


def test_sources_that_are_not_there_are_refused(csv_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sum"):
        scan(csv_folder, classes=["sum"])
    with pytest.raises(InputError, match="nowhere"):
        scan(tmp_path / "nowhere")


def test_the_frame_is_one_of_dask(csv_folder: Path) -> None:
    assert isinstance(scan(csv_folder), dataframe.DataFrame)
