"""What the evaluation of a model found, as its bundle says it."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    TrackingError,
)
from quickdraw_core.evaluation.evaluate import default_report_folder
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.options import Precision
from quickdraw_core.inference.predictions import PREDICTIONS_NAME, Predictions, open_predictions
from quickdraw_core.metrics.metrics import confusion
from quickdraw_core.serving.bundle import HeldOutInfo, Metric
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_file

EVALUATION_NAME = "evaluation.json"
CONFUSIONS = 3
"""Words that a bundle names for each word that it is taken for."""


class Evaluated(NamedTuple):
    """The fields of `BundleInfo` of these names."""

    metrics: dict[str, Metric]
    per_class: dict[str, float]
    confusions: dict[str, list[str]]
    held_out: HeldOutInfo


def find_evaluation(
    models: Ensemble, folder: Path | None = None, tracking_uri: str | None = None
) -> Evaluated | None:
    """What an evaluation of just these models, used in just this way, found; None if there is
    none: in their default folder, or in the MLflow run of a model that was fetched.

    folder: of an evaluation that must be there. Raises `ConfigError` if it is none, or of
    something else.
    """
    with _evaluation_folder(models, folder, tracking_uri) as place:
        values = _numbers_of(place / EVALUATION_NAME)
        problem = _problem_of(values, models)
        if values is None or problem:
            if folder is None:
                return None
            raise ConfigError(
                f"{folder} is no evaluation of {models.name}: {problem}; quickdraw evaluate "
                "makes one"
            )
        try:
            found, _ = open_predictions(
                place / PREDICTIONS_NAME, models.label_map, models.members[0].opened
            )
        except (InputError, OSError):
            found = None
        judged = values["evaluated"]
        return evaluated_of(values, found, judged["store_fingerprint"], int(judged["per_class"]))


def evaluated_of(
    values: Mapping[str, Any], predictions: Predictions | None, store: str, per_class: int
) -> Evaluated:
    """A judgement's numbers, as `Judgement.to_json` has them.

    predictions: which were judged, for the confusions; None: those of the judgement's table, which
    has one for each word. store: fingerprint of the store with the drawings.
    """
    pairs = ((word, row["mistaken_for"]) for word, row in values["classes"].items())
    one_each = {word: [other] for word, other in pairs if other is not None}
    return Evaluated(
        metrics=_metrics(values),
        per_class={w: row["map_at_3"]["value"] for w, row in values["classes"].items()},
        confusions=one_each if predictions is None else confusions_of(predictions),
        held_out=HeldOutInfo(
            store_fingerprint=store,
            drawings=values["map_at_3"]["n"],
            per_class=per_class,
            recognized=_metrics(values["recognized"]),
            unrecognized=_metrics(values["unrecognized"]),
        ),
    )


@contextmanager
def _evaluation_folder(
    models: Ensemble, folder: Path | None, tracking_uri: str | None
) -> Iterator[Path]:
    """A folder with the files of an evaluation, which may lack them."""
    if folder is not None or len(models.members) > 1 or models.members[0].report_dir is not None:
        yield folder if folder is not None else default_report_folder(models)
        return
    model = models.members[0]
    uri, run_id = models.tracking_uri(tracking_uri), model.checkpoint.mlflow_run_id
    with tempfile.TemporaryDirectory() as temporary:
        if uri != NO_TRACKING and run_id:
            for name in (EVALUATION_NAME, PREDICTIONS_NAME):
                try:
                    fetch_file(uri, run_id, f"{model.report_name}/{name}", Path(temporary))
                except (CheckpointError, TrackingError):  # never evaluated, or MLflow is away
                    break
        yield Path(temporary)


def _numbers_of(path: Path) -> Mapping[str, Any] | None:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _problem_of(values: Mapping[str, Any] | None, models: Ensemble) -> str:
    """Why numbers are not those of the models as a bundle uses them, in float32; empty if they
    are.
    """
    if values is None:
        return f"it has no {EVALUATION_NAME} that can be read"
    judged = values.get("evaluated", {})
    if judged.get("model_digest") != models.digest:
        return f"it judged {judged.get('model')}, or other weights of it"
    if judged.get("precision") != Precision.FP32:
        return f"it was computed in {judged.get('precision')}, and a bundle computes in float32"
    return ""


def _metrics(scores: Mapping[str, Any]) -> dict[str, Metric]:
    return {
        name: Metric(value=each["value"], low=each["low"], high=each["high"])
        for name, each in scores.items()
        if isinstance(each, dict) and each.keys() >= {"value", "low", "high"}
    }


def confusions_of(predictions: Predictions) -> dict[str, list[str]]:
    """Word → up to three words that were guessed first in its place, most often first."""
    words, counts = predictions.label_map.words, confusion(predictions).copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=1, kind="stable")[:, :CONFUSIONS]
    named = {
        words[label]: [words[other] for other in row if counts[label, other]]
        for label, row in enumerate(order)
    }
    return {word: others for word, others in named.items() if others}
