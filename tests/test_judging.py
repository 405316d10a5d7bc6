"""Models judged for real: loaded in every way, alone and together, by one process and several."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import session
import torch
from counting import count_openings
from processes import children_of
from service import until
from trainings import train_config
from unreported import evaluate_unreported

from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    EvaluationError,
    InputError,
    StoreError,
)
from quickdraw_core.evaluation.compare import COMPARE_STAGE
from quickdraw_core.evaluation.config import CompareConfig, EvaluateConfig
from quickdraw_core.evaluation.delivering import delivering_ahead
from quickdraw_core.evaluation.evaluate import EVALUATE_STAGE, check_before_training, evaluate
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.evaluation.summary import compare_facts
from quickdraw_core.inference import predict
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.partial import PARTIAL_NAME
from quickdraw_core.inference.predict import predict_rows
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.inference.references import load_model
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.train import train
from quickdraw_core.loading.loader import drawn_rows
from quickdraw_core.metrics.metrics import METRICS, values_of
from quickdraw_core.outputs import OUTPUTS_NAME
from quickdraw_core.stage import Opened, perform
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.tracking.runs import client
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def other(store: Store) -> Path:
    """A model that reads another encoding and size than `trained`."""

    def make(folder: Path) -> str:
        values = {"store": store.path, "run_dir": folder / "run", "hardware.ranks": 1, "epochs": 2}
        values |= {"global_batch_size": 64, "micro_batch_size": 64, "tracking.uri": "none"}
        values |= {"image.encoding": "gray", "image.side_px": 28, "augment": None}
        values |= {"model.name": "net", "model.flip_tta": True}
        return str(train(train_config(values)).run_dir)

    return Path(session.once("trained-mirrored", make))


def config_of(model: Path | str, store: Store, folder: Path, **changes: object) -> EvaluateConfig:
    values = {"model": str(model), "store": store.path, "per_class": 20, "tracking_uri": "none"}
    return EvaluateConfig.parse(values | {"report_dir": folder} | changes)


def predicted(models: Ensemble, pack: Pack) -> Predictions:
    return predict_rows(models, pack, pack.test_rows(20)).predictions


def probabilities(run_dir: Path, pack: Pack, flipped: bool = False) -> torch.Tensor:
    """What a model says of the held-out drawings, by the plainest way."""
    model = load_model(str(run_dir))
    (batch,) = drawn_rows(pack, pack.test_rows(20), model.image, 1_000)
    images = batch.images_nchw.flip(3) if flipped else batch.images_nchw
    with torch.inference_mode():
        return model.network(images.float() / 255).double().softmax(1)


@pytest.fixture(scope="module")
def judged(
    trained: Path, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> EvaluateResult:
    folder = tmp_path_factory.mktemp("judged")
    return evaluate(config_of(trained, store, folder, json_file=folder / "numbers.json"))


def test_predictions_are_the_models(trained: Path, pack: Pack) -> None:
    found = predicted(load_models([str(trained)]), pack)
    rows, expected = pack.test_rows(20), probabilities(trained, pack).numpy()
    assert (found.key_ids == pack.key_ids[rows]).all()
    assert (found.labels == pack.labels[rows]).all()
    right = expected[np.arange(len(rows)), found.labels]
    assert np.exp(found.label_log_probabilities) == pytest.approx(right, rel=1e-4)
    assert found.probabilities == pytest.approx(-np.sort(-expected, 1)[:, :3], rel=1e-4)


def test_everything_is_written_down(
    judged: EvaluateResult, trained: Path, store: Store, pack: Pack
) -> None:
    folder = judged.report.parent
    value = json.loads((folder / "evaluation.json").read_text())
    assert (folder / "numbers.json").read_text() == (folder / "evaluation.json").read_text()
    for name in ("map_at_3", "top_1", "top_3", "mean_rank", "log_loss"):
        assert value[name] == judged.scores[name]._asdict()
        assert value[name]["n"] == 80
        assert value[name]["low"] < value[name]["value"] < value[name]["high"]
    assert 0.4 < value["map_at_3"]["value"] < 1
    assert set(value["classes"]) == set(store.label_map.words)
    assert all(row["top_3"]["n"] == 20 for row in value["classes"].values())
    assert value["short_classes"] == {}
    assert value["evaluated"]["store_fingerprint"] == store.manifest.fingerprint
    table = pq.read_table(folder / "predictions.parquet", partitioning=None)
    assert table["key_id"].to_numpy().tolist() == pack.key_ids[pack.test_rows(20)].tolist()
    assert np.mean(table["rank"].to_numpy() == 1) == pytest.approx(value["top_1"]["value"])
    assert 0 <= judged.data_wait_share < 1
    assert judged.images_per_second > 0


def test_partial_drawings_are_judged_unless_switched_off(
    judged: EvaluateResult, trained: Path, store: Store, pack: Pack, tmp_path: Path
) -> None:
    folder = judged.report.parent
    value = json.loads((folder / "evaluation.json").read_text())["by_strokes"]
    assert value["n"] == 40
    assert judged.until_right is not None
    assert value["strokes_until_right"] == judged.until_right._asdict()
    assert set(value["classes"]) == set(store.label_map.words)
    predictions, _ = Predictions.read(folder / "predictions.parquet", store.label_map)
    whole = predictions.where(np.isin(predictions.key_ids, pack.key_ids[pack.test_rows(10)]))
    assert value["after_strokes"]["all"]["top_1"]["value"] == np.mean(whole.ranks == 0)
    table = pq.read_table(folder / PARTIAL_NAME, partitioning=None)
    assert set(table["key_id"].to_pylist()) <= set(whole.key_ids.tolist())
    both = (str(folder / PARTIAL_NAME), str(folder))
    values = {"models": both, "store": store.path, "per_class": 19}
    with pytest.raises(InputError, match=r"partial drawings, .* give .*/predictions\.parquet"):
        perform(COMPARE_STAGE, CompareConfig.parse(values))

    config = config_of(trained, store, tmp_path, guesses=0)
    evaluate(config)
    files = [tmp_path / PARTIAL_NAME, tmp_path / "figures" / "strokes.png"]
    assert all(file.is_file() for file in files)
    without = evaluate(config.updated({"partial_per_class": 0}))
    assert without.until_right is None
    assert without.scores == judged.scores
    assert "by_strokes" not in json.loads((tmp_path / "evaluation.json").read_text())
    assert not any(file.exists() for file in files)


def test_the_same_evaluation_again_writes_the_same_numbers(
    judged: EvaluateResult, trained: Path, store: Store, tmp_path: Path
) -> None:
    evaluate(config_of(trained, store, tmp_path))
    first, again = (
        (folder / "evaluation.json").read_text() for folder in (judged.report.parent, tmp_path)
    )
    assert again == first


def test_several_processes_say_what_one_does(
    judged: EvaluateResult,
    trained: Path,
    store: Store,
    pack: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts, start = 0, predict._run

    def counted(*job: Any) -> None:
        nonlocal starts
        starts += 1
        start(*job)

    monkeypatch.setattr(predict, "_run", counted)
    two = evaluate(config_of(trained, store, tmp_path, ranks=2, batch_size=16))
    assert starts == 1, "whole and partial drawings by the same processes"
    table = pq.read_table(two.report.parent / "predictions.parquet", partitioning=None)
    expected = predicted(load_models([str(trained)]), pack)
    partial = [
        pq.read_table(result.report.parent / PARTIAL_NAME, partitioning=None)
        for result in (two, judged)
    ]
    for name in ("key_id", "strokes", "rank"):
        assert partial[0][name].equals(partial[1][name]), name
    assert (table["key_id"].to_numpy() == expected.key_ids).all()
    assert (table["rank"].to_numpy() - 1 == expected.ranks).all()
    assert table["log_probability"].to_numpy() == pytest.approx(
        expected.label_log_probabilities, abs=1e-4
    )


def test_processes_that_find_another_model_than_was_asked_for_refuse_it(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training may reach a better checkpoint while they start."""
    monkeypatch.setattr(Ensemble, "digest", "of the one that was best")
    with pytest.raises(EvaluationError, match="a model changed while it was loaded"):
        evaluate(config_of(trained, store, tmp_path, ranks=2, batch_size=16))


