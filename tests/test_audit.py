"""`quickdraw audit`: what is found in a store of which the faults are known."""

import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import session
from command_line import command, environment_of, quickdraw
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import predictions_of
from mislabelled import mislabelled_csvs
from typer.testing import CliRunner

from quickdraw_core.assignments import flattened
from quickdraw_core.audit.audit import AUDIT_STAGE
from quickdraw_core.audit.confident import (
    NOBODY,
    Thresholds,
    confident_joint,
    confident_labels,
    estimated_wrong,
)
from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.audit.near_duplicates import SAME, near_pairs, originals
from quickdraw_core.audit.page import best_of_each
from quickdraw_core.audit.result import command_without
from quickdraw_core.audit.suspects import NONE
from quickdraw_core.cli import app
from quickdraw_core.errors import CheckpointError, ConfigError, QuickdrawError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.stage import Action, Opened, perform
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.run_folder import RunFolder

WORDS = ("star", "ice cream", "sun", "envelope", "ladder")
ROWS, SWAPPED, REPEATED = 160, 8, 6
OPTIONS = {
    "model": {"name": "net"},
    "image": {"side_px": 24},
    "epochs": 8,
    "global_batch_size": 64,
}


def config_of(folder: Path, **changes: object) -> AuditConfig:
    values = {"store": folder / "store", "out_dir": folder / "audit", "folds": 2}
    return AuditConfig.parse(values | {"changes": OPTIONS} | changes)


@pytest.fixture(scope="module")
def audited() -> tuple[Path, set[int], set[int]]:
    """A folder with `store` and its audit in `audit`, the key_ids of wrong words and of drawings
    that are there twice. Not to be changed.
    """

    def make(folder: Path) -> str:
        wrong, twice = mislabelled_csvs(folder / "csv", WORDS, ROWS, SWAPPED, REPEATED)
        config = {"source": folder / "csv", "store": folder / "store", "test_per_class": 20}
        ingest(IngestConfig.parse(config | {"workers": 1}))
        perform(AUDIT_STAGE, config_of(folder))
        (folder / "faults.json").write_text(json.dumps([sorted(wrong), sorted(twice)]))
        return str(folder)

    folder = Path(session.once("audited", make))
    wrong, twice = json.loads((folder / "faults.json").read_text())
    return folder, set(wrong), set(twice)


@pytest.fixture
def copied(audited: tuple[Path, set[int], set[int]], tmp_path: Path) -> Path:
    """The folder of `audited`, to be changed."""
    shutil.copytree(audited[0], tmp_path / "copy")
    return tmp_path / "copy"


def table_of(folder: Path, name: str = "suspects") -> dict[str, list[object]]:
    return pq.read_table(folder / "audit" / f"{name}.parquet").to_pydict()


def written(folder: Path) -> dict[str, bytes]:
    names = ("audit.html", "mask.parquet", "suspects.parquet")
    return {name: (folder / "audit" / name).read_bytes() for name in names}


def times_of(folder: Path) -> dict[Path, int]:
    """When the checkpoints were written."""
    return {p: p.stat().st_mtime_ns for p in folder.glob("audit/fold-*/checkpoints/*.pt")}


