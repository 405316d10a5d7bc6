"""A submission: every row answered in the file's order, evened out on request, all or nothing."""

import csv
import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import quickdraw
from forkserver import real_python
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.challenge.balance import balance
from quickdraw_core.challenge.output_file import temporary_output
from quickdraw_core.challenge.submission import write_submission
from quickdraw_core.challenge.summary import submission_facts
from quickdraw_core.challenge.test_file import PIECE_ROWS
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import BusyError, CheckpointError, ConfigError, InputError
from quickdraw_core.formats.kaggle import format_drawing, parse_drawing
from quickdraw_core.formats.strokes import pack_raw_strokes
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.labels import LabelMap

Row = tuple[str, str, str]
"""key_id, countrycode, drawing."""

HEADER = ("key_id", "countrycode", "drawing")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def models(trained: Path) -> Ensemble:
    return load_models([str(trained)])


@pytest.fixture(scope="module")
def rows(csv_folder: Path) -> list[Row]:
    """600 rows of four words, mixed: more than two pieces."""
    found = []
    for path in sorted(csv_folder.glob("*.csv")):
        with path.open(newline="") as file:
            found += [tuple(row[name] for name in HEADER) for row in csv.DictReader(file)]
    order = np.random.default_rng(0).permutation(len(found))
    mixed = [found[i] for i in order]
    assert len(mixed) > 2 * PIECE_ROWS
    return mixed