def test_a_lost_process_is_an_error_and_takes_the_others_along(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    found: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 300
        while len(found) < 2 and time.monotonic() < deadline:
            found[:] = children_of("quickdraw_core.inference.predict_rank")
            time.sleep(0.01)
        os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(
        EvaluationError, match=r"process \d of 2 ended with code -9: it was killed"
    ):
        evaluate(config_of(trained, store, tmp_path, ranks=2, batch_size=16))
    killer.join()
    assert not children_of("quickdraw_core.inference.predict_rank")


def test_an_ensemble_is_the_mean_of_its_members_probabilities(
    trained: Path, other: Path, pack: Pack
) -> None:
    found = predicted(load_models([str(trained), str(other)]), pack)
    mean = (probabilities(trained, pack) + probabilities(other, pack)).numpy() / 2
    assert found.probabilities == pytest.approx(-np.sort(-mean, 1)[:, :3], rel=1e-4)
    turned = predicted(load_models([str(other), str(trained)]), pack)
    assert (turned.ranks == found.ranks).all()


def test_flip_is_the_mean_of_both_looks_and_changes_nothing_that_looks_twice(
    trained: Path, other: Path, pack: Pack
) -> None:
    found = predicted(load_models([str(trained)], tta="flip"), pack)
    mean = (probabilities(trained, pack) + probabilities(trained, pack, flipped=True)).numpy() / 2
    assert found.probabilities == pytest.approx(-np.sort(-mean, 1)[:, :3], rel=1e-4)
    plain, flipped = (
        predicted(load_models([str(other)], tta=tta), pack) for tta in ("none", "flip")
    )
    assert (plain.probabilities == flipped.probabilities).all()
    with pytest.raises(ConfigError, match="did you mean 'flip'"):
        load_model(str(trained), tta="flop")


def test_an_average_is_the_mean_of_the_latest_checkpoints(trained: Path) -> None:
    paths = sorted((trained / "checkpoints").glob("step-*.pt"))
    assert len(paths) == 3
    loaded = [load_checkpoint(path).weights for path in paths[-2:]]
    averaged = load_model(str(trained), average=2).checkpoint.weights
    for name, value in averaged.items():
        assert torch.allclose(value, (loaded[0][name] + loaded[1][name]) / 2), name
    alone = load_model(str(paths[-1])).checkpoint.weights
    assert not all(torch.equal(value, averaged[name]) for name, value in alone.items())
    for reference, found in ((trained, "holds the 3 latest"), (paths[0], "is no run folder here")):
        with pytest.raises(CheckpointError, match=f"4 checkpoints are to be averaged.*{found}"):
            load_model(str(reference), average=4)


def test_an_old_best_checkpoint_is_none_of_the_latest(trained: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    *_, newest = sorted((run_dir / "checkpoints").glob("step-*.pt"))
    values = torch.load(newest, weights_only=True)
    for step in (900, 901, 902):
        torch.save({**values, "step": step}, newest.with_name(f"step-{step:08d}.pt"))
    kept = [load_checkpoint(p).step for p in sorted((run_dir / "checkpoints").glob("step-*.pt"))]
    assert kept[-3:] == [900, 901, 902]
    with pytest.raises(CheckpointError, match="holds the 3 latest"):
        load_model(str(run_dir), average=4)


def test_what_is_not_the_best_checkpoint_stands_beside_its_evaluation(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    best = (run_dir / "checkpoints" / "best").read_text().strip()
    paths = sorted((run_dir / "checkpoints").glob("step-*.pt"))
    (not_best, *_) = [path for path in paths if path.name != best]
    step = load_checkpoint(not_best).step
    copied = tmp_path / "copied.pt"
    shutil.copy(not_best, copied)
    for reference, expected in (
        (run_dir, run_dir / "evaluation"),
        (run_dir / "checkpoints" / best, run_dir / "evaluation"),
        (not_best, run_dir / f"evaluation-step{step}"),
        (copied, tmp_path / f"evaluation-step{step}"),
    ):
        assert load_model(str(reference)).report_dir == expected
    uri, run_id = f"sqlite:///{trained.parent}/mlflow.db", tracked_run_id(trained)
    before = client(uri).get_run(run_id).data
    found = evaluate(
        config_of(not_best, store, tmp_path, report_dir=None, tracking_uri=uri)
    ).scores["map_at_3"]
    after = client(uri).get_run(run_id).data
    assert after.metrics[f"test-step{step}/map_at_3"] == found.value
    assert after.metrics.get("test/map_at_3") == before.metrics.get("test/map_at_3")
    assert after.tags.get("mlflow.note.content") == before.tags.get("mlflow.note.content")


def test_an_ensemble_writes_into_no_other_run(
    trained: Path, other: Path, store: Store, empty_database: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"
    values = {"tracking_uri": uri, "ensemble": (str(other),)}
    first = evaluate(config_of(trained, store, tmp_path / "both", **values))
    again = evaluate(config_of(trained, store, tmp_path / "both", **values))
    assert first.mlflow_run_id == again.mlflow_run_id
    values["ensemble"] = (str(other), str(other))
    for folder in (tmp_path / "both", trained):
        with pytest.raises(ConfigError, match="belongs to another run"):
            evaluate(config_of(trained, store, folder, **values))


def test_a_model_that_gives_no_numbers_is_refused_rather_than_the_best(
    trained: Path, pack: Pack
) -> None:
    models = load_models([str(trained)])
    with torch.no_grad():
        next(models.members[0].network.parameters())[0] = torch.nan
    with pytest.raises(EvaluationError, match="gives outputs that are no numbers"):
        predicted(models, pack)


def test_an_evaluation_that_breaks_off_leaves_no_sign_of_being_whole(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("quickdraw_core.evaluation.run_evaluation.write_report", full)
        with pytest.raises(OSError, match="no space"):
            evaluate(config_of(trained, store, tmp_path))
    assert (tmp_path / "predictions.parquet").is_file()
    assert not (tmp_path / "evaluation.json").exists()
    evaluate(config_of(trained, store, tmp_path))
    assert (tmp_path / "evaluation.json").is_file()


def test_a_model_that_others_join_is_checked_before_it_is_trained(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    config = config_of(trained, store, tmp_path).updated({"model": None})
    opened = Opened()
    check_before_training(config.updated({"ensemble": (str(trained),)}), opened)
    with pytest.raises(CheckpointError, match="no model nothing"):
        check_before_training(config.updated({"ensemble": ("nothing",)}), opened)
    with pytest.raises(StoreError, match="fewer than 60 held-out drawings"):
        check_before_training(config.updated({"per_class": 60}), opened)


def test_models_of_other_words_or_another_store_are_refused(
    trained: Path, store: Store, csv_folder: Path, tmp_path: Path
) -> None:
    three = tmp_path / "three"
    sources = sorted(str(path) for path in csv_folder.glob("*.csv"))
    ingest(IngestConfig(source=sources[:3], store=three, test_per_class=20, workers=1))
    with pytest.raises(CheckpointError, match="use two that were made from the same classes"):
        evaluate(config_of(trained, Store.open(three), tmp_path))
    fewer = tmp_path / "fewer"
    values = {"source": csv_folder, "store": fewer, "test_per_class": 20, "rows": "head:100"}
    ingest(IngestConfig.parse(values))
    elsewhere = Store.open(fewer)
    with pytest.raises(CheckpointError, match=r"was trained on store .* --other-store"):
        evaluate(config_of(trained, elsewhere, tmp_path))
    allowed = evaluate(config_of(trained, elsewhere, tmp_path, other_store=True))
    assert allowed.scores["map_at_3"].n == 80
    assert allowed.model.endswith(f"(store{elsewhere.manifest.fingerprint[:8]})")


def test_classes_with_too_few_drawings_fail_before_work_unless_allowed(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(
        StoreError,
        match=r"4 of 4 classes .* fewer than 60 held-out drawings: envelope \(\d+\), .*"
        "--allow-short",
    ):
        evaluate(config_of(trained, store, tmp_path, per_class=60))
    assert not list(tmp_path.iterdir())
    result = evaluate(config_of(trained, store, tmp_path, per_class=60, allow_short=True))
    assert set(result.short_classes) == set(store.label_map.words)
    assert sum(result.short_classes.values()) == result.scores["map_at_3"].n


def test_mlflow_gets_the_numbers_files_and_intervals_of_every_use_of_a_model(
    trained: Path, other: Path, store: Store, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    uri, run_id = f"sqlite:///{trained.parent}/mlflow.db", tracked_run_id(trained)
    values = {"report_dir": None, "tracking_uri": uri}
    plain = evaluate(config_of(run_dir, store, tmp_path, **values))
    assert plain.tracking_problem is None
    assert plain.report == run_dir / "evaluation" / "report.html"
    flipped = evaluate(config_of(run_dir, store, tmp_path, **values, tta="flip"))
    assert flipped.report == run_dir / "evaluation-flip" / "report.html"
    mlflow = client(uri)
    metrics = mlflow.get_run(run_id).data.metrics
    for prefix, result in (("test", plain), ("test-flip", flipped)):
        found = result.scores["map_at_3"]
        assert metrics[f"{prefix}/map_at_3"] == found.value
        assert metrics[f"{prefix}/map_at_3_low"] == found.low
        assert metrics[f"{prefix}/map_at_3_high"] == found.high
        curve = mlflow.get_metric_history(run_id, f"{prefix}/top_1_by_strokes")
        assert 1 in {point.step for point in curve}
        assert result.until_right is not None
        assert metrics[f"{prefix}/strokes_until_right"] == result.until_right.value
    for folder in ("evaluation", "evaluation-flip"):
        names = {file.path.split("/")[-1] for file in mlflow.list_artifacts(run_id, folder)}
        assert {"evaluation.json", "predictions.parquet", "report.html", "classes.json"} <= names
        assert PARTIAL_NAME in names
    by_run_id = evaluate(config_of(run_id, store, tmp_path / "by id", tracking_uri=uri))
    assert by_run_id.scores == plain.scores
    together = evaluate(config_of(run_dir, store, tmp_path / "both", tracking_uri=uri,
                                  ensemble=(str(other),)))  # fmt: skip
    run = mlflow.get_run(together.mlflow_run_id)
    assert together.mlflow_run_id != run_id
    assert run.info.status == "FINISHED"
    assert run.data.params["member_1"] == run_id
    assert run.data.metrics["test/map_at_3"] == together.scores["map_at_3"].value


def test_numbers_reach_mlflow_though_the_process_that_delivers_is_lost(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = shutil.copytree(trained, tmp_path / "run")
    uri = f"sqlite:///{trained.parent}/mlflow.db"
    values = {"report_dir": None, "tracking_uri": uri, "precision": "bf16"}
    monkeypatch.setattr(sys, "executable", "/bin/false")
    found = evaluate_unreported(config_of(run_dir, store, tmp_path, **values))
    assert found.tracking_problem is None
    metrics = client(uri).get_run(found.mlflow_run_id).data.metrics
    assert metrics["test-bf16/map_at_3"] == found.scores["map_at_3"].value


def test_who_delivers_begins_before_torch_is_loaded_where_there_is_something_to_judge(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    config = EvaluateConfig(model=str(trained), store=store.path, report_dir=report)

    def begun(config: EvaluateConfig) -> int:
        with delivering_ahead(config, Opened()):
            return len(children_of("quickdraw_core.tracking.delivery_process"))

    with delivering_ahead(config, Opened()):  # on a busy machine it takes a while to be seen
        until(lambda: children_of("quickdraw_core.tracking.delivery_process"), 60)
    checkpoint = find_checkpoint(trained, "best")
    for other in (str(checkpoint), "0" * 32, "models:/none@champion", None):
        assert begun(config.updated({"model": other})) == 0
    assert begun(config.updated({"ensemble": (str(trained),)})) == 0
    assert begun(config.updated({"tracking_uri": "none"})) == 0
    report.mkdir()
    (report / OUTPUTS_NAME).touch()
    assert begun(config) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": None}, "no model to evaluate"),
        ({"model": "runs/none"}, "no model runs/none"),
        ({"json_file": "no/folder/e.json"}, "no folder no/folder to write e.json to"),
        ({"json_file": "."}, "is a folder; give the name of a file"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    changes: dict[str, object], expected: str, trained: Path, store: Store, tmp_path: Path
) -> None:
    with pytest.raises((CheckpointError, ConfigError), match=expected):
        evaluate(config_of(trained, store, tmp_path).updated(changes))


def test_the_digest_of_models_says_whether_they_guess_alike(trained: Path, other: Path) -> None:
    one, two = load_models([str(trained)]), load_models([str(other)])
    both = load_models([str(trained), str(other)])
    turned = Ensemble(both.members[::-1])
    flipped = load_models([str(trained)], tta="flip")
    digests = [found.digest for found in (one, two, both, flipped)]
    assert len(set(digests)) == 4
    assert both.digest == turned.digest
    elsewhere = Ensemble((replace(one.members[0], path=None),))
    assert elsewhere.digest == one.digest


def test_an_evaluation_opens_everything_once_and_less_the_second_time(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, config = count_openings(monkeypatch), config_of(trained, store, tmp_path)

    def openings(config: EvaluateConfig) -> tuple[EvaluateResult, list[int]]:
        counts.clear()
        result = perform(EVALUATE_STAGE, config, Opened())
        kinds = ("manifest", "pack", "checkpoint", "network", "predictions")
        return result, [counts[kind] for kind in kinds]

    first, found = openings(config)
    assert found == [1, 1, 1, 1, 0]
    again, found = openings(config)
    assert found == [1, 0, 1, 0, 0]  # finished: no network is built, no drawing looked up
    assert again == replace(first, skipped=True)
    other_sample, found = openings(config.updated({"guesses": 3}))
    assert found == [1, 1, 1, 0, 2]  # predictions that are there are not made again
    assert not other_sample.skipped
    assert other_sample.scores == first.scores
    assert other_sample.images_per_second == first.images_per_second
    both = config.updated({"ensemble": (str(trained),), "report_dir": tmp_path / "both"})
    assert openings(both)[1] == [1, 1, 1, 1, 0]


def test_models_are_opened_once_however_often_they_are_compared(
    trained: Path, other: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = (str(trained), str(other), str(find_checkpoint(trained, "best")), str(other))
    values = {"models": models, "store": store.path, "per_class": 19, "tracking_uri": "none"}
    counts = count_openings(monkeypatch)
    result = perform(COMPARE_STAGE, CompareConfig.parse(values), Opened())
    kinds = ("manifest", "pack", "checkpoint", "network")
    assert [counts[kind] for kind in kinds] == [1, 1, 2, 2]
    assert len(result.comparisons) == 3
    assert COMPARE_STAGE.finished(CompareConfig.parse(values), Opened()) is None


def test_models_that_are_being_chosen_are_compared_on_validation_drawings(
    trained: Path, other: Path, store: Store, pack: Pack
) -> None:
    values = {"models": (str(trained), str(other)), "store": store.path, "per_class": 2}
    values |= {"split": "validation", "allow_short": True, "tracking_uri": "none"}
    result = perform(COMPARE_STAGE, CompareConfig.parse(values), Opened())
    rows = pack.first_rows(Split.VALIDATION, 2)
    assert np.all(pack.splits[rows] == Split.VALIDATION)
    (comparison,) = result.comparisons
    assert comparison.n == len(rows)
    judged = predict_rows(load_models([str(trained)]), pack, rows).predictions
    expected = values_of(judged)[:, list(METRICS).index("map_at_3")].mean()
    assert comparison.differences["map_at_3"].first == pytest.approx(expected)
    assert compare_facts(result)["held-out"].startswith(f"{len(rows)} validation drawings")
    values["models"] = (str(trained), "evaluation/predictions.parquet")
    with pytest.raises(ConfigError, match="is an evaluation, which holds test drawings"):
        COMPARE_STAGE.prepared(CompareConfig.parse(values), Opened())


def test_what_was_evaluated_meanwhile_is_not_judged_again(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(trained, store, tmp_path)
    prepared = EVALUATE_STAGE.prepared(config, Opened())
    first = evaluate(config)
    counts = count_openings(monkeypatch)
    assert prepared.run() == replace(first, skipped=True)
    assert not counts


def test_a_model_whose_run_is_nowhere_yet_is_judged_and_says_so(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(trained, tmp_path / "run")
    (run_dir / "mlflow.json").unlink()
    path = find_checkpoint(run_dir, "best")
    assert path is not None
    early = replace(load_checkpoint(path), mlflow_run_id="")
    save_checkpoint(run_dir, early, is_best=True, keep=1)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    found = evaluate_unreported(config_of(run_dir, store, tmp_path, tracking_uri=uri))
    assert found.tracking_problem is not None
    assert found.tracking_problem.startswith(f"the model has no run in MLflow at {uri}; the same")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_report_without_its_curves_is_made_again(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(trained, store, tmp_path)
    with monkeypatch.context() as patch:
        away = ({}, "MLflow is away")
        patch.setattr("quickdraw_core.evaluation.run_evaluation.training_curves", lambda *_: away)
        assert evaluate_unreported(config).tracking_problem == "MLflow is away"
    again = evaluate_unreported(config)
    assert not again.skipped
    assert again.tracking_problem is None
    assert evaluate(config).skipped


def test_checkpoints_written_before_their_run_was_made_know_it_by_their_folder(
    trained: Path, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(trained, tmp_path / "run")
    path = find_checkpoint(run_dir, "best")
    assert path is not None
    early = replace(load_checkpoint(path), mlflow_run_id="")
    save_checkpoint(run_dir, early, is_best=True, keep=1)
    for reference in (run_dir, path):
        found = load_model(str(reference)).checkpoint
        assert found.mlflow_run_id == tracked_run_id(trained) != ""
    shutil.copy(path, tmp_path)  # out of its run
    assert load_model(str(tmp_path / path.name)).checkpoint.mlflow_run_id == ""


def test_a_store_that_was_written_anew_meanwhile_is_not_judged_on(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    copied = shutil.copytree(store.path, tmp_path / "store")
    config = config_of(trained, Store.open(copied), tmp_path / "report")
    prepared = EVALUATE_STAGE.prepared(config, Opened())
    holdout = store.manifest.holdout.updated({"salt": 1})
    store.manifest.model_copy(update={"holdout": holdout}).write(copied)
    with pytest.raises(EvaluationError, match="was replaced before anything was judged"):
        prepared.run()
    assert not (tmp_path / "report").exists()