def test_swapped_words_are_found_and_little_else(
    audited: tuple[Path, set[int], set[int]],
) -> None:
    folder, wrong, _ = audited
    table = table_of(folder)
    rows = zip(table["key_id"], table["reason"], strict=True)
    found = [key for key, reason in rows if reason == "wrong word"]
    assert len(wrong & set(found)) >= 0.65 * len(wrong)  # 0.85 of 360, by the audit's recipe
    assert len(wrong & set(found)) >= 0.7 * len(found)
    best = found[: len(wrong) // 2]  # the most suspicious stand first
    assert len(wrong & set(best)) >= 0.9 * len(best)
    following = dict(zip(WORDS, (*WORDS[1:], WORDS[0]), strict=True))
    named = zip(table["key_id"], table["word"], table["likely_word"], strict=True)
    right = [following[str(word)] == likely for key, word, likely in named if key in wrong]
    assert np.mean(right) >= 0.8


def test_repeated_drawings_are_found_and_one_of_each_pair_stays(
    audited: tuple[Path, set[int], set[int]],
) -> None:
    folder, _, twice = audited
    table = table_of(folder)
    pairs = {
        (key, other)
        for key, other in zip(table["key_id"], table["duplicate_of"], strict=True)
        if other is not None
    }
    assert len(pairs) >= 0.9 * REPEATED * len(WORDS)
    assert sum(len({*pair} & twice) == 2 for pair in pairs) >= 0.9 * len(pairs)
    pack = open_pack(Store.open(folder / "store"))
    side = dict(zip(pack.key_ids.tolist(), pack.splits.tolist(), strict=True))
    assert all(side[key] <= side[other] for key, other in pairs)  # the held-out one stays
    assert not {other for _, other in pairs} & set(table["key_id"])


@given(st.integers(2, 60), st.integers(0, 99))
def test_no_drawing_is_left_out_for_one_that_is_left_out(count: int, seed: int) -> None:
    """In chains whose drawings drift: each is near the one before it, but not near the first."""
    rng = np.random.default_rng(seed)
    angles = np.cumsum(rng.uniform(0.05, 0.2, count))  # near are those within 0.173
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * 100 + 100
    order = rng.permutation(count)
    pairs = near_pairs(np.round(vectors[order]).astype(np.uint8), np.arange(count))
    original, cosines = originals(pairs, count)
    repeats = np.flatnonzero(original != NONE)
    assert not set(original[repeats].tolist()) & set(repeats.tolist())
    assert (original[repeats] < repeats).all()
    assert (cosines[repeats] >= SAME).all()
    with_one_before = set(pairs["later"].tolist())
    assert set(repeats.tolist()) <= with_one_before
    assert bool(len(repeats)) == bool(with_one_before)


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ((40, 40, 40), (12, 6, 6)),
        ((0, 0, 20), (0, 0, 20)),
        ((0, 3, 40), (0, 3, 21)),
        ((40, 1, 0), (23, 1, 0)),
        ((2, 40, 40), (2, 16, 6)),
        ((1, 2, 3), (1, 2, 3)),
    ],
)
def test_room_that_a_reason_does_not_need_is_for_the_others(
    counts: tuple[int, ...], taken: tuple[int, ...]
) -> None:
    reasons = np.repeat(np.arange(3), counts)
    best = best_of_each(reasons, 24)
    assert np.bincount(reasons[best], minlength=3).tolist() == list(taken)
    assert (np.diff(best) > 0).all()


def test_the_command_without_them_is_one_that_a_shell_takes() -> None:
    words = shlex.split(command_without(Path("my runs/mask.parquet"), Path("a store")))
    assert words[2:] == ["--store", "a store", "--set", "select.exclude=my runs/mask.parquet"]


