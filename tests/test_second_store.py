"""A training on a store and the drawings of a second one (`select.also`)."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folder import curve_of, last_of, samples_of
from trainings import train_config

from quickdraw_core.differences.recorded import recorded_of
from quickdraw_core.differences.why import why
from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.errors import CheckpointError, ConfigError, StoreError
from quickdraw_core.exporting.config import ExportConfig
from quickdraw_core.exporting.export import prepare as prepare_export
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.inference.inspection import inspect_facts, inspect_model
from quickdraw_core.inference.references import load_model
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.mlflow_run import tags_of
from quickdraw_core.launching.nodes.node import Job, digest_of
from quickdraw_core.launching.torch_launcher import launcher_command
from quickdraw_core.launching.train import prepare, train
from quickdraw_core.loading.balance import SampleOrder
from quickdraw_core.loading.config import FoldConfig, SelectConfig
from quickdraw_core.loading.gather import gather
from quickdraw_core.loading.joined import JoinedPack, opened_train_pack
from quickdraw_core.loading.select import select_rows, selection_notes, train_rows
from quickdraw_core.retention.runs import find_runs
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.stage import Opened
from quickdraw_core.store.holdout import Split, fold_of
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify import verify_store
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.plan import Rows
from quickdraw_core.training.run_folder import RunFolder

WORDS = ("ice cream", "sun", "star")
ROWS = 40
SHARED = 30
"""Drawings of the second store that the first has too, under another word."""


def second_csvs(folder: Path, words: tuple[str, ...], first: Path | None = None) -> Path:
    """New drawings of some words, and some of the `sun` of the first source as `star`."""
    generate_csvs(folder, words, ROWS, seed=7)
    if first is not None:
        with (first / "sun.csv").open(newline="") as file:
            shared = [row | {"word": "star"} for row in csv.DictReader(file)][:SHARED]
        with (folder / "star.csv").open("a", newline="") as file:
            csv.DictWriter(file, TRAIN_COLUMNS, lineterminator="\n").writerows(shared)
    return folder


def without_holdout(source: Path, store: Path) -> Store:
    options = {"test_per_class": 0, "validation_share": 0, "workers": 1}
    ingest(IngestConfig.parse({"source": source, "store": store} | options))
    return Store.open(store)


@pytest.fixture(scope="module")
def second(csv_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("second")
    return without_holdout(second_csvs(folder / "csv", WORDS, csv_folder), folder / "store")


@pytest.fixture(scope="module")
def both(store: Store, second: Store) -> JoinedPack:
    pack = opened_train_pack(store, SelectConfig(also=second.path), Opened())
    assert isinstance(pack, JoinedPack)
    return pack


def ids_of(both: JoinedPack, rows: Int64Array) -> list[int]:
    ids = np.concatenate([both.first.key_ids, both.second.key_ids])
    return [int(key) for key in ids[rows]]


def test_a_store_can_be_made_without_held_out_drawings(second: Store) -> None:
    pack = open_pack(second)
    assert len(pack.rows(Split.TRAIN)) == len(pack) == len(WORDS) * ROWS + SHARED
    assert second.manifest.holdout.test_share == 0
    assert not verify_store(second.path).problems


def test_what_is_learned_is_both_stores_train_drawings_without_what_the_first_has_too(
    both: JoinedPack, pack: Pack, second: Store
) -> None:
    select = SelectConfig(also=second.path)
    rows = train_rows(both, select)
    own, added = rows[rows < len(pack)], rows[rows >= len(pack)]
    np.testing.assert_array_equal(own, select_rows(pack, Split.TRAIN, SelectConfig()))
    assert len(added) == len(WORDS) * ROWS
    ids = ids_of(both, rows)
    assert len(set(ids)) == len(ids)
    held_out = set(pack.key_ids[pack.splits != Split.TRAIN].tolist())
    assert held_out & set(second_ids := both.second.key_ids.tolist())  # there are some to leak
    assert not held_out & set(ids)
    assert set(ids_of(both, added)) == set(second_ids) - set(pack.key_ids.tolist())
    assert (np.diff(both.labels[rows].astype(int)) >= 0).all()
    (note,) = selection_notes(both, select)
    assert note.startswith(f"{SHARED} of {len(WORDS) * ROWS + SHARED} train drawings of")


def test_the_labels_are_those_of_the_first_store(both: JoinedPack, store: Store) -> None:
    words = [store.label_map.words[label] for label in both.labels[len(both.first) :]]
    counts = {word: words.count(word) for word in set(words)}
    assert counts == dict.fromkeys(WORDS, ROWS) | {"star": ROWS + SHARED}


@given(data=st.data())
def test_a_batch_holds_the_drawings_of_its_rows_whichever_store_has_them(
    both: JoinedPack, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(both) - 1), min_size=1, max_size=12))
    rows = np.array(chosen)
    labels, ids = np.empty(len(rows), np.int64), np.empty(len(rows), np.uint64)
    batch = gather(both, rows, labels, ids)
    alone = DrawingBatch.concat(
        [
            (both.first if row < len(both.first) else both.second).drawings.take(
                np.array([row - (row >= len(both.first)) * len(both.first)])
            )
            for row in chosen
        ]
    )
    for name, values in vars(alone).items():
        np.testing.assert_array_equal(getattr(batch, name), values)
    assert labels.tolist() == both.labels[rows].tolist()
    assert ids.tolist() == ids_of(both, rows)
    with pytest.raises(IndexError):
        gather(both, np.array([0, len(both)]), labels[:2], ids[:2])


@pytest.mark.parametrize("class_balance", [0.0, 0.6])
def test_an_epoch_is_an_order_of_all_of_them(
    both: JoinedPack, second: Store, class_balance: float
) -> None:
    rows = train_rows(both, SelectConfig(also=second.path))
    order = SampleOrder(rows, both.labels, 3, class_balance)
    positions = np.arange(len(rows))
    epoch = order.rows_at(2, positions)
    if not class_balance:
        assert sorted(epoch.tolist()) == sorted(rows.tolist())
    assert set(epoch.tolist()) <= set(rows.tolist())
    assert (epoch >= len(both.first)).sum() > len(WORDS) * ROWS / 2
    np.testing.assert_array_equal(epoch[7:9], order.rows_at(2, positions[7:9]))


def test_the_options_choose_of_both(
    both: JoinedPack, pack: Pack, second: Store, tmp_path: Path
) -> None:
    def chosen(**values: object) -> Int64Array:
        return train_rows(both, SelectConfig.parse({"also": second.path} | values))

    everything = chosen()
    rows = chosen(classes=["sun", "envelope"])  # the second store has no envelope
    index = pack.label_map.index
    assert set(both.labels[rows].tolist()) == {index["sun"], index["envelope"]}
    added = chosen(classes=["ice_cream"])
    assert (added >= len(pack)).sum() == ROWS
    counts = both.counts(chosen(per_class=10))  # of each store
    assert counts.tolist() == [20 if word in WORDS else 10 for word in pack.label_map.words]
    fold = FoldConfig(of=3, left_out=1)
    left = np.array(ids_of(both, chosen(fold=fold)), np.uint64)
    assert 0 < len(left) < len(everything)
    assert (fold_of(left, 3) != 1).all()
    out = ids_of(both, everything[everything >= len(pack)][:5])
    pq.write_table(pa.table({"key_id": pa.array(out, pa.uint64())}), tmp_path / "mask.parquet")
    kept = chosen(exclude=tmp_path / "mask.parquet")
    assert set(ids_of(both, everything)) - set(ids_of(both, kept)) == set(out)


def test_nothing_that_is_left_is_refused(both: JoinedPack, pack: Pack, second: Store) -> None:
    with pytest.raises(ConfigError, match=r"no train drawing of the 150 of .* leave select\.also"):
        train_rows(both, SelectConfig(also=second.path, classes=("envelope",)))
    itself = JoinedPack(pack, pack)
    with pytest.raises(ConfigError, match="and without those that the store has too"):
        train_rows(itself, SelectConfig(also=pack.path.parents[1]))


def config_of(store: Store, run_dir: Path, also: Path | None, **changes: object) -> TrainConfig:
    values = {"store": store.path, "run_dir": run_dir, "epochs": 1.5, "tracking.uri": "none"}
    values |= {"model": "net", "image.side_px": 24, "loss": "balanced_softmax"}
    values |= {"global_batch_size": 64, "micro_batch_size": 32, "hardware.ranks": 2}
    values |= {"checkpoints.every_steps": 3, "checkpoints.keep": 9, "tracking.log_every_steps": 1}
    values |= {"tracking.record_samples": True, "select.class_balance": 0.3, "select.also": also}
    return train_config(values, **changes)


@pytest.fixture(scope="module")
def run(store: Store, second: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run") / "run"
    result = train(config_of(store, run_dir, second.path))
    assert [f"{SHARED} of 150 train drawings" in note for note in result.notes].count(True) == 1
    return run_dir


def test_a_training_sees_both_and_is_judged_on_the_first(
    run: Path, store: Store, second: Store, both: JoinedPack
) -> None:
    checkpoint = last_of(run)
    rows = train_rows(both, SelectConfig(also=second.path))
    assert checkpoint.train_counts == both.counts(rows).tolist()
    assert checkpoint.store_fingerprint == store.manifest.fingerprint
    fingerprint = second.manifest.fingerprint
    assert checkpoint.config["select"]["also_fingerprint"] == fingerprint
    seen = {key for keys in samples_of(run).values() for key in keys}
    assert seen <= set(ids_of(both, rows))
    assert len(seen & set(both.second.key_ids.tolist())) > ROWS
    validation = Rows.of(config_of(store, run, second.path), both).validation
    assert validation.max() < len(both.first)


def test_what_is_recorded_of_a_training_names_the_second_store(
    run: Path, trained: Path, store: Store, second: Store
) -> None:
    fingerprint = second.manifest.fingerprint
    facts = inspect_facts(inspect_model(load_model(str(run))))
    assert facts["trained on"].endswith(f"{store.manifest.fingerprint} and store {fingerprint}")
    tags = tags_of(RunFolder.read(run), store)
    assert tags["also_store_fingerprint"] == fingerprint
    sides = [
        recorded_of(name, load_model(str(path)), "none", store.manifest)
        for name, path in (("without", trained), ("with", run))
    ]
    rows = {row.name: (row.first, row.second) for row in why(*sides).rows}
    assert rows["select.also_fingerprint"] == ("none", fingerprint[:12])
    assert "select.also" not in rows
    one = ExportConfig.parse({"models": [str(run)], "out": run.parent / "bundle"})
    info = prepare_export(one, Opened()).run().info
    assert info.also_fingerprints == (fingerprint,)
    card = (run.parent / "bundle" / "README.md").read_text()
    assert f"and on drawings of `{fingerprint[:12]}`" in card
    (found,) = find_runs(run.parent)
    assert found.stores == (str(store.path), str(second.path))


def test_a_run_that_was_cut_off_comes_to_the_same_bit_for_bit(
    run: Path, store: Store, second: Store, tmp_path: Path
) -> None:
    cut = tmp_path / "run"
    shutil.copytree(run, cut)
    kept, *later = sorted((cut / "checkpoints").glob("step-*.pt"))
    for path in later:
        path.unlink()
    for pointer in ("last", "best"):
        (cut / "checkpoints" / pointer).write_text(kept.name)
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    step = f'"step": {int(kept.stem[5:]) + 1},'
    first = next(number for number, line in enumerate(lines) if step in line)
    (cut / "journal.jsonl").write_text("".join(lines[:first]))
    assert train(config_of(store, cut, second.path)).resumed_from > 0
    assert curve_of(cut) == curve_of(run)
    assert samples_of(cut) == samples_of(run)
    assert last_of(cut).weights_sha256 == last_of(run).weights_sha256


def test_one_rank_sees_what_two_see(
    run: Path, store: Store, second: Store, tmp_path: Path
) -> None:
    values = {"hardware": {"ranks": 1}, "epochs": None, "max_steps": 2}
    train(config_of(store, tmp_path / "run", second.path, **values))
    alone, two = samples_of(tmp_path / "run"), samples_of(run)
    assert alone == {place: two[place] for place in alone}


def test_it_is_another_training_by_what_the_second_store_holds_not_by_where_it_is(
    store: Store, second: Store, run: Path, tmp_path: Path
) -> None:
    def identity(also: Path | None) -> str:
        return config_of(store, tmp_path, also).identity("store", "code")

    shutil.copytree(second.path, tmp_path / "copy")
    assert identity(None) != identity(second.path) == identity(tmp_path / "copy")
    assert train(config_of(store, run, tmp_path / "copy")).skipped
    with pytest.raises(CheckpointError, match="holds a run with other options, data or code"):
        train(config_of(store, run, None))
    other = without_holdout(second_csvs(tmp_path / "csv", ("sun",)), tmp_path / "other")
    assert identity(other.path) != identity(second.path)
    with pytest.raises(CheckpointError, match="holds a run with other options, data or code"):
        train(config_of(store, run, other.path))


def test_what_cannot_be_used_is_refused_before_anything_is_begun(
    store: Store, second: Store, tmp_path: Path
) -> None:
    def refused(error: type[Exception], message: str, **select: object) -> None:
        changes = {"select": {"also": second.path} | select}
        with pytest.raises(error, match=message):
            prepare(config_of(store, tmp_path / "run", None, **changes), Opened())

    csvs = second_csvs(tmp_path / "csv", ("apple", "clock", "sun"))
    strange = without_holdout(csvs, tmp_path / "strange")
    refused(ConfigError, r"2 of 3 words of .*select\.also\).*: apple, clock;", also=strange.path)
    refused(StoreError, "no store there: .*nowhere does not exist", also=tmp_path / "nowhere")
    refused(
        ConfigError, "is not the store that select.also_fingerprint", also_fingerprint="0" * 64
    )
    assert not (tmp_path / "run").exists()


def test_each_host_says_where_its_second_store_is(
    run: Path, second: Store, tmp_path: Path
) -> None:
    """Ranks and nodes of other hosts are told both places; the run folder is of host 0."""
    folder = RunFolder.read(run)
    words = launcher_command(folder, tmp_path, None)
    assert words[-3:] == [str(run), str(folder.config.store), str(second.path)]
    moved = Job(str(run), "store", 1, "attempt", digest_of(run), also=str(tmp_path / "copy"))
    assert json.loads(moved.words()[-1])["also"] == str(tmp_path / "copy")
    here = SelectConfig(also=Path("second")).absolute().also
    assert here == Path.cwd() / "second"


def test_a_rank_opens_the_second_store_that_its_run_names(
    store: Store, second: Store, both: JoinedPack
) -> None:
    recorded = SelectConfig(also=second.path, also_fingerprint=second.manifest.fingerprint)
    again = opened_train_pack(store, recorded, Opened())
    assert isinstance(again, JoinedPack)
    assert again.second.fingerprint == both.second.fingerprint
    changed = recorded.model_copy(update={"also": store.path})
    with pytest.raises(ConfigError, match=r"not the store that select\.also_fingerprint"):
        opened_train_pack(store, changed, Opened())
