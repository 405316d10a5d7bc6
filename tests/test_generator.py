"""The doodle generator writes Kaggle's form, the same bytes each time, and things one can tell."""

import csv
import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.labels import challenge_words
from quickdraw_core.sources.doodles.generator import generate_csvs, generate_drawing
from quickdraw_core.sources.doodles.hand import drawn
from quickdraw_core.sources.doodles.programs import PROGRAMS, default_words

LINE = re.compile(
    r'[A-Z]{2},"\[\[\[\d+(, \d+)+\], \[\d+(, \d+)+\]\](, \[\[\d+(, \d+)+\], \[\d+(, \d+)+\]\])*\]"'
    r",\d{16},(True|False),2017-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6},[a-z ]+\n"
)
words = st.sampled_from(list(PROGRAMS))
seeds = st.integers(0, 2**32)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def all_words(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every word, 60 rows each."""
    folder = tmp_path_factory.mktemp("doodles")
    return generate_csvs(folder, list(PROGRAMS), rows=60, seed=7)


def test_words_are_those_of_the_challenge() -> None:
    assert set(PROGRAMS) <= set(challenge_words())
    assert len(PROGRAMS) >= 32


def test_default_words_are_the_first_of_the_table() -> None:
    assert default_words(3) == list(PROGRAMS)[:3]
    assert default_words(len(PROGRAMS)) == list(PROGRAMS)
    for n in (0, -1, len(PROGRAMS) + 1):
        with pytest.raises(ConfigError, match=f"found {n};"):
            default_words(n)


@pytest.mark.parametrize("word", PROGRAMS)
def test_each_program_draws_something(word: str) -> None:
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(40):
        strokes = PROGRAMS[word](rng)
        assert strokes
        for stroke in strokes:
            assert stroke.dtype == np.float64
            assert stroke.shape[1:] == (2,)
            assert len(stroke) >= 2
            assert np.isfinite(stroke).all()
        shapes.add(tuple(np.concatenate(strokes).round(6).ravel().tolist()))
    assert len(shapes) > 5, "the program knows one variant only"


@settings(max_examples=150, deadline=None)
@given(words, seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_a_drawing_is_simplified_strokes(word: str, seed: int, share: float) -> None:
    strokes, _ = generate_drawing(word, np.random.default_rng(seed), share)
    assert strokes
    for x, y in strokes:
        assert len(x) == len(y) >= 2
        assert all(type(value) is int and 0 <= value <= 255 for value in x + y)


@settings(max_examples=60, deadline=None)
@given(words, seeds, st.floats(0.1, 5.0))
def test_the_hand_gives_a_finite_path_of_whole_strokes(
    word: str, seed: int, sloppiness: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y, lengths = drawn(PROGRAMS[word](rng), rng, sloppiness)
    assert len(x) == len(y) == lengths.sum()
    assert lengths.min() >= 2
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    assert 0.2 < max(np.ptp(x), np.ptp(y)) < 5.0


def test_drawings_are_fitted_to_the_corner_and_to_255(all_words: list[Path]) -> None:
    lows, highs = [], []
    for path in all_words:
        for row in rows_of(path):
            strokes = json.loads(row["drawing"])
            x = [value for stroke in strokes for value in stroke[0]]
            y = [value for stroke in strokes for value in stroke[1]]
            lows.append((min(x), min(y)))
            highs.append(max(x + y))
    # The fitting comes before the simplification, which may drop the outermost point: so it is
    # with the real drawings too, 89 % of which reach 255.
    assert np.mean(np.array(highs) == 255) > 0.85
    assert np.mean(np.array(lows) == 0) > 0.85
    assert min(highs) > 240


def test_files_are_in_the_form_of_the_challenge(all_words: list[Path]) -> None:
    assert [path.name for path in all_words] == [f"{word}.csv" for word in PROGRAMS]
    for path in all_words:
        head, *lines = path.read_bytes().decode().splitlines(keepends=True)
        assert head == "countrycode,drawing,key_id,recognized,timestamp,word\n"
        assert len(lines) == 60
        assert all(LINE.fullmatch(line) for line in lines)
        for row in rows_of(path):
            assert row["word"] == path.stem
            assert json.dumps(json.loads(row["drawing"])) == row["drawing"]
            assert datetime.fromisoformat(row["timestamp"]) < datetime(2017, 4, 6)


def test_key_ids_are_like_the_real_ones(all_words: list[Path]) -> None:
    ids = [int(row["key_id"]) for path in all_words for row in rows_of(path)]
    assert len(set(ids)) == len(ids)
    for key_id in ids:
        assert 2**52 <= key_id < 1.5 * 2**52
        assert (key_id & -key_id) == 2**21, "exactly 21 trailing zero bits"


def test_share_of_recognized(tmp_path: Path, all_words: list[Path]) -> None:
    rows = [row for path in all_words for row in rows_of(path)]
    share = np.mean([row["recognized"] == "False" for row in rows])
    assert 0.04 < share < 0.08
    for wanted, text in ((0.0, "True"), (1.0, "False")):
        (path,) = generate_csvs(tmp_path, ["sun"], 20, seed=1, unrecognized_share=wanted)
        assert {row["recognized"] for row in rows_of(path)} == {text}


@settings(max_examples=12, deadline=None)
@given(words, words, seeds, st.integers(1, 12), st.integers(0, 12))
def test_bytes_depend_on_word_rows_and_seed_alone(
    tmp_path_factory: pytest.TempPathFactory,
    word: str,
    other: str,
    seed: int,
    rows: int,
    more: int,
) -> None:
    folder = tmp_path_factory.mktemp("same")
    (alone,) = generate_csvs(folder / "alone", [word], rows, seed)
    together = generate_csvs(folder / "together", [other, word], rows, seed)
    assert together[-1].read_bytes() == alone.read_bytes()
    (longer,) = generate_csvs(folder / "longer", [word], rows + more, seed)
    assert longer.read_bytes().startswith(alone.read_bytes())
    (reseeded,) = generate_csvs(folder / "reseeded", [word], rows, seed + 1)
    assert reseeded.read_bytes() != alone.read_bytes()


def test_reports_every_row_and_leaves_no_other_file(tmp_path: Path) -> None:
    reported: list[int] = []
    paths = generate_csvs(tmp_path / "new", ["ice_cream", "line"], 700, 0, reported.append)
    assert sum(reported) == 1_400
    assert len(reported) > 2
    assert sorted((tmp_path / "new").iterdir()) == paths
    assert paths[0].name == "ice cream.csv"


def test_a_file_appears_only_when_whole(tmp_path: Path) -> None:
    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_csvs(tmp_path, ["sun"], 700, 0, stop)
    assert list(tmp_path.iterdir()) == []


def test_refuses_before_any_work(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(InputError, match="did you mean 'ladder'"):
        generate_csvs(folder, ["sun", "lader"], 5, 0)
    with pytest.raises(InputError, match="cannot draw 'zebra'"):
        generate_drawing("zebra", np.random.default_rng(0), 0.0)
    for rows, seed, share in ((0, 0, 0.1), (10**7, 0, 0.1), (5, -1, 0.1), (5, 0, 1.5)):
        with pytest.raises(ConfigError):
            generate_csvs(folder, ["sun"], rows, seed, unrecognized_share=share)
    with pytest.raises(ConfigError, match="no word"):
        generate_csvs(folder, [], 5, 0)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="taken"):
        generate_csvs(tmp_path / "taken", ["sun"], 1, 0)
