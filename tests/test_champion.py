"""The registry's champion as it is served, and a run's model as MLflow serves it: no torch, a new
champion without a restart, the former one if the new one fails.
"""

import base64
import io
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from bundles import WORDS, made_bundle, member_of
from mlflow_server import MlflowServer, serving_model, wait_until_answering

from quickdraw_core.errors import BundleError, CheckpointError, ConfigError
from quickdraw_core.exporting import open_recognizer
from quickdraw_core.inference.options import Precision, Tta
from quickdraw_core.labels import LabelMap
from quickdraw_core.launching.rendezvous import free_port
from quickdraw_core.serving import champion
from quickdraw_core.serving.bundle import Bundle
from quickdraw_core.serving.champion import ChampionWatch, registered_bundle
from quickdraw_core.serving.evaluated import digest_of
from quickdraw_core.serving.mlflow_model import DrawingModel
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.serving.slot import NO_MODEL, ModelSlot
from quickdraw_core.tracking import registry
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.logged_model import EXAMPLE, log_model
from quickdraw_core.tracking.runs import client
from quickdraw_core.tracking.start_run import start_run

REFERENCE = "models:/doodles@champion"


@dataclass
class Registry:
    """An MLflow of the test's own, in which runs with bundles are promoted."""

    folder: Path
    uri: str
    runs: dict[int, str] = field(default_factory=dict)

    def promote(self, seed: int, log: bool = True) -> registry.Version:
        """Makes a run with the bundle of a network of this seed, and gives it the alias."""
        run_dir = self.folder / f"run-{seed}"
        run_dir.mkdir()
        run_id = start_run(run_dir, self.uri, "a run", {}, {}).run_id
        labels, key = LabelMap.of(WORDS).sha256, f"{seed:064x}"

        def write(folder: Path) -> None:
            made_bundle(folder, [member_of(seed=seed)])

        if log:
            log_model(run_dir, write, key=key, step=1, label_map_sha256=labels)
            assert deliver_rest(run_dir).problem is None
        version = registry.register(
            self.uri,
            "doodles",
            run_id,
            weights_sha256=key,
            store_fingerprint="f" * 64,
            label_map_sha256=labels,
            artifact="checkpoints/best.pt",
        )
        client(self.uri).set_registered_model_alias("doodles", "champion", str(version.number))
        return version

    def files(self, seed: int) -> Path:
        """The bundle among the files that MLflow has of a run."""
        [path] = [
            path.parent
            for path in (self.folder / "mlartifacts").rglob("bundle.json")
            if json.loads(path.read_text())["weights_sha256"] == f"{seed:064x}"
        ]
        return path


@pytest.fixture
def mlflow(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))
    return Registry(tmp_path, f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}")


def no_export(reference: str, uri: str) -> Bundle:
    raise ConfigError(f"{reference} has no bundle")


def watch_of(uri: str, slot: ModelSlot, said: list[str]) -> ChampionWatch:
    return ChampionWatch(REFERENCE, uri, slot, no_export, said.append, 1, 0.0)


def test_a_new_champion_takes_the_place_of_the_former_one(mlflow: Registry) -> None:
    slot, said = ModelSlot(), list[str]()
    watch = watch_of(mlflow.uri, slot, said)
    assert not watch.check()
    assert slot.current is None
    assert slot.missing.startswith("there is no model to guess with yet: no model")
    mlflow.promote(1)
    assert watch.check()
    assert slot.current is not None
    assert (slot.current.name, slot.problem) == ("doodles@1", None)
    assert not watch.check()  # the same one is not loaded again
    mlflow.promote(2)
    assert watch.check()
    assert (slot.current.name, slot.current.version) == ("doodles@2", "0" * 12)
    assert said[-1].startswith("serving models:/doodles/2")


def test_a_champion_that_does_not_load_leaves_the_former_one_in_its_place(
    mlflow: Registry,
) -> None:
    slot, said = ModelSlot(), list[str]()
    watch = watch_of(mlflow.uri, slot, said)
    mlflow.promote(1)
    assert watch.check()
    mlflow.promote(2)
    graph = mlflow.files(2) / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:1000])
    for _ in range(2):
        assert not watch.check()
        assert slot.current is not None
        assert slot.current.name == "doodles@1"
        assert slot.problem is not None
        assert slot.problem == "doodles@1 stays: a newer model cannot be loaded"
    assert sum("model.onnx has 1,000 bytes" in line for line in said) == 1
    graph.write_bytes(whole)
    assert watch.check()
    assert (slot.current.name, slot.problem) == ("doodles@2", None)


def test_without_its_registry_a_server_goes_on_with_what_it_has(mlflow: Registry) -> None:
    slot, said = ModelSlot(), list[str]()
    watch = watch_of(mlflow.uri, slot, said)
    mlflow.promote(1)
    assert watch.check()
    database = mlflow.folder / "mlflow.db"
    database.rename(mlflow.folder / "away.db")
    assert not watch.check()
    assert slot.current is not None
    assert slot.problem == "doodles@1 stays: the registry cannot be reached"
    (mlflow.folder / "away.db").rename(database)
    assert not watch.check()
    assert slot.problem is None


