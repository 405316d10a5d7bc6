"""Comparison and gate with real models: trained here, tracked in MLflow, judged on the store."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from budget import uncounted
from command_line import quickdraw
from counting import count_openings
from mlflow_server import MlflowServer, mlflow_at
from trainings import train_config
from typer.testing import CliRunner
from unreported import evaluate_unreported

from quickdraw_core.cli import app
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    TrackingError,
    UnreachableError,
)
from quickdraw_core.evaluation.compare import prepare as prepare_comparison
from quickdraw_core.evaluation.config import CompareConfig, EvaluateConfig, HeldOutConfig
from quickdraw_core.exporting.config import ExportConfig
from quickdraw_core.exporting.export import EXPORT_STAGE
from quickdraw_core.exporting.open_recognizer import find_bundle
from quickdraw_core.inference.cached_predictions import find_cached
from quickdraw_core.inference.held_out import find_held_out
from quickdraw_core.inference.references import load_model
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching import launch
from quickdraw_core.launching.rendezvous import free_port
from quickdraw_core.launching.train import train
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.promotion import promote as gate
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import Decision, PromoteResult, decide_alone
from quickdraw_core.promotion.promote import PROMOTE_STAGE
from quickdraw_core.render.encodings import render
from quickdraw_core.serving.bundle import open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.stage import Opened, perform
from quickdraw_core.store.store import Store
from quickdraw_core.tracking import registry
from quickdraw_core.tracking.logged_model import EXAMPLE
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.tracking.runs import client
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.distributed import process_group
from quickdraw_core.training.loop import train_loop
from quickdraw_core.training.run_folder import RunFolder

PER_CLASS = 20
TEACHING = {
    "poor": {"epochs": 0.4, "optimizer.learning_rate": 0.003},
    "good": {"epochs": 1, "optimizer.learning_rate": 0.003},
}


def train_here(run: RunFolder, *_: object) -> None:
    """One rank in this process: torch's launcher takes seconds to start one. It begins once MLflow
    has the run: its checkpoints name it then, which those of the first seconds may not.
    """
    deadline = time.monotonic() + 60
    while not tracked_run_id(run.path) and time.monotonic() < deadline:
        time.sleep(0.02)
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        with process_group("cpu", 60) as ranks:
            train_loop(run, ranks)


@dataclass(frozen=True)
class Trained:
    """Run folders and run ids of two models, of one MLflow."""

    folder: Path
    store: Path
    uri: str
    runs: dict[str, str]

    def run_dir(self, name: str) -> str:
        return str(self.folder / name)

    def promote(self, model: str, name: str, **changes: object) -> PromoteResult:
        """Promotes by run folder, or what else `model` is, among the models of `name`."""
        reference = self.run_dir(model) if model in TEACHING else model
        config = self.config(model=reference, name=name, **changes)
        result = PROMOTE_STAGE.prepare(config, Opened()).run()
        assert result.tracking_problem is None
        return result

    def config(self, **changes: object) -> PromoteConfig:
        values = {"store": self.store, "per_class": PER_CLASS, "tracking_uri": self.uri}
        return PromoteConfig.parse(values | changes)

    def holder(self, name: str, alias: str = "champion") -> int | None:
        found = registry.alias_holder(self.uri, name, alias)
        return found.number if found is not None else None


def teach(store: Store, folder: Path, uri: str) -> Trained:
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "run_ranks", train_here)
        for name, teaching in TEACHING.items():
            config = {
                "store": store.path,
                "run_dir": folder / name,
                "model": "net",
                "image.encoding": "gray",
                "image.side_px": 24,
                "augment": None,
                "hardware.ranks": 1,
                "global_batch_size": 32,
                "micro_batch_size": 32,
                "tracking.uri": uri,
            }
            result = train(train_config(config | teaching))
            assert result.tracking_problem is None
            runs[name] = result.mlflow_run_id
    return Trained(folder, store.path, uri, runs)


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("promote")
    with uncounted():  # whichever case comes first
        made = teach(store, folder, f"sqlite:///{folder}/mlflow.db")
    yield made
    shutil.rmtree(folder)


def test_a_better_model_takes_the_place_of_the_first_and_a_poorer_one_does_not(
    trained: Trained,
) -> None:
    name = "succession"
    first = trained.promote("poor", name)
    assert (first.decision, first.promoted, first.comparison) == (Decision.FIRST, True, None)
    assert "where always guessing the same words gets 0.4583" in first.reason
    assert first.version is not None
    assert trained.holder(name) == first.version.number == 1

    second = trained.promote("good", name)
    assert second.decision == Decision.PROMOTED
    assert second.reason.startswith(f"promoted to champion: good is better than models:/{name}/1")
    assert second.reason.endswith("in MAP@3 on 80 held-out drawings")
    assert second.comparison is not None
    assert second.comparison.differences["map_at_3"].estimate.low > 0
    assert (second.champion, trained.holder(name)) == (first.version, 2)

    third = trained.promote("poor", name)
    assert (third.decision, third.promoted) == (Decision.KEPT, False)
    assert third.reason.startswith(f"models:/{name}/2 stays champion: poor is worse than")
    assert trained.holder(name) == 2
    assert third.version == first.version  # the same weights are the same version

    same = trained.promote("good", name)
    assert (same.decision, same.promoted) == (Decision.SAME, False)
    assert same.reason == f"good is the champion already, as models:/{name}/2"
    by_alias = trained.promote(f"models:/{name}@champion", name)
    assert by_alias.decision == Decision.SAME

    # The reason stands where people look, of the last challenge.
    here = client(trained.uri)
    run = here.get_run(trained.runs["poor"])
    assert run.data.tags["promotion"] == "kept"
    assert run.data.tags["promotion.reason"] == third.reason
    found = json.loads(
        Path(here.download_artifacts(run.info.run_id, "promotion/promotion.json")).read_text()
    )
    assert (found["reason"], found["version"], found["champion"]) == (third.reason, 1, 2)
    assert found["comparison"]["differences"]["map_at_3"]["n"] == 80
    assert found["judged"]["per_class"] == PER_CLASS
    assert here.get_model_version(name, "1").description == third.reason
    assert here.get_model_version(name, "2").description == second.reason
    assert here.get_run(trained.runs["good"]).data.tags["promotion"] == "promoted"


def test_a_version_points_to_the_logged_model_and_loads_as_its_runs_best(
    trained: Trained,
) -> None:
    version = trained.promote(trained.runs["good"], "pointing").version  # by run id
    assert version is not None
    here = client(trained.uri)
    found = here.get_model_version("pointing", "1")
    assert found.run_id == trained.runs["good"]
    (model,) = here.search_logged_models(
        [here.get_run(found.run_id).info.experiment_id],
        filter_string=f"source_run_id = '{found.run_id}'",
    )
    assert found.source == model.artifact_location
    best = load_model(trained.run_dir("good")).checkpoint
    for reference in ("models:/pointing@champion", "models:/pointing/1"):
        loaded = load_model(reference, trained.uri)
        assert loaded.checkpoint.weights_sha256 == best.weights_sha256 == version.weights_sha256
        assert loaded.checkpoint.mlflow_run_id == trained.runs["good"]
    theirs = guesses_by_mlflow("models:/pointing@champion", trained.uri)
    drawing = DrawingBatch.from_strokes([[(x, y) for x, y in EXAMPLE]])
    images = torch.from_numpy(render(drawing, loaded.config.image))
    ours = loaded.logits(images).softmax(1)[0]
    words = [loaded.checkpoint.label_map.words[i] for i in ours.argsort(descending=True)[:3]]
    assert [guess["word"] for guess in theirs] == words
    assert [guess["probability"] for guess in theirs] == pytest.approx(
        ours.sort(descending=True).values[:3].tolist(), abs=1e-4
    )
    here.set_model_version_tag("pointing", "1", registry.WEIGHTS_TAG, "0" * 64)
    with pytest.raises(CheckpointError, match="was registered with weights 000000000000, but"):
        load_model("models:/pointing@champion", trained.uri)


def test_a_model_at_chance_is_no_champion_though_nobody_is() -> None:
    at_chance, just_above = Estimate(0.46, 0.4583, 0.47, 80), Estimate(0.47, 0.4584, 0.48, 80)
    decision, reason = decide_alone("a", at_chance, 0.4583, "champion")
    assert decision == Decision.KEPT
    assert reason == (
        "still nobody is champion: a is not better than chance, MAP@3 0.4600 (0.4583 to 0.4700) "
        "on 80 held-out drawings, where always guessing the same words gets 0.4583"
    )
    assert decide_alone("a", just_above, 0.4583, "champion")[0] == Decision.FIRST


def test_a_dry_run_decides_and_writes_nothing(trained: Trained) -> None:
    result = trained.promote("good", "dry", dry_run=True)
    assert (result.decision, result.promoted, result.version) == (Decision.FIRST, True, None)
    assert "dry" not in [model.name for model in client(trained.uri).search_registered_models()]


def test_the_margin_must_be_left_behind(trained: Trained) -> None:
    trained.promote("poor", "margin")
    result = trained.promote("good", "margin", margin=0.9)
    assert result.decision == Decision.KEPT
    assert result.reason.endswith("but not beyond the margin of 0.9")
    assert trained.promote("good", "margin", margin=0.05).reason.endswith(
        "beyond the margin of 0.05"
    )


def test_a_champion_that_comes_meanwhile_is_judged_against_in_turn(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, described = "meanwhile", registry.describe
    others = iter(["good"])

    def describe(uri: str, version: registry.Version, *rest: object) -> None:
        described(uri, version, *rest)  # type: ignore[arg-type]
        if (other := next(others, None)) is not None:
            assert trained.promote(other, name).promoted

    monkeypatch.setattr("quickdraw_core.promotion.challenger.describe", describe)
    result = trained.promote("poor", name)  # had nobody to beat when it began
    assert result.decision == Decision.KEPT
    assert result.champion is not None
    assert result.champion.run_id == trained.runs["good"]
    assert trained.holder(name) == result.champion.number
    tags = client(trained.uri).get_run(trained.runs["poor"]).data.tags
    assert tags["promotion"] == "kept"


def test_an_alias_that_moved_is_left_where_it_is(trained: Trained) -> None:
    name = "moved"
    poor = trained.promote("poor", name).version
    good = trained.promote("good", name).version
    assert poor is not None
    assert good is not None
    assert not registry.move_alias(trained.uri, name, "champion", poor, None)
    assert not registry.move_alias(trained.uri, name, "champion", poor, poor)
    assert trained.holder(name) == good.number
    assert registry.move_alias(trained.uri, name, "champion", poor, good)
    assert trained.holder(name) == poor.number
    client(trained.uri).delete_registered_model_alias(name, "champion")
    assert not registry.move_alias(trained.uri, name, "champion", good, poor)
    assert trained.holder(name) is None


def test_an_alias_that_does_not_hold_still_is_an_error(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "move_alias", lambda *_: False)
    with pytest.raises(TrackingError, match="was moved by others 3 times"):
        trained.promote("good", "restless")
    assert client(trained.uri).get_run(trained.runs["good"]).data.tags["promotion"] == "kept"


def test_a_champion_of_another_store_or_other_words_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    version = trained.promote("poor", "elsewhere").version
    assert version is not None
    here = client(trained.uri)
    here.set_model_version_tag("elsewhere", "1", registry.STORE_TAG, "1" * 64)
    with pytest.raises(CheckpointError, match="was trained on store 111111111111, but"):
        trained.promote("good", "elsewhere")
    allowed = trained.promote("good", "elsewhere", other_store=True)
    assert allowed.decision == Decision.PROMOTED
    here.set_model_version_tag("elsewhere", "2", registry.LABELS_TAG, "2" * 64)
    with pytest.raises(CheckpointError, match="knows other words"):
        trained.promote("poor", "elsewhere", other_store=True)


def test_only_what_its_run_has_as_its_best_is_registered(trained: Trained, tmp_path: Path) -> None:
    best = find_checkpoint(Path(trained.run_dir("good")), "best")
    assert best is not None
    alone = shutil.copy(best, tmp_path / "alone.pt")
    assert trained.promote(str(alone), "alone").promoted
    shutil.copytree(trained.run_dir("good"), tmp_path / "run")
    poor = find_checkpoint(Path(trained.run_dir("poor")), "best")
    assert poor is not None
    shutil.copy(poor, tmp_path / "run" / "checkpoints" / best.name)
    with pytest.raises(CheckpointError, match=r"which is what a registered model is"):
        trained.promote(str(tmp_path / "run"), "alone")


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ("models:/nothing@champion", CheckpointError, "no model nothing; (known|did you mean)"),
        ("models:/there@nobody", CheckpointError, r"versions 1 to 1 and the aliases @champion"),
        ("models:/there/7", CheckpointError, r"versions 1 to 1 and the aliases @champion \(1\)"),
        ("models:/there", ConfigError, "give models:/NAME@ALIAS or models:/NAME/3"),
        ("models:/there/latest", ConfigError, "give models:/NAME@ALIAS"),
        ("models:/foreign/1", CheckpointError, "was not registered by quickdraw promote"),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(
    trained: Trained, reference: str, error: type[Exception], says: str
) -> None:
    if trained.holder("there") is None:
        trained.promote("good", "there")
        here = client(trained.uri)
        here.create_registered_model("foreign")
        here.create_model_version("foreign", "somewhere", run_id=trained.runs["good"])
    with pytest.raises(error, match=says):
        load_model(reference, trained.uri)


def test_an_empty_registry_no_tracking_and_a_server_away_are_told(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackingError, match="tracking is off"):
        load_model("models:/quickdraw@champion", "none")
    with pytest.raises(TrackingError, match="tracking is off"):
        trained.promote("good", "off", tracking_uri="none")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="nothing listens there; start it"):
        load_model("models:/quickdraw@champion", away)
    with pytest.raises(UnreachableError, match="nothing listens there; start it"):
        load_model("0" * 32, away)
    with pytest.raises(CheckpointError, match="no run 0000"):
        load_model("0" * 32, trained.uri)
    (tmp_path / "torn.db").write_text("no database " * 100)
    with pytest.raises(TrackingError, match="is no SQLite database"):
        load_model("models:/quickdraw@champion", f"sqlite:///{tmp_path}/torn.db")
    with pytest.raises(ConfigError, match="are to be averaged"):
        load_model("models:/quickdraw@champion", trained.uri, average=2)


@pytest.mark.parametrize(
    "changes",
    [{"alias": "latest"}, {"alias": "v3"}, {"alias": "a b"}, {"name": "a/b"}, {"name": ""}],
)
def test_names_that_mlflow_would_refuse_are_refused_before_work(changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"an alias is letters|the name of a registered model"):
        PromoteConfig.parse(changes)


def test_models_are_compared_by_folder_run_and_version(trained: Trained, tmp_path: Path) -> None:
    trained.promote("good", "compared")
    config = CompareConfig.parse(
        {
            "models": [trained.run_dir("poor"), trained.runs["good"], "models:/compared@champion"],
            "store": trained.store,
            "per_class": PER_CLASS,
            "tracking_uri": trained.uri,
            "json_file": tmp_path / "all.json",
            "out_dir": tmp_path / "out",
            "why": True,
        }
    )
    result = prepare_comparison(config, Opened()).run()
    names = ("poor", f"run {trained.runs['good']}", "models:/compared@champion")
    assert result.names == names
    assert [found.first for found in result.comparisons] == ["poor", "poor"]
    one, other = (found.differences["map_at_3"] for found in result.comparisons)
    assert one.significant
    assert one.gain > 0.1
    assert one == other
    value = json.loads((tmp_path / "all.json").read_text())
    assert [found["second"] for found in value["comparisons"]] == list(names[1:])
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert f"**run {trained.runs['good']} is better than poor by" in page
    for picture in ("differences-1.png", "classes-1.png", "differences-2.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
        assert f"]({picture})" in page
    # By its folder, its run or its version, the same differs.
    assert [answer.sentence for answer in result.why] == [
        "nothing differs but epochs (0.4 and 1)"
    ] * 2
    assert [answer.not_recorded for answer in result.why] == [{}] * 2
    rows = [row for row in value["why"][1]["differences"] if row["group"] == "options"]
    epochs, steps = rows
    assert epochs == {"group": "options", "name": "epochs", "first": 0.4, "second": 1.0}
    assert steps["name"] == "planned steps"
    assert 0 < steps["first"] < steps["second"]
    assert page.count("### Why they differ") == 2
    html = (tmp_path / "out" / "comparison.html").read_text()
    assert html.count("Nothing differs but epochs (0.4 and 1)") == 2
    assert page.count("| options | epochs | 0.4 | 1 |") == 2
    assert result.tracking_problem is None
    run = client(trained.uri).get_run(trained.runs["good"])
    assert "nothing differs but epochs" in run.data.tags["compared_with.poor"]
    assert float(run.data.tags["cost.seconds"]) > 0
    files = client(trained.uri).list_artifacts(trained.runs["good"], "comparison-poor")
    assert {"comparison-poor/comparison.md", "comparison-poor/comparison.html"} <= {
        file.path for file in files
    }


def test_models_of_another_store_or_other_words_are_not_compared(
    trained: Trained, csv_folder: Path, tmp_path: Path
) -> None:
    models = (trained.run_dir("poor"), trained.run_dir("good"))
    other = tmp_path / "other"
    ingest(IngestConfig(source=csv_folder, store=other, test_per_class=30, workers=1))
    with pytest.raises(CheckpointError, match="--other-store"):
        prepare_comparison(CompareConfig(models=models, store=other, per_class=5), Opened()).run()
    (tmp_path / "csv").mkdir()
    generate_csvs(tmp_path / "csv", ("star", "sun"), 60, seed=1)
    fewer = tmp_path / "fewer"
    ingest(IngestConfig(source=tmp_path / "csv", store=fewer, test_per_class=5, workers=1))
    with pytest.raises(CheckpointError, match="4 classes"):
        prepare_comparison(
            CompareConfig(models=models, store=fewer, per_class=5, other_store=True), Opened()
        ).run()
    with pytest.raises(ConfigError, match="at least 2 items"):
        CompareConfig.parse({"models": models[:1]})


def test_what_an_evaluation_left_is_used_again_if_it_is_the_same_and_whole(
    trained: Trained,
) -> None:
    config = {"store": trained.store, "per_class": PER_CLASS, "tracking_uri": trained.uri}
    here, run_dir = HeldOutConfig.parse(config), trained.run_dir("good")
    by_folder, by_run = load_model(run_dir), load_model(trained.runs["good"], trained.uri)
    drawings, fewer = (
        find_held_out(config, Store.open(trained.store), Opened())
        for config in (here, here.updated({"per_class": 10}))
    )
    assert find_cached(here, by_folder, drawings) is None
    assert find_cached(here, by_run, drawings) is None
    evaluate_unreported(EvaluateConfig.parse(config | {"model": run_dir}))
    for model in (by_folder, by_run):
        left = find_cached(here, model, drawings)
        assert left is not None
        assert len(left.predictions) == 80
        assert find_cached(here.updated({"per_class": 10}), model, fewer) is None
    assert find_cached(here, load_model(run_dir, tta="flip"), drawings) is None
    assert find_cached(here, load_model(trained.run_dir("poor")), drawings) is None
    models = (run_dir, trained.run_dir("poor"))
    result = prepare_comparison(CompareConfig.parse(config | {"models": models}), Opened()).run()
    assert result.reused == 1
    file = Path(run_dir) / "evaluation" / "predictions.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert find_cached(here, by_folder, drawings) is None
    again = prepare_comparison(CompareConfig.parse(config | {"models": models}), Opened()).run()
    assert again.reused == 0
    assert again.comparisons == result.comparisons


def test_a_champion_is_exported_and_served_with_the_numbers_of_its_evaluation(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))
    trained.promote("good", "exported")
    asked = {"store": trained.store, "per_class": 10, "tracking_uri": trained.uri}
    asked |= {"model": trained.run_dir("good"), "report_dir": tmp_path / "report"}
    evaluate_unreported(EvaluateConfig.parse(asked))
    reference = "models:/exported@champion"
    values = {"models": [reference], "out": tmp_path / "bundle", "tracking_uri": trained.uri}
    exported = perform(EXPORT_STAGE, ExportConfig.parse(values)).info
    served = find_bundle(reference, trained.uri)
    for info in (exported, served.info):
        assert info.name == "exported@1"
        assert info.held_out is not None
        assert info.held_out.drawings == 40
        assert info.metrics == exported.metrics
        assert info.per_class == exported.per_class
        assert info.confusions == exported.confusions
    drawings = DrawingBatch.from_strokes([EXAMPLE])
    want, got = (
        BundleRecognizer(bundle).log_probabilities(drawings)
        for bundle in (open_bundle(tmp_path / "bundle"), served)
    )
    np.testing.assert_allclose(np.exp(got), np.exp(want), atol=1e-5)


def without_prefect(monkeypatch: pytest.MonkeyPatch, arguments: list[object]) -> tuple[int, str]:
    """Runs a command in this process, without a server: exit code and output."""
    monkeypatch.setattr("flows.configured.is_server_named", lambda: False)
    shown = CliRunner().invoke(app, [str(word) for word in arguments])
    return shown.exit_code, shown.output


SHELL = pytest.param("shell", marks=pytest.mark.services)  # Prefect's start takes 15 seconds


@pytest.mark.parametrize("way", ["here", SHELL])
def test_a_model_that_is_no_better_through_the_command_line(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    options = ["--store", trained.store, "--per-class", PER_CLASS, "--tracking-uri", trained.uri]
    trained.promote("good", way)
    arguments = ["promote", trained.run_dir("poor"), "--name", way, "--require", *options]
    if way == "shell":
        done = quickdraw(*arguments, cwd=tmp_path)
        code, told = done.returncode, done.stdout
    else:
        code, told = without_prefect(monkeypatch, arguments)
    assert code == 1, told
    assert "not promoted" in told
    assert f"models:/{way}/1 stays champion: poor is worse than models:/{way}/1" in told
    assert f"models:/{way}/2" in told


@pytest.mark.parametrize("way", ["here", pytest.param("shell", marks=pytest.mark.soak)])
def test_a_comparison_as_the_command_tells_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    options = ["--store", trained.store, "--per-class", PER_CLASS, "--tracking-uri", trained.uri]
    arguments = ["compare", trained.run_dir("poor"), trained.run_dir("good"), *options]
    arguments += ["--out", tmp_path / "out"]
    if way == "shell":
        done = quickdraw(*arguments, cwd=tmp_path)
        code, told = done.returncode, done.stdout
    else:
        # The figures are drawn once more by the comparison of three.
        for draw in ("draw_differences", "draw_class_changes"):
            monkeypatch.setattr(
                f"quickdraw_core.evaluation.compare.{draw}", lambda _, path: path.touch()
            )
        code, told = without_prefect(monkeypatch, arguments)
    assert code == 0, told
    assert "good is better than poor by 0." in told
    assert "80 test drawings, the same for all" in told
    assert (tmp_path / "out" / "comparison.md").is_file()


@pytest.mark.soak
def test_a_server_registers_promotes_and_gives_back_the_same(store: Store, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server = MlflowServer(tmp_path / "server")
    server.start()
    try:
        trained = teach(store, tmp_path, server.uri)
        assert trained.promote("poor", "served").promoted
        assert trained.promote(trained.runs["good"], "served").promoted
        found = client(server.uri).get_model_version_by_alias("served", "champion")
        assert found.source.startswith("mlflow-artifacts:/")
        loaded = load_model("models:/served@champion", server.uri)
        assert loaded.checkpoint.mlflow_run_id == trained.runs["good"]
        assert len(guesses_by_mlflow("models:/served@champion", server.uri)) == 3
    finally:
        server.kill()
    with pytest.raises(TrackingError, match=r"nothing listens there; start it|broke off"):
        load_model("models:/served@champion", server.uri)


def guesses_by_mlflow(reference: str, uri: str) -> list[dict[str, Any]]:
    """What MLflow answers a drawing with, having loaded the model itself."""
    import mlflow
    import pandas as pd

    with mlflow_at(uri):
        model = mlflow.pyfunc.load_model(reference)
    (guesses,) = model.predict(pd.DataFrame({"drawing": [EXAMPLE]}))["guesses"]
    found: list[dict[str, Any]] = guesses
    return found


def test_what_evaluations_left_is_compared_whatever_they_judged(
    trained: Trained, tmp_path: Path
) -> None:
    values = {"store": trained.store, "per_class": PER_CLASS, "tracking_uri": "none"}
    good, poor = str(trained.run_dir("good")), str(trained.run_dir("poor"))
    for name, more in (("both", {"ensemble": (poor,)}), ("flipped", {"tta": "flip"})):
        asked = {"model": good, "report_dir": tmp_path / name, **more}
        evaluate_unreported(EvaluateConfig.parse(values | asked))
    models = [poor, str(tmp_path / "both"), str(tmp_path / "flipped" / "predictions.parquet")]
    asked = values | {"models": models, "why": True}
    result = prepare_comparison(CompareConfig.parse(asked), Opened()).run()
    ensemble, unknown = (answer.sentence for answer in result.why)
    assert ensemble.startswith("good + poor is an ensemble of good and poor: only the predictions")
    assert unknown.startswith("the training of good (flip) is not recorded")
    assert result.names == ("poor", "good + poor", "good (flip)")
    assert all(found.differences["map_at_3"].significant for found in result.comparisons)
    fewer = CompareConfig.parse(values | {"models": models, "per_class": PER_CLASS - 1})
    with pytest.raises(InputError, match="which are not those asked for"):
        prepare_comparison(fewer, Opened()).run()


def test_what_was_judged_though_trained_elsewhere_is_not_compared_by_its_folder_either(
    trained: Trained, tmp_path: Path
) -> None:
    values = {"store": trained.store, "per_class": PER_CLASS, "tracking_uri": "none"}
    good, poor = str(trained.run_dir("good")), str(trained.run_dir("poor"))
    evaluate_unreported(
        EvaluateConfig.parse(values | {"model": good, "report_dir": tmp_path / "good"})
    )
    path = tmp_path / "good" / "predictions.parquet"
    for key, says in (
        ("trained_on", "may have been trained on"),
        ("store_fingerprint", "of store 1"),
    ):
        table = pq.read_table(path, partitioning=None)
        facts = table.schema.metadata | {key.encode(): b"1" * 64}
        (tmp_path / key).mkdir()
        other = tmp_path / key / "predictions.parquet"
        pq.write_table(table.replace_schema_metadata(facts), other, write_page_checksum=True)
        config = CompareConfig.parse(values | {"models": [poor, str(other.parent)]})
        with pytest.raises((CheckpointError, InputError), match=says):
            prepare_comparison(config, Opened()).run()
    allowed = {"models": [poor, str(tmp_path / "trained_on")], "other_store": True}
    assert prepare_comparison(CompareConfig.parse(values | allowed), Opened()).run().reused >= 1


def test_a_place_that_cannot_be_written_to_is_refused_before_work(
    trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    values = {"store": trained.store, "models": ["no", "model"], "out_dir": tmp_path / "file"}
    with pytest.raises(ConfigError, match="cannot make the folder"):
        prepare_comparison(CompareConfig.parse(values), Opened()).run()


def test_a_champion_that_comes_meanwhile_and_cannot_be_judged_leaves_no_false_word(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, moved = "foreigner", registry.move_alias

    def other_first(uri: str, *rest: Any) -> bool:
        if trained.holder(name) is None:
            monkeypatch.setattr(gate, "move_alias", moved)
            assert trained.promote("good", name).version is not None
            number = str(trained.holder(name))
            client(uri).set_model_version_tag(name, number, registry.STORE_TAG, "1" * 64)
        return moved(uri, *rest)

    monkeypatch.setattr(gate, "move_alias", other_first)
    with pytest.raises(CheckpointError, match="was trained on store 111111111111"):
        trained.promote("poor", name)
    tags = client(trained.uri).get_run(trained.runs["poor"]).data.tags
    assert tags["promotion"] == "kept"
    assert "was moved by others while" in tags["promotion.reason"]


def test_challenger_and_champion_are_opened_once(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained.promote("poor", "once").promoted
    counts, config = count_openings(monkeypatch), trained.config(name="once", per_class=19)
    challenger = config.updated({"model": trained.run_dir("good")})
    assert perform(PROMOTE_STAGE, challenger, Opened()).promoted
    # The challenger's here, the one that its run has in MLflow, and the champion's.
    assert counts["checkpoint"] == 3
    assert [counts[kind] for kind in ("manifest", "pack", "network")] == [1, 1, 2]
    counts.clear()
    same = perform(PROMOTE_STAGE, challenger, Opened())
    assert same.decision == Decision.SAME
    assert [counts[kind] for kind in ("checkpoint", "manifest", "network")] == [2, 1, 0]
