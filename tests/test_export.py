"""`quickdraw export`: a bundle says what the evaluation of its model found, and no other."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import session
import yaml

from quickdraw_core.errors import BundleError, CheckpointError, ConfigError, StoreError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.exporting.config import ExportConfig
from quickdraw_core.exporting.export import EXPORT_STAGE, ExportResult
from quickdraw_core.exporting.open_recognizer import open_recognizer
from quickdraw_core.exporting.summary import export_facts
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.serving.bundle import open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.stage import perform
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store


def export(model: Path | list[str], out: Path, **options: object) -> ExportResult:
    models = model if isinstance(model, list) else [str(model)]
    values = {"models": models, "out": out, "tracking_uri": "none"}
    return perform(EXPORT_STAGE, ExportConfig.parse(values | options))


@pytest.fixture(scope="module")
def evaluated(trained: Path, store: Store) -> Path:
    """A run folder with an evaluation. Not to be changed."""

    def make(folder: Path) -> str:
        run = Path(shutil.copytree(trained, folder / "run"))
        values = {"model": str(run), "store": store.path, "per_class": 20, "tracking_uri": "none"}
        evaluate(EvaluateConfig.parse(values))
        return str(run)

    return Path(session.once("evaluated", make))


@pytest.fixture(scope="module")
def exported(evaluated: Path) -> Path:
    """The bundle of `evaluated`. Not to be changed."""

    def make(folder: Path) -> str:
        return str(export(evaluated, folder / "bundle").folder)

    return Path(session.once("exported", make))


def test_a_bundle_guesses_as_its_model(exported: Path, evaluated: Path, pack: Pack) -> None:
    drawings = pack.drawings.take(pack.test_rows(20))
    got = BundleRecognizer(open_bundle(exported)).log_probabilities(drawings)
    want = load_models([str(evaluated)]).predict(drawings).numpy()
    np.testing.assert_allclose(np.exp(got), np.exp(want), atol=1e-5)


def test_a_bundle_has_the_numbers_of_the_evaluation(exported: Path, evaluated: Path) -> None:
    info = open_bundle(exported).info
    numbers = json.loads((evaluated / "evaluation" / "evaluation.json").read_text())
    assert info.metrics is not None
    assert info.held_out is not None
    for name in ("map_at_3", "top_1", "top_3", "log_loss", "expected_calibration_error"):
        want = {key: numbers[name][key] for key in ("value", "low", "high")}
        assert info.metrics[name].model_dump() == want
    assert info.per_class == {w: c["map_at_3"]["value"] for w, c in numbers["classes"].items()}
    assert info.held_out.drawings == numbers["map_at_3"]["n"]
    assert info.held_out.store_fingerprint == info.store_fingerprint
    for word, others in info.confusions.items():
        assert others[0] == numbers["classes"][word]["mistaken_for"]
        assert word not in others


def test_the_model_card_is_yaml_with_the_numbers_of_the_bundle(exported: Path) -> None:
    info, text = open_bundle(exported).info, (exported / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "mit"
    assert "quickdraw" in card["tags"]
    (result,) = card["model-index"][0]["results"]
    assert info.metrics is not None
    assert info.per_class is not None
    for metric in result["metrics"]:
        assert metric["value"] == info.metrics[metric["type"]].value
        assert metric["args"] == info.metrics[metric["type"]].model_dump(exclude={"value"})
        assert f"{metric['value']:.4f}" in body
    for said in ("Attribution 4.0", "Google", "unrecognized", "## Limits"):
        assert said in body
    worst = min(info.per_class, key=lambda word: (info.per_class[word], word))  # type: ignore[index]
    assert re.search(rf"^\| weakest words .*\n\| --- .*\n\| {worst} \|", body, re.M)


def test_a_model_that_was_not_evaluated_says_so(trained: Path, tmp_path: Path) -> None:
    result = export(trained, tmp_path / "bundle")
    assert result.info.metrics is None
    assert "quickdraw evaluate" in export_facts(result)["held-out"]
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert "Not evaluated." in text
    assert "model-index" not in yaml.safe_load(text.split("---\n")[1])


def test_an_evaluation_of_another_use_is_not_taken(evaluated: Path, tmp_path: Path) -> None:
    plain = evaluated / "evaluation"
    with pytest.raises(ConfigError, match="is no evaluation of"):
        export(evaluated, tmp_path / "bundle", tta="flip", evaluation=plain)
    result = export(evaluated, tmp_path / "bundle", tta="flip")
    assert (result.info.flip_tta, result.info.metrics) == (True, None)


def test_the_same_export_again_does_nothing_until_something_changes(
    evaluated: Path, tmp_path: Path
) -> None:
    first = export(evaluated, tmp_path / "bundle")
    again = export(evaluated, tmp_path / "bundle")
    assert (first.skipped, again.skipped, again.info) == (False, True, first.info)
    (tmp_path / "bundle" / "README.md").write_text("mine")
    with pytest.raises(BundleError, match=r"README\.md"):
        open_bundle(tmp_path / "bundle")
    assert not export(evaluated, tmp_path / "bundle").skipped
    assert open_bundle(tmp_path / "bundle").info.key == first.info.key


def test_an_ensemble_and_an_average_are_exported(
    evaluated: Path, trained: Path, tmp_path: Path, pack: Pack
) -> None:
    drawings = pack.drawings.take(pack.test_rows(5))
    both = [str(evaluated), str(trained)]
    export(both, tmp_path / "bundle", average=2)
    got = BundleRecognizer(open_bundle(tmp_path / "bundle")).log_probabilities(drawings)
    want = load_models(both, average=2).predict(drawings).numpy()
    np.testing.assert_allclose(np.exp(got), np.exp(want), atol=1e-5)


def test_any_reference_opens_as_what_guesses(
    exported: Path, evaluated: Path, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path))
    drawings = pack.drawings.take(pack.test_rows(5))
    want = open_recognizer(str(exported)).log_probabilities(drawings)
    assert not [*tmp_path.iterdir()]
    opened = open_recognizer(str(evaluated), "none")
    np.testing.assert_array_equal(opened.log_probabilities(drawings), want)
    (cached,) = (tmp_path / "bundles").iterdir()
    (cached / "model.onnx").write_bytes(b"")  # damaged: made anew
    np.testing.assert_array_equal(
        open_recognizer(str(evaluated), "none").log_probabilities(drawings), want
    )
    with pytest.raises(CheckpointError, match="no model"):
        open_recognizer("nothing", "none")


def test_without_torch_a_bundle_opens_and_a_checkpoint_says_what_to_do(
    exported: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickdraw_core.exporting.open_recognizer.find_spec", lambda name: None)
    assert open_recognizer(str(exported)).version == open_bundle(exported).version
    with pytest.raises(ConfigError, match=r"needs torch.*quickdraw export.*train"):
        open_recognizer(str(evaluated))


def quantize(trained: Path, store: Store, out: Path) -> ExportResult:
    return export(trained, out, quantize="int8", store=store.path, per_class=20)


def test_a_quantized_bundle_has_the_numbers_that_it_reaches_itself(
    trained: Path, store: Store, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickdraw_core.exporting.quantization.MAX_LOSS", 1)
    info = quantize(trained, store, tmp_path / "bundle").info
    rows = pack.test_rows(20)
    recognizer = BundleRecognizer(open_bundle(tmp_path / "bundle"))
    found = recognizer.log_probabilities(pack.drawings.take(rows))
    assert info.quantized == "int8"
    assert info.metrics is not None
    right = np.argmax(found, axis=1) == pack.labels[rows]
    assert info.metrics["top_1"].value == pytest.approx(right.mean())
    assert f"{info.float32_map_at_3:.4f}" in (tmp_path / "bundle" / "README.md").read_text()
    assert info.float32_map_at_3 == pytest.approx(info.metrics["map_at_3"].value, abs=0.05)
    assert quantize(trained, store, tmp_path / "bundle").skipped


def test_a_quantized_bundle_that_loses_too_much_is_refused_with_both_numbers(
    trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickdraw_core.exporting.quantization.MAX_LOSS", -1)
    with pytest.raises(BundleError, match=r"0\.\d{4} after 0\.\d{4} in float32, on 80 held-out"):
        quantize(trained, store, tmp_path / "bundle")
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_judged_is_not_quantized(
    trained: Path, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError):
        export(trained, tmp_path / "bundle", quantize="int8", store=tmp_path / "none")
    with pytest.raises(StoreError, match="--allow-short"):
        export(trained, tmp_path / "bundle", quantize="int8", store=store.path, per_class=999)
    with pytest.raises(ConfigError, match="int8"):
        export(trained, tmp_path / "bundle", quantize="int4")