def evaluation(seed: int) -> dict[str, Any]:
    """What an evaluation of the model of `promote` leaves, in short."""
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 8}
    classes = {word: {"map_at_3": score, "mistaken_for": None} for word in WORDS}
    return {
        **{"map_at_3": score, "recognized": {}, "unrecognized": {}, "classes": classes},
        "confusions": {"sun": ["star", "envelope"]},
        "evaluated": {
            **{"model_digest": digest_of([(f"{seed:064x}", False, Tta.NONE, Precision.FP32)])},
            **{"store_fingerprint": "e" * 64, "per_class": "2"},
        },
    }


def test_numbers_of_the_same_model_are_served_once_they_are_in_its_run(mlflow: Registry) -> None:
    slot, said = ModelSlot(), list[str]()
    watch = watch_of(mlflow.uri, slot, said)
    run_id = mlflow.promote(1).run_id
    assert watch.check()
    for wrong in (evaluation(2), {}, [], evaluation(1) | {"classes": {"sun": {}}}):
        client(mlflow.uri).log_text(run_id, json.dumps(wrong), "evaluation/evaluation.json")
        assert not watch.check()
        assert slot.current is not None
        assert slot.current.info is not None
        assert slot.current.info.metrics is None
    text = json.dumps(evaluation(1))
    client(mlflow.uri).log_text(run_id, text, "evaluation/evaluation.json")
    assert not watch.check()
    info = slot.current.info
    assert info is not None
    assert info.metrics is not None
    assert info.metrics["map_at_3"].value == 0.5
    assert info.confusions == {"sun": ["star", "envelope"]}
    assert said == [said[0]]  # it is the same model
    assert registered_bundle(REFERENCE, mlflow.uri, no_export).info == info


def test_the_thread_looks_again_and_again(mlflow: Registry) -> None:
    slot, said = ModelSlot(), list[str]()
    watch = ChampionWatch(REFERENCE, mlflow.uri, slot, no_export, said.append, 1, 0.05)
    watch.start()
    try:
        mlflow.promote(1)
        while not any(line.startswith("serving") for line in said):
            assert watch.is_alive
            time.sleep(0.05)
    finally:
        watch.stop()
    assert not watch.is_alive


VERSION = registry.Version("doodles", 1, "r", "1" * 64, "f" * 64, "e" * 64)