def test_too_full_a_disk_is_found_before_anything_is_made(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = AUDIT_STAGE.prepared(config_of(tmp_path, store=store.path), Opened())
    monkeypatch.setattr("quickdraw_core.system.disk.free_bytes", lambda folder: 1_000)
    with pytest.raises(ConfigError, match=r"fold 2's checkpoints .*scores .* with --out"):
        prepared.run()
    assert not list(tmp_path.glob("audit/fold-*"))


def test_starting_over_leaves_nothing_of_the_earlier_audit(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickdraw_core.system.disk.free_bytes", lambda folder: 1_000)
    with pytest.raises(ConfigError, match="are needed"):
        AUDIT_STAGE.prepared(config_of(copied, fresh=True), Opened()).run()
    assert not [*copied.glob("audit/*.parquet"), *copied.glob("audit/*.html")]
    assert not list(copied.glob("audit/fold-*"))


def test_the_mask_holds_train_drawings_alone_and_a_training_takes_it(
    audited: tuple[Path, set[int], set[int]], tmp_path: Path
) -> None:
    folder, _, _ = audited
    mask, pack = table_of(folder, "mask"), open_pack(Store.open(folder / "store"))
    assert list(mask) == ["key_id", "word", "reason", "score"]
    trained = set(pack.key_ids[pack.rows(Split.TRAIN)].tolist())
    assert set(mask["key_id"]) == set(table_of(folder)["key_id"]) & trained
    words = f"train --store {folder / 'store'} --run-dir {tmp_path / 'run'} --tracking-uri none"
    words += " --nproc 1 --set model=net --set image.side_px=24 --set max_steps=2"
    words += f" --set select.exclude={folder / 'audit' / 'mask.parquet'}"
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    rows = np.load(tmp_path / "run" / "rows" / "train.npy")
    assert set(pack.key_ids[rows].tolist()) == trained - set(mask["key_id"])
    recorded = RunFolder.read(tmp_path / "run").config.select
    assert recorded.exclude_sha256 is not None


def test_no_model_has_seen_what_it_scores(audited: tuple[Path, set[int], set[int]]) -> None:
    folder, _, _ = audited
    pack = open_pack(Store.open(folder / "store"))
    scored = []
    for fold in range(2):
        run_dir = folder / "audit" / f"fold-{fold}"
        parts = [pq.read_table(p)["key_id"].to_pylist() for p in run_dir.glob("scores/*.parquet")]
        ids = {key for part in parts for key in part}
        for split in ("train", "validation"):
            seen = pack.key_ids[np.load(run_dir / "rows" / f"{split}.npy")]
            assert not ids & set(seen.tolist())
        scored.append(ids)
    assert scored[0] | scored[1] == set(pack.key_ids.tolist())
    assert not scored[0] & scored[1]


def test_the_page_loads_nothing_and_says_what_the_files_say(
    audited: tuple[Path, set[int], set[int]],
) -> None:
    folder, _, _ = audited
    page = (folder / "audit" / "audit.html").read_text("utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert "http" not in page.replace("http-equiv", "")
    assert f"{len(table_of(folder)['key_id'])} suspicious drawings of" in page
    for word in WORDS:
        assert f">{word}</h3>" in page
    assert page.count('<li class="card"') >= 40
    assert "select.exclude=" in page


def test_what_is_finished_is_used_again(copied: Path) -> None:
    before = written(copied)
    config = config_of(copied)
    (copied / "audit" / "outputs.json").unlink()
    weights = times_of(copied)
    (part,) = copied.glob("audit/fold-1/scores/*.parquet")
    part.write_bytes(part.read_bytes()[:-9])  # cut off
    (other,) = copied.glob("audit/fold-0/scores/*.parquet")
    kept = other.stat().st_mtime_ns
    outlook = AUDIT_STAGE.prepared(config, Opened()).unfinished()
    assert (outlook.action, outlook.why) == (Action.CONTINUE, "2 of 2 folds are trained")
    result = perform(AUDIT_STAGE, config)
    assert not result.skipped
    assert other.stat().st_mtime_ns == kept
    assert weights == {
        p: p.stat().st_mtime_ns for p in copied.glob("audit/fold-*/checkpoints/*.pt")
    }
    assert written(copied)["mask.parquet"] == before["mask.parquet"]
    assert perform(AUDIT_STAGE, config).skipped


@pytest.mark.services
def test_a_killed_audit_ends_as_one_that_was_never_killed(copied: Path) -> None:
    """Three audits of a second's training each, in real processes: 20 s."""
    expected = written(copied)["mask.parquet"]
    shutil.rmtree(copied / "audit")
    words = ["audit", "store", "--out", "audit", "--folds", "2", "--quiet"]
    options = flattened(OPTIONS).items()
    words += [word for name, value in options for word in ("--set", f"{name}={value}")]
    for moment in ("fold-0/checkpoints/*.pt", "fold-1/run.json"):
        environment = environment_of(copied)
        process = subprocess.Popen([*command(), *words], cwd=copied, env=environment)
        deadline = time.monotonic() + 120
        while not list(copied.glob(f"audit/{moment}")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert not (copied / "audit" / "mask.parquet").exists()
    done = quickdraw(*words, cwd=copied)
    assert done.returncode == 0, done.stderr
    assert written(copied)["mask.parquet"] == expected


def test_a_folder_of_another_audit_is_refused(audited: tuple[Path, set[int], set[int]]) -> None:
    with pytest.raises(CheckpointError, match="another --out, or --fresh"):
        AUDIT_STAGE.prepared(config_of(audited[0], per_class=50), Opened())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--folds 1", "'folds'"),
        ("--recipe autit", "did you mean 'audit'"),
        ("--set select.fold.of=3", "leave it out"),
        ("--set run_dir=x", "leave it out"),
        ("--set modle=net", "unknown option 'modle'"),
        ("--set model.pretrained=/w.pt", "trained on the drawings that they are to score"),
        ("--set distill.teachers=w.pt", "trained on the drawings that they are to score"),
    ],
)
def test_a_wrong_option_is_refused(
    words: str, message: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["audit", str(store.path), *words.split()])
    assert isinstance(done.exception, QuickdrawError)
    assert message in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_words_with_too_few_drawings_are_refused_if_none_is_left(
    store: Store, tmp_path: Path
) -> None:
    values = {"store": store.path, "out_dir": tmp_path / "out", "folds": 2, "per_class": 16}
    config = AuditConfig.parse(values | {"changes": OPTIONS | {"epochs": 1}})
    with pytest.raises(ConfigError, match="0 of 4 words have 20 train drawings"):
        AUDIT_STAGE.prepared(config, Opened()).run()


# 12 drawings of 3 words; thresholds, joint and suspects as cleanlab 2.9.0 gives them
# (`compute_confident_joint`, `find_label_issues(filter_by="confident_learning")`).
PROBABILITIES = np.array(
    [
        *([0.90, 0.05, 0.05], [0.80, 0.15, 0.05], [0.70, 0.20, 0.10], [0.10, 0.85, 0.05]),
        *([0.45, 0.40, 0.15], [0.10, 0.80, 0.10], [0.05, 0.90, 0.05], [0.85, 0.10, 0.05]),
        *([0.20, 0.55, 0.25], [0.05, 0.05, 0.90], [0.15, 0.10, 0.75], [0.60, 0.05, 0.35]),
    ]
)
GIVEN = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])