def write_rows(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def test_csv(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("test") / "test_simplified.csv", rows)


def answers(path: Path) -> list[tuple[str, list[str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["key_id", "word"]
        return [(row["key_id"], row["word"].split(" ")) for row in reader]


def seen_plainly(models: Ensemble, rows: list[Row]) -> np.ndarray:
    """Log probabilities by the plainest way: all rows at once."""
    batch = DrawingBatch.from_packed(*zip(*(parse_drawing(row[2]) for row in rows), strict=True))
    return models.predict(batch).numpy()


def words_of(models: Ensemble, scores: np.ndarray) -> list[list[str]]:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    return [[models.label_map.words[k].replace(" ", "_") for k in row] for row in best]


def test_every_row_is_answered_in_order_with_the_best_three_words(
    models: Ensemble, rows: list[Row], test_csv: Path, tmp_path: Path
) -> None:
    result = write_submission(models, test_csv, tmp_path / "out.csv")
    found = answers(tmp_path / "out.csv")
    assert [key_id for key_id, _ in found] == [row[0] for row in rows]
    assert [words for _, words in found] == words_of(models, seen_plainly(models, rows))
    assert all(len(set(words)) == 3 for _, words in found)
    assert (result.rows, result.unreadable) == (len(rows), 0)
    assert "ice_cream" in {words[0] for _, words in found}
    assert list(tmp_path.iterdir()) == [tmp_path / "out.csv"]


def test_gzip_and_a_training_file_are_read_too(
    models: Ensemble, test_csv: Path, csv_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "test.csv.gz").write_bytes(gzip.compress(test_csv.read_bytes()))
    write_submission(models, tmp_path / "test.csv.gz", tmp_path / "zipped.csv")
    write_submission(models, test_csv, tmp_path / "plain.csv")
    assert (tmp_path / "zipped.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    result = write_submission(models, csv_folder / "sun.csv", tmp_path / "sun.csv")
    assert result.rows == 150
    assert result.unreadable == 0


def raw_of(drawing: str, rng: np.random.Generator) -> list[list[list[float]]]:
    """A raw drawing: another scale, fractions, and times."""
    scale = rng.uniform(1.5, 4.0)
    strokes = json.loads(drawing)
    return [
        [
            [v * scale + 7.25 for v in x],
            [v * scale + 3.5 for v in y],
            [16 * i for i in range(len(x))],
        ]
        for x, y in strokes
    ]


def test_raw_rows_are_simplified_on_the_way(
    models: Ensemble, rows: list[Row], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    raw = [(key_id, country, raw_of(drawing, rng)) for key_id, country, drawing in rows]
    write_rows(tmp_path / "test_raw.csv", [(a, b, json.dumps(c)) for a, b, c in raw])
    simplified = DrawingBatch.from_packed(
        *zip(*(pack_raw_strokes(c) for *_, c in raw), strict=True)
    )
    same = [(a, b, format_drawing(simplified.strokes(i))) for i, (a, b, _) in enumerate(raw)]
    write_rows(tmp_path / "test.csv", same)
    assert write_submission(models, tmp_path / "test_raw.csv", tmp_path / "a.csv").unreadable == 0
    write_submission(models, tmp_path / "test.csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_googles_raw_drawings_are_answered(
    models: Ensemble, shared_data: Path, tmp_path: Path
) -> None:
    with gzip.open(shared_data / "raw" / "full_raw_sample.ndjson.gz", "rt") as file:
        found = [json.loads(line) for line, _ in zip(file, range(400), strict=False)]
    rows = [(f["key_id"], f["countrycode"], json.dumps(f["drawing"])) for f in found]
    result = write_submission(models, write_rows(tmp_path / "raw.csv", rows), tmp_path / "out.csv")
    assert [key_id for key_id, _ in answers(tmp_path / "out.csv")] == [row[0] for row in rows]
    assert result.unreadable == 0


BROKEN = {
    "brackets of the drawing do not balance": lambda line: line.replace("[[[", "[[", 1),
    "drawing is missing": lambda line: line.split('"')[0] + "\n",
    "line ends inside quotes": lambda line: line[:-2] + "\n",
    "coordinate is outside 0..255": lambda line: line.replace("[[[", "[[[999, ", 1).replace(
        "], [", ", 1], [", 1
    ),
}


def broken_file(
    path: Path, source: Path, break_line: Callable[[str], str], where: list[int]
) -> Path:
    lines = source.read_text().splitlines(keepends=True)
    for place in where:
        lines[place] = break_line(lines[place])
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("balanced", [False, True])
def test_rows_that_cannot_be_read_are_answered_and_listed(
    balanced: bool, models: Ensemble, rows: list[Row], test_csv: Path, tmp_path: Path
) -> None:
    path, first = tmp_path / "test.csv", 5
    for number, break_line in enumerate(BROKEN.values()):
        broken_file(path, test_csv if not number else path, break_line, [first + number])
    # A whole piece without one drawing, and the file's last row.
    where = [*range(PIECE_ROWS + 1, 2 * PIECE_ROWS + 1), len(rows)]
    broken_file(path, path, BROKEN["drawing is missing"], where)
    result = write_submission(models, path, tmp_path / "out.csv", balanced)
    assert result.unreadable_file == tmp_path / "out.unreadable.csv"
    with result.unreadable_file.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["key_id"] for row in listed] == [rows[int(row["line"]) - 2][0] for row in listed]
    refused = {int(row["line"]): row["reason"] for row in listed}
    assert result.unreadable == len(listed) == len(refused)
    assert [row.line for row in result.first_unreadable] == sorted(refused)[:5]
    assert list(refused) == [n + 1 for n in [*range(first, first + len(BROKEN)), *where]]
    assert [refused[first + 1 + n] for n in range(4)][:3] == list(BROKEN)[:3]
    found = answers(tmp_path / "out.csv")
    assert [key_id for key_id, _ in found] == [row[0] for row in rows]
    common = [models.label_map.words[k] for k in models.most_common_labels]
    for line in refused:
        assert found[line - 2][1] == [word.replace(" ", "_") for word in common]
    facts = submission_facts(result)["unreadable"]
    assert facts.startswith(f"{len(refused)} rows answered with the most common words: line 6 (")
    assert facts.endswith(f" … and {len(refused) - 5} more; all in {result.unreadable_file}")
    write_submission(models, test_csv, tmp_path / "out.csv")
    assert not result.unreadable_file.exists()


def test_blank_lines_are_no_rows(models: Ensemble, test_csv: Path, tmp_path: Path) -> None:
    lines = test_csv.read_text().splitlines(keepends=True)
    (tmp_path / "test.csv").write_text("".join([*lines[:9], "\n", *lines[9:], "\r\n", "\n"]))
    result = write_submission(models, tmp_path / "test.csv", tmp_path / "out.csv")
    assert (result.rows, result.unreadable) == (len(lines) - 1, 0)
    write_submission(models, test_csv, tmp_path / "plain.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_all_or_nothing(
    balanced: bool, models: Ensemble, test_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "submission.csv").write_text("the one before\n")
    (tmp_path / "p.parquet").write_text("that one too\n")
    path = broken_file(tmp_path / "test.csv", test_csv, lambda _: "nonsense\n", [500])
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"line 501 of the test file has no readable key_id"):
        write_submission(
            models, path, tmp_path / "submission.csv", balanced, tmp_path / "p.parquet"
        )
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_a_killed_run_left_is_gone_after_the_next_one(
    models: Ensemble, test_csv: Path, tmp_path: Path
) -> None:
    for name in (".out.csv.tmp", ".out.csv.scores.tmp"):
        (tmp_path / name).write_text("half a run" * 100_000)
    write_submission(models, test_csv, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == [tmp_path / "out.csv"]
    assert len(answers(tmp_path / "out.csv")) == 600


def test_two_runs_do_not_write_one_file(models: Ensemble, test_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with temporary_output(out) as file:
        file.write(b"half of the other's")
        with pytest.raises(BusyError, match=r"another command is at work on .*out\.csv: writing"):
            write_submission(models, test_csv, out)
        file.seek(0)
        assert file.read() == b"half of the other's"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_answered_is_refused_before_work(
    models: Ensemble, test_csv: Path, tmp_path: Path
) -> None:
    def refused(test: Path | str, out: Path = tmp_path / "out.csv", **options: Path) -> str:
        with pytest.raises((InputError, ConfigError)) as error:
            write_submission(models, test, out, **options)
        assert not list(tmp_path.glob(".*"))
        return str(error.value)

    (tmp_path / "a.csv").write_text("countrycode,drawing\nUS,[[[1],[1]]]\n")
    (tmp_path / "b.csv").write_text("key_id,countrycode,drawing\n")
    (tmp_path / "c.ndjson").write_text('{"key_id": "1", "drawing": [[[1, 2], [1, 2]]]}\n')
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(test_csv.read_bytes())[:-9_000])
    (tmp_path / "folder").mkdir()
    assert "lacks the column 'key_id'" in refused(tmp_path / "a.csv")
    assert "holds no rows" in refused(tmp_path / "b.csv")
    assert "is ndjson, and a submission answers a CSV" in refused(tmp_path / "c.ndjson")
    assert "cut short" in refused(tmp_path / "d.csv.gz")
    assert "nothing.csv" in refused(tmp_path / "nothing.csv")
    assert "is a folder" in refused(test_csv, tmp_path / "folder")
    assert "no folder" in refused(test_csv, tmp_path / "nowhere" / "out.csv")
    assert "is the test file itself" in refused(test_csv, test_csv)
    assert "no folder" in refused(test_csv, probabilities=tmp_path / "nowhere" / "p")
    assert "another name" in refused(test_csv, probabilities=tmp_path / "out.csv")
    assert test_csv.stat().st_size > 100_000


def test_a_model_of_two_classes_is_refused(
    models: Ensemble, test_csv: Path, tmp_path: Path
) -> None:
    (member,) = models.members
    labels = LabelMap.of(["star", "sun"]).to_json()
    two = Ensemble((replace(member, checkpoint=replace(member.checkpoint, labels=labels)),))
    with pytest.raises(CheckpointError, match="knows 2 classes, and a submission has 3"):
        write_submission(two, test_csv, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("balanced", [False, True])
def test_the_probabilities_are_those_of_the_submission(
    balanced: bool, models: Ensemble, rows: list[Row], test_csv: Path, tmp_path: Path
) -> None:
    path = broken_file(tmp_path / "test.csv", test_csv, BROKEN["drawing is missing"], [3, 600])
    out, table_path = tmp_path / "out.csv", tmp_path / "p.parquet"
    result = write_submission(models, path, out, balanced, table_path)
    table = pq.read_table(table_path)
    assert [str(key_id) for key_id in table["key_id"].to_pylist()] == [row[0] for row in rows]
    assert np.flatnonzero(~table["readable"].to_numpy()).tolist() == [2, 599]
    found = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    assert found.dtype == np.float32
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
    readable = table["readable"].to_numpy()
    expected = np.exp(seen_plainly(models, [r for r, seen in zip(rows, readable) if seen]))  # noqa: B905
    assert found[readable] == pytest.approx(expected, abs=1e-5)
    metadata = table.schema.metadata
    assert json.loads(metadata[b"words"]) == list(models.label_map.words)
    assert metadata[b"label_map_sha256"].decode() == models.label_map.sha256
    assert metadata[b"models_sha256"].decode() == models.digest
    offsets = np.array(json.loads(metadata.get(b"balance_offsets", b"[0, 0, 0, 0]")))
    assert (result.balance is None) or (offsets == result.balance.offsets).all()
    scores = np.log(found.astype(np.float64)) + np.where(readable[:, None], offsets, 0)
    given_words = [words for _, words in answers(out)]
    agree = np.mean([a == b for a, b in zip(given_words, words_of(models, scores), strict=True)])
    assert agree > 0.995  # a near tie may go the other way after exp and log


def test_several_models_guess_together(
    models: Ensemble, rows: list[Row], test_csv: Path, tmp_path: Path
) -> None:
    (member,) = models.members
    mirrored = load_models([str(member.run_dir)], tta="flip")
    both = Ensemble((member, *mirrored.members))
    write_submission(both, test_csv, tmp_path / "out.csv")
    mean = np.log((np.exp(seen_plainly(models, rows)) + np.exp(seen_plainly(mirrored, rows))) / 2)
    assert [words for _, words in answers(tmp_path / "out.csv")] == words_of(models, mean)


# Balance


def random_scores(seed: int, n: int, classes: int, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities of a biased model that knows something; as many labels of each class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    logits = rng.normal(size=(n, classes)) * 1.5 + rng.normal(size=classes) * bias
    logits[np.arange(n), labels] += 3
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return logits.astype(np.float32), labels


def first_guesses(scores: np.ndarray) -> np.ndarray:
    return np.bincount(scores.argmax(1), minlength=scores.shape[1])


@given(
    st.integers(0, 1 << 32),
    st.integers(3, 20),
    st.integers(20, 60),
    st.floats(0, 3),
    st.sampled_from([0.02, 0.05, 0.2]),
)
def test_no_class_is_guessed_first_too_often(
    seed: int, classes: int, of_each: int, bias: float, tolerance: float
) -> None:
    scores, _ = random_scores(seed, classes * of_each, classes, bias)
    found = balance([scores], classes, tolerance)
    after = first_guesses(scores + found.offsets)
    assert (after == found.after).all()
    assert (found.before == first_guesses(scores)).all()
    assert (found.offsets <= 0).all()
    assert found.limit == max(of_each, int((1 + tolerance) * of_each))
    # Where a class may have its share and no more, the last few rows may not find their place.
    assert after.max() <= found.limit + (2 if found.limit == of_each else 0)
    if found.before.max() <= found.limit:
        assert (found.offsets == 0).all()


@given(st.integers(0, 1 << 32), st.integers(1, 700))
def test_how_the_rows_are_cut_makes_no_difference(seed: int, at_once: int) -> None:
    scores, _ = random_scores(seed, 600, 6, 1.0)
    pieces = [scores[i : i + at_once] for i in range(0, 600, at_once)]
    assert (balance(pieces, 6).offsets == balance([scores], 6).offsets).all()


@given(st.integers(0, 1 << 32), st.integers(0, 5))
def test_the_class_that_a_model_favours_is_lowered_most(seed: int, favoured: int) -> None:
    scores, _ = random_scores(seed, 600, 6, 0.0)
    scores[:, favoured] += 1.5
    found = balance([scores], 6)
    assert found.offsets.argmin() == favoured
    assert found.offsets[favoured] == pytest.approx(-1.5, abs=0.8)
    assert found.offsets.max() == 0


def test_balance_raises_map_at_3_where_there_are_as_many_of_each_class() -> None:
    def map_at_3(scores: np.ndarray, labels: np.ndarray) -> float:
        hits = np.argsort(-scores, 1)[:, :3] == labels[:, None]
        return float((hits / [1, 2, 3]).sum(1).mean())

    gains = []
    for seed in range(10):
        scores, labels = random_scores(seed, 34 * 100, 34, 0.7)
        found = balance([scores], 34)
        assert found.reached
        assert found.after.std() < found.before.std() / 5
        gains.append(map_at_3(scores + found.offsets, labels) - map_at_3(scores, labels))
    assert min(gains) > 0.01


def test_rows_that_cannot_be_parted_end_it_and_are_left_alone() -> None:
    scores = np.tile(random_scores(0, 1, 5, 1.0)[0], (100, 1))
    found = balance([scores], 5)
    assert not found.reached
    assert (found.offsets == 0).all()
    assert balance([], 5).reached


def test_a_balanced_submission_is_even_and_says_so(
    models: Ensemble, rows: list[Row], test_csv: Path, tmp_path: Path
) -> None:
    result = write_submission(models, test_csv, tmp_path / "out.csv", balanced=True)
    assert result.balance is not None
    counts: dict[str, int] = {}
    for _, words in answers(tmp_path / "out.csv"):
        counts[words[0]] = counts.get(words[0], 0) + 1
    assert max(counts.values()) <= 1.02 * 150
    assert result.balance.before.max() > 1.02 * 150  # else this shows nothing
    facts = submission_facts(result)
    assert re.search(r"\d+ to \d+ a class \(spread .*\), balanced", facts["first guesses"])
    assert list(tmp_path.iterdir()) == [tmp_path / "out.csv"]


# Memory, and the command line

MEASURE = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.challenge.submission import write_submission
from quickdraw_core.labels import LabelMap, challenge_words

class Quick(torch.nn.Module):  # as wide as the challenge, and no work
    def forward(self, images):
        seen = images.flatten(1)
        return seen[:, :340] - seen[:, 340:680]

torch.set_num_threads(1)
(member,) = load_models([sys.argv[1]]).members
labels = LabelMap.of(challenge_words()).to_json()
checkpoint = replace(member.checkpoint, train_counts=list(range(340)), labels=labels)
quick = Quick()
TrainedModel.network = property(lambda member: quick)
wide = Ensemble((replace(member, checkpoint=checkpoint),))
for path in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this run alone
    out = Path(path).with_suffix(".out")
    write_submission(wide, path, out, True, out.with_suffix(".parquet"))
    peak, = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(peak.split()[1])
"""
"""Not `ru_maxrss`, which begins with that of the process that started this one."""


@pytest.mark.services  # 48,000 rows through real processes
def test_memory_does_not_grow_with_the_rows(trained: Path, test_csv: Path, tmp_path: Path) -> None:
    lines = test_csv.read_text().splitlines(keepends=True)
    names = ("few", "few", "many")
    for name, times in (("few", 20), ("many", 80)):
        (tmp_path / f"{name}.csv").write_text("".join([lines[0], *lines[1:] * times]))
    done = subprocess.run(
        [real_python(), "-c", MEASURE, trained, *(tmp_path / f"{n}.csv" for n in names)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    _, few, many = map(int, done.stdout.split())  # the first one warms up
    assert many - few < 32_000  # kB; 36,000 rows more have 48,960 kB of probabilities


def test_the_command_takes_several_models_and_every_option(
    trained: Path, test_csv: Path, tmp_path: Path
) -> None:
    done = quickdraw(
        "predict", trained, trained, test_csv, "--tta", "flip", "--average", 2, "--balance",
        "--probabilities", "p.parquet", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "600 rows in submission.csv" in done.stdout
    assert re.search(r"first guesses +\d+ to \d+ a class", done.stdout)
    assert {path.name for path in tmp_path.iterdir()} == {"submission.csv", "p.parquet"}
    assert len(answers(tmp_path / "submission.csv")) == 600


def test_evaluate_refuses_balance_and_says_why(trained: Path, tmp_path: Path) -> None:
    done = quickdraw("evaluate", trained, "--balance", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: evaluate takes no --balance")
    assert "would not be the MAP@3 of the model" in line
    assert "--balance" not in quickdraw("evaluate", "--help", cwd=tmp_path).stdout


def test_the_code_that_blends_in_the_documentation_runs(
    models: Ensemble, test_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_submission(models, test_csv, Path(f"{name}.csv"), False, Path(f"{name}.parquet"))
    text = (ROOT / "docs" / "submission.md").read_text()
    (block,) = re.findall(r"```py\n(.*?)```", text, re.S)
    exec(block, {})
    assert answers(Path("blend.csv")) == answers(Path("a.csv"))