def test_a_version_that_does_not_load_is_tried_less_and_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, clock, found = list[int](), [0.0], [VERSION]

    def load(version: registry.Version, uri: str, export: object) -> Bundle:
        tried.append(version.number)
        raise BundleError("/secret/path is damaged")

    monkeypatch.setattr(champion, "find_version", lambda uri, reference: found[0])
    monkeypatch.setattr(champion, "bundle_of_version", load)
    monkeypatch.setattr(champion, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    slot, said = ModelSlot(), list[str]()
    watch = ChampionWatch(REFERENCE, "none", slot, no_export, said.append)
    for second in range(0, 3600, 20):
        clock[0] = float(second)
        assert not watch.check()
        assert slot.missing == "there is no model to guess with yet: the champion cannot be loaded"
    assert len(tried) == 10  # after 20, 40, 80, … seconds, then every 10 minutes
    assert said == [f"{slot.missing}: /secret/path is damaged"]
    found[0] = replace(VERSION, number=2)
    assert not watch.check()
    assert tried[-1] == 2


def test_the_watch_goes_on_without_an_output(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def find(uri: str, reference: str) -> registry.Version:
        asked.append(reference)
        raise CheckpointError(f"nothing: {len(asked)}")

    def say(line: str) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(champion, "find_version", find)
    watch = ChampionWatch(REFERENCE, "none", ModelSlot(), no_export, say, 1, 0.01)
    watch.start()
    while len(asked) < 3:
        assert watch.is_alive
        time.sleep(0.01)
    watch.stop()


def test_a_digest_that_is_a_path_is_refused(tmp_path: Path) -> None:
    version = replace(VERSION, weights_sha256="aa/../../victim")
    with pytest.raises(CheckpointError, match="is no SHA-256"):
        champion.bundle_of_version(version, "none", no_export)


def test_a_bundle_is_downloaded_once_and_must_be_that_of_the_version(mlflow: Registry) -> None:
    mlflow.promote(1)
    first = registered_bundle(REFERENCE, mlflow.uri, no_export)
    shutil.rmtree(mlflow.folder / "mlartifacts")
    assert registered_bundle("models:/doodles/1", mlflow.uri, no_export).path == first.path
    shutil.rmtree(first.path)
    shutil.copytree(made_bundle(mlflow.folder / "other", [member_of(seed=7)]).path, first.path)
    with pytest.raises(BundleError, match="was registered with weights 000000000000, but"):
        registered_bundle(REFERENCE, mlflow.uri, no_export)
    assert not first.path.exists()


def test_a_version_without_a_bundle_is_exported_or_refused_with_what_to_do(
    mlflow: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.promote(1, log=False)
    made = made_bundle(mlflow.folder / "made", [member_of(seed=1)])
    bundle = registered_bundle(REFERENCE, mlflow.uri, lambda reference, uri: made)
    assert bundle.info.name == "doodles@1"
    monkeypatch.setattr(open_recognizer, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"the run of models:/doodles/1 has no bundle, as an"):
        open_recognizer.find_bundle(REFERENCE, mlflow.uri)


@pytest.mark.parametrize("reference", ["models:/doodles", "models:/doodles@", "models:/a/b/c"])
def test_a_reference_of_another_form_is_refused(reference: str) -> None:
    with pytest.raises(ConfigError, match="names no registered model; give models:/NAME@ALIAS"):
        registry.is_by_alias(reference)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DrawingModel:
    folder = tmp_path_factory.mktemp("model")
    return DrawingModel(BundleRecognizer(made_bundle(folder / "bundle")))


def picture() -> str:
    """The example as a picture's file in base64."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (300, 300), 255)
    for xs, ys in EXAMPLE:
        ImageDraw.Draw(image).line([*zip(xs, ys, strict=True)], fill=0, width=4)
    file = io.BytesIO()
    image.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def test_drawings_their_json_and_pictures_are_answered_with_words(model: DrawingModel) -> None:
    rows = pd.DataFrame(
        {
            "drawing": [EXAMPLE, json.dumps(EXAMPLE), None, float("nan")],
            "picture": [None, float("nan"), picture(), f"data:image/png;base64,{picture()}"],
        },
        index=[7, 8, 9, 10],
    )
    answer = model.predict(rows, {"guesses": 2})
    assert list(answer.index) == [7, 8, 9, 10]
    drawn, as_text, seen, as_url = answer["guesses"]
    assert drawn == as_text
    assert seen == as_url
    for guesses in (drawn, seen):
        assert [guess["word"] in WORDS for guess in guesses] == [True, True]
        assert guesses[0]["probability"] >= guesses[1]["probability"] > 0


def test_no_rows_are_answered_with_none(model: DrawingModel) -> None:
    assert list(model.predict(pd.DataFrame({"drawing": []}))["guesses"]) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"drawing": [[[1], [2, 3]]]}, "row 1: the lists of stroke 1 differ in length"),
        ({"drawing": "no JSON"}, "row 1: the body is not JSON"),
        ({"drawing": []}, "row 1: drawing is no list of strokes"),
        ({"picture": "no base64!"}, "row 1: the picture is not base64"),
        ({"picture": "AAAA"}, "row 1: "),
        ({"drawing": None}, "row 1: it has neither drawing nor picture; give one"),
        ({"drawing": EXAMPLE, "picture": "AAAA"}, "row 1: it has drawing and picture; give one"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    model: DrawingModel, row: dict[str, Any], said: str
) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        model.predict(pd.DataFrame([row]))
    assert said in str(caught.value)
    assert caught.value.get_http_status_code() == 400


@pytest.fixture
def served(mlflow: Registry) -> Iterator[Registry]:
    """The same behind a real server, which gives files on request."""
    server = MlflowServer(mlflow.folder)
    server.start()
    yield Registry(mlflow.folder, server.uri)
    server.kill()


@pytest.mark.services
def test_a_champion_comes_from_a_server(served: Registry) -> None:
    slot, said = ModelSlot(), list[str]()
    watch = watch_of(served.uri, slot, said)
    served.promote(1)
    assert watch.check(), said
    assert slot.current is not None
    assert slot.current.name == "doodles@1"


@pytest.mark.services
def test_mlflow_serves_a_champion_and_answers_a_drawing_with_words(served: Registry) -> None:
    served.promote(1)
    with serving_model(REFERENCE, served.uri, served.folder) as address:

        def ask(rows: list[dict[str, Any]], **more: object) -> Any:
            body = json.dumps({"dataframe_records": rows, **more}).encode()
            request = urllib.request.Request(
                f"{address}/invocations", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["predictions"]

        drawn, seen = ask([{"drawing": EXAMPLE}, {"picture": picture()}])
        assert [len(row["guesses"]) for row in (drawn, seen)] == [3, 3]
        assert {guess["word"] for guess in drawn["guesses"]} < set(WORDS)
        (one,) = ask([{"drawing": EXAMPLE}], params={"guesses": 1})
        assert one["guesses"] == drawn["guesses"][:1]
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask([{"drawing": [[[1], [2, 3]]]}])
        assert refused.value.code == 400
        assert "the lists of stroke 1 differ in length" in refused.value.read().decode()


@pytest.mark.services
def test_the_command_serves_a_champion_that_comes_later(mlflow: Registry) -> None:
    port = free_port()
    address, log = f"http://127.0.0.1:{port}", mlflow.folder / "serve.txt"

    def ready() -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    command = [sys.executable, "-m", "quickdraw_core.cli", "serve", REFERENCE]
    command += ["--port", str(port), "--tracking-uri", mlflow.uri]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait_until_answering(f"{address}/healthz", process, log)
        while "no model models:/doodles@champion" not in (said := ready()[1]["error"]):
            assert said == NO_MODEL  # the registry has not answered yet
            time.sleep(0.1)
        mlflow.promote(1)
        while ready()[0] != 200:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "serving models:/doodles/1" in log.read_text()