def test_confident_learning_is_cleanlab_s() -> None:
    predictions = predictions_of(np.log(PROBABILITIES), GIVEN)
    sums = Thresholds(3)
    sums.add(predictions.where(np.arange(12) < 5))
    sums.add(predictions.where(np.arange(12) >= 5))
    thresholds = sums.values(np.ones(3, bool))
    np.testing.assert_allclose(thresholds, [0.59, 0.5875, 2 / 3], rtol=1e-6)
    confident = confident_labels(predictions, thresholds)
    joint = confident_joint(GIVEN, confident, 3)
    assert joint.tolist() == [[3, 1, 0], [1, 2, 0], [1, 0, 2]]
    off = np.flatnonzero((confident != NOBODY) & (confident != GIVEN))
    assert off.tolist() == [3, 7, 11]
    # cleanlab's `estimate_joint` rounds the calibrated joint to whole drawings: 1 in each row.
    assert np.round(estimated_wrong(joint, sums.counts)).tolist() == [1, 1, 1]


def test_three_guesses_say_what_all_probabilities_say() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 9, 400)
        logits = rng.normal(size=(400, 9)) + 3.5 * np.eye(9)[labels]
        predictions = predictions_of(logits, labels)
        sums = Thresholds(9)
        sums.add(predictions)
        thresholds = sums.values(np.ones(9, bool))
        assert thresholds.min() > 1 / 4
        exact = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        reaching = np.where(exact >= thresholds, exact, 0)
        expected = np.where(reaching.any(1), reaching.argmax(1), NOBODY)
        assert (confident_labels(predictions, thresholds) == expected).mean() > 0.998
