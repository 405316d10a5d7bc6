"""Pseudo-labels: drawings of which a model is sure, as CSVs that a second store is made of."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import quickdraw
from file_tree import tree
from hypothesis import given
from hypothesis import strategies as st
from run_folder import last_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import BusyError, ConfigError, InputError
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.formats.kaggle import parse_drawing
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.pseudo_labels.class_prior import ClassPrior, assumed_prior, find_prior
from quickdraw_core.pseudo_labels.config import PseudoLabelConfig
from quickdraw_core.pseudo_labels.pseudo_label import RECORD_NAME, write_pseudo_labels
from quickdraw_core.pseudo_labels.summary import pseudo_label_facts
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.store import Store
from quickdraw_core.system.locks import held, lock_of_file

HEADER = ("key_id", "countrycode", "drawing")
EACH = {"star": 120, "sun": 100, "envelope": 60, "ice cream": 20}
"""Unlabelled drawings of each word."""
Row = dict[str, str]


@pytest.fixture(scope="module")
def models(trained: Path) -> Ensemble:
    return load_models([str(trained)])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """New drawings, mixed; more than a piece."""
    folder, found = tmp_path_factory.mktemp("new"), list[Row]()
    for word, count in EACH.items():
        (path,) = generate_csvs(folder, [word], count, seed=9)
        with path.open(newline="") as file:
            found += csv.DictReader(file)
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


@pytest.fixture(scope="module")
def unlabelled(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("test") / "test_simplified.csv", rows)


def write_rows(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def config_of(drawings: Path, out: Path, **options: object) -> PseudoLabelConfig:
    return PseudoLabelConfig.parse({"drawings": str(drawings), "out": out} | options)


def scores_of(models: Ensemble, rows: list[Row]) -> np.ndarray:
    packed = zip(*(parse_drawing(row["drawing"]) for row in rows), strict=True)
    return models.predict(DrawingBatch.from_packed(*packed)).numpy()


def read(folder: Path) -> dict[str, Row]:
    """The rows of all CSVs of a folder, by key_id."""
    found: dict[str, Row] = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            assert reader.fieldnames == list(TRAIN_COLUMNS)
            some = list(reader)
        assert some
        assert {row["word"] for row in some} == {path.stem}
        found |= {row["key_id"]: row for row in some}
    return found


def test_the_shares_of_drawings_that_are_of_other_shares_than_the_training_are_found() -> None:
    rng, assumed, true = np.random.default_rng(0), np.array([0.2, 0.3, 0.5]), (0.6, 0.1, 0.3)
    labels = rng.choice(3, 6_000, p=true)
    points = rng.normal(np.eye(3)[labels], 0.5)
    distances = ((points[:, None] - np.eye(3)) ** 2).sum(2)
    weights = np.exp(-distances / (2 * 0.5**2)) * assumed
    scores = np.log(weights / weights.sum(1, keepdims=True)).astype(np.float32)
    prior = find_prior(np.array_split(scores, 4), assumed, 1.0)
    assert prior.found == pytest.approx(true, abs=0.03)
    before, after = (
        (probabilities.argmax(1) == labels).mean()
        for probabilities in (np.exp(scores), prior.corrected(scores, 1.0))
    )
    assert after > before + 0.03
    whole = find_prior([scores], assumed, 1.0)
    assert whole.rounds == prior.rounds
    assert whole.found == pytest.approx(prior.found)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.integers(0, 9), st.data())
def test_shares_stay_shares(raw: list[float], count: int, data: st.DataObject) -> None:
    assumed = np.array(raw) / sum(raw)
    size = count * len(raw)
    values = data.draw(st.lists(st.floats(-80, 80, width=32), min_size=size, max_size=size))
    logits = np.array(values, np.float64).reshape(count, len(raw))
    scores = (logits - np.logaddexp.reduce(logits, 1)[:, None]).astype(np.float32)
    prior = find_prior([scores], assumed, 0.8)
    assert prior.found.sum() == pytest.approx(1)
    assert (prior.found > 0).all()
    unchanged = ClassPrior(assumed, assumed).corrected(scores, 1.0)
    np.testing.assert_allclose(unchanged, np.exp(scores.astype(np.float64)), atol=1e-5)


def test_what_a_model_takes_for_granted_is_what_its_training_left_of_the_shares(
    models: Ensemble,
) -> None:
    member, counts = models.members[0], [10, 20, 30, 40]

    def assumed(adjusted: float, **loss: object) -> list[float]:
        adjustment = {"tau": adjusted, "bias": "-"} if adjusted else {}
        checkpoint = replace(member.checkpoint, train_counts=counts, adjustment=adjustment)
        config = member.config.updated({"loss": loss})
        one = replace(member, checkpoint=checkpoint, config=config)
        return assumed_prior(Ensemble((one, one))).tolist()

    shares = np.array(counts) / 100
    assert assumed(0, name="cross_entropy") == pytest.approx(shares)
    for found in (
        assumed(0.5, name="cross_entropy"),
        assumed(0, name="balanced_softmax", tau=0.5),
    ):
        assert found == pytest.approx(shares**0.5 / (shares**0.5).sum())
    assert assumed(0.25, name="balanced_softmax", tau=0.75) == pytest.approx([0.25] * 4)


def test_the_drawings_that_are_sure_are_written_as_they_are_under_their_best_word(
    models: Ensemble, rows: list[Row], unlabelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "labels"
    made = write_pseudo_labels(models, config_of(unlabelled, out, at_least=0.7))
    probabilities = made.prior.corrected(scores_of(models, rows), 1.0)
    words = [models.label_map.words[label] for label in probabilities.argmax(1)]
    sure = {
        row["key_id"]: (row["countrycode"], row["drawing"], word)
        for row, word, each in zip(rows, words, probabilities, strict=True)
        if each.max() >= 0.7
    }
    found = read(out)
    assert 20 < len(sure) < len(rows)
    assert {
        key: (row["countrycode"], row["drawing"], row["word"]) for key, row in found.items()
    } == sure
    assert {row["recognized"] + row["timestamp"] for row in found.values()} == {""}
    right = [found[row["key_id"]]["word"] == row["word"] for row in rows if row["key_id"] in found]
    assert np.mean(right) > 0.8
    record = json.loads((out / RECORD_NAME).read_text())
    assert (record["rows"], record["kept"], record["at_least"]) == (len(rows), len(sure), 0.7)
    assert record["models_sha256"] == models.digest
    kept = {word: of["kept"] for word, of in record["classes"].items()}
    assert kept == dict(zip(models.label_map.words, made.counts.tolist(), strict=True))
    assert record["without"] == [word for word, count in kept.items() if not count]
    shares = [of["share"] for of in record["classes"].values()]
    assert shares == pytest.approx(made.prior.found)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in out.parent.iterdir()] == ["labels"]
    facts = pseudo_label_facts(made, 0.7)
    assert facts["pseudo-labels"].startswith(f"{len(sure)} of {len(rows)} drawings in")


def test_without_the_correction_the_probabilities_are_the_models_own(
    models: Ensemble, rows: list[Row], unlabelled: Path, tmp_path: Path
) -> None:
    options = {"at_least": 0.6, "correct_prior": False, "temperature": 0.5}
    made = write_pseudo_labels(models, config_of(unlabelled, tmp_path / "labels", **options))
    scores = scores_of(models, rows).astype(np.float64) / 0.5
    probabilities = np.exp(scores - np.logaddexp.reduce(scores, 1)[:, None])
    assert made.kept == (probabilities.max(1) >= 0.6).sum()
    assert made.prior.rounds == 0


def test_rows_that_cannot_be_read_are_left_out_and_counted(
    models: Ensemble, rows: list[Row], tmp_path: Path
) -> None:
    some = [row | ({"drawing": "[[["} if n % 10 == 0 else {}) for n, row in enumerate(rows[:50])]
    config = config_of(write_rows(tmp_path / "t.csv", some), tmp_path / "labels", at_least=0.3)
    made = write_pseudo_labels(models, config)
    assert (made.rows, made.unreadable) == (50, 5)
    readable = {row["key_id"] for row in some if row["drawing"] != "[[["}
    assert set(read(tmp_path / "labels")) <= readable
    assert "5 drawings" in pseudo_label_facts(made, 0.3)["unreadable"]


def test_a_folder_that_holds_something_is_left_as_it_is(
    models: Ensemble, unlabelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    out.mkdir()
    write_pseudo_labels(models, config_of(unlabelled, out))  # an empty one will do
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="labels holds files; give another folder, or empty it"):
        write_pseudo_labels(models, config_of(unlabelled, out))
    with pytest.raises(ConfigError, match=r"none of the 300 readable .* smaller --at-least"):
        write_pseudo_labels(models, config_of(unlabelled, tmp_path / "other", at_least=1))
    with pytest.raises(InputError, match="no test file that can be read"):
        write_pseudo_labels(models, config_of(tmp_path / "nowhere.csv", tmp_path / "other"))
    with held(lock_of_file(tmp_path / "other"), "other", "writing"), pytest.raises(BusyError):
        write_pseudo_labels(models, config_of(unlabelled, tmp_path / "other"))
    assert tree(tmp_path) == before


def test_what_a_kill_has_left_is_removed_by_the_next_command(
    models: Ensemble, unlabelled: Path, tmp_path: Path
) -> None:
    left = tmp_path / ".labels.tmp"
    left.mkdir()
    (left / "moon.csv").write_text("half a file")
    (tmp_path / ".labels.scores.tmp").write_bytes(b"scores")
    write_pseudo_labels(models, config_of(unlabelled, tmp_path / "labels"))
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    assert not (tmp_path / "labels" / "moon.csv").exists()


def test_the_commands_lead_from_unlabelled_drawings_to_a_training_that_learns_from_them(
    trained: Path, store: Store, unlabelled: Path, tmp_path: Path
) -> None:
    label = ("pseudo-label", trained, trained, unlabelled, "--at-least", 0.6, "--out", "labels")
    done = quickdraw(*label, "--tracking-uri", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, _, command = done.stdout.partition("quickdraw ")
    again = quickdraw(*label, "--tracking-uri", "none", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    done = quickdraw(*command.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "labels" / RECORD_NAME).read_text())["kept"]
    assert len(read(tmp_path / "labels")) == kept
    assert Store.open(tmp_path / "labels-store").manifest.rows_kept == kept
    options = ("model=net", "image.side_px=24", "max_steps=2", "hardware.ranks=1", "augment=none")
    settings = [word for option in options for word in ("--set", option)]
    train = ("train", "--store", store.path, "--run-dir", "run", "--tracking-uri", "none")
    done = quickdraw(*train, *settings, "--set", "select.also=labels-store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = sum(last_of(trained).train_counts)
    assert sum(last_of(tmp_path / "run").train_counts) == before + kept
