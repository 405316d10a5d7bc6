"""The ingest benchmark's input is valid, like the real thing, and the same every time."""

import json
from pathlib import Path

import ingest_input
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.labels import challenge_words

ROWS = 60_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60,000 rows of all 340 classes. Not to be changed."""
    folder = tmp_path_factory.mktemp("input")
    ingest_input.generate(folder, ROWS, seed=0)
    return folder


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    """All rows, read by pandas as text."""
    files = sorted(folder.glob("*.csv"))
    frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in files]
    for path, frame in zip(files, frames, strict=True):
        assert set(frame["word"]) == {path.stem}
    return pd.concat(frames, ignore_index=True)


@given(rows=st.integers(340, ingest_input.FULL_ROWS), seed=st.integers(0, 9))
def test_any_number_of_rows_is_shared_out_exactly(rows: int, seed: int) -> None:
    parts = ingest_input.plan_classes(rows, seed)
    assert [part.word for part in parts] == challenge_words()
    assert [parts[0].first, *(part.last for part in parts)] == [
        *(part.first for part in parts),
        rows,
    ]


def test_the_full_set_has_the_class_sizes_of_the_challenge() -> None:
    parts = ingest_input.plan_classes(ingest_input.FULL_ROWS, seed=0)
    sizes = [part.last - part.first for part in parts]
    assert sum(sizes) == 49_707_579
    assert min(sizes) >= 113_000
    assert 330_000 < max(sizes) <= 340_000


def test_pandas_reads_every_row_of_every_class(folder: Path, frame: pd.DataFrame) -> None:
    columns = "countrycode,drawing,key_id,recognized,timestamp,word"
    assert list(frame) == columns.split(",")
    assert len(frame) == ROWS
    assert sorted(frame["word"].unique()) == challenge_words()
    first = (folder / "hot dog.csv").read_bytes().split(b"\n", 1)[0]
    assert first.decode() == columns


def test_drawings_are_json_in_kaggles_spacing_and_no_two_are_equal(frame: pd.DataFrame) -> None:
    for text in frame["drawing"]:
        strokes = json.loads(text)
        assert json.dumps(strokes) == text
        assert strokes
        for x, y in strokes:
            assert len(x) == len(y) >= 2
        points = [value for stroke in strokes for axis in stroke for value in axis]
        assert min(points) == 0
        assert max(points) in (254, 255) or len(set(points)) == 1  # a lone dot has no size
    lone_dots = frame["drawing"] == "[[[0, 0], [0, 0]]]"
    assert frame["drawing"][~lone_dots].is_unique
    assert lone_dots.mean() < 0.001


def test_ids_are_unique_and_end_in_21_zero_bits(frame: pd.DataFrame) -> None:
    ids = frame["key_id"].astype("uint64").to_numpy()
    assert len(np.unique(ids)) == ROWS
    assert (ids & np.uint64((1 << 22) - 1) == np.uint64(1 << 21)).all()
    assert set(frame["key_id"].str.len()) == {16}


def test_countries_times_and_recognition_are_spread_like_the_real_ones(
    frame: pd.DataFrame,
) -> None:
    countries = frame["countrycode"].value_counts(normalize=True)
    assert countries.index[0] == "US"
    assert countries["US"] == pytest.approx(0.437, abs=0.01)
    assert {"NA", "ZZ"} <= set(countries.index)
    assert len(countries) > 190  # of 214; the rarest come once in 40,000 rows
    assert set(frame["recognized"]) == {"True", "False"}
    assert (frame["recognized"] == "False").mean() == pytest.approx(0.08, abs=0.005)
    times = pd.to_datetime(frame["timestamp"], format="%Y-%m-%d %H:%M:%S.%f")
    assert set(times.dt.year) == {2017}
    assert set(frame["timestamp"].str.len()) == {26}


def test_drawings_are_as_long_as_the_real_ones(frame: pd.DataFrame) -> None:
    """The numbers are measured on real drawings: 424 bytes of text, 5.3 strokes, 44.5 points."""
    lengths = frame["drawing"].str.len()
    assert lengths.mean() == pytest.approx(424, rel=0.02)
    assert lengths.quantile(0.99) == pytest.approx(1_329, rel=0.05)
    drawings = [json.loads(text) for text in frame["drawing"]]
    strokes = np.array([len(drawing) for drawing in drawings])
    points = np.array([sum(len(stroke[0]) for stroke in drawing) for drawing in drawings])
    assert strokes.mean() == pytest.approx(5.3, rel=0.03)
    assert np.median(strokes) == 4
    assert points.mean() == pytest.approx(44.5, rel=0.03)
    assert np.median(points) == pytest.approx(39, abs=1)
    assert points.max() <= 500


def test_drawings_compress_as_little_as_real_ones(folder: Path, shared_data: Path) -> None:
    names = {"generated": folder, "real": shared_data / "train_simplified"}
    table = {row[0]: row[1:] for row in ingest_input.likeness(names)}
    near = [name for name in table if "zstd" in name or "entropy" in name]
    assert len(near) == 7
    for name in near:
        generated, real = map(float, table[name])
        assert generated == pytest.approx(real, rel=0.05), name


def test_a_file_is_the_same_on_any_number_of_threads_and_with_any_buffer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_input, "_BUFFER_BYTES", 1 << 14)
    paths = ingest_input.generate(tmp_path, ROWS, 0, ["star", "hot dog"], threads=1)
    assert {path.name for path in paths} == {"star.csv", "hot dog.csv"}
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_another_seed_gives_other_rows(folder: Path, tmp_path: Path) -> None:
    (path,) = ingest_input.generate(tmp_path, ROWS, 1, ["star"])
    lines = set(path.read_bytes().splitlines()[1:])
    assert lines.isdisjoint((folder / "star.csv").read_bytes().splitlines())


def test_only_what_is_missing_or_cut_short_is_written_again(tmp_path: Path) -> None:
    ingest_input.generate(tmp_path, 2_000, 0, ["cat", "dog"])
    paths = ingest_input.generate(tmp_path, 2_000, 0, ["ant", "cat", "dog"])
    before = {path: path.stat().st_mtime_ns for path in paths}
    whole = {path: path.read_bytes() for path in paths}
    ant, cat, dog = paths
    cat.unlink()
    dog.write_bytes(whole[dog][:-1])
    ingest_input.generate(tmp_path, 2_000, 0, ["ant", "cat", "dog"])
    assert {path: path.read_bytes() for path in paths} == whole
    assert ant.stat().st_mtime_ns == before[ant]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ingest_input.MARKER_NAME,
        "ant.csv",
        "cat.csv",
        "dog.csv",
    ]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    ingest_input.generate(tmp_path, 2_000, 0, ["cat"])
    with pytest.raises(ValueError, match="rows, seed"):
        ingest_input.generate(tmp_path, 2_001, 0, ["cat"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "cat.csv").write_text("mine\n")
    with pytest.raises(ValueError, match="holds other files"):
        ingest_input.generate(other, 2_000, 0, ["cat"])
    assert (other / "cat.csv").read_text() == "mine\n"
