"""Predictions of an earlier evaluation, used again if they are those that would be made now.

An evaluation leaves `predictions.parquet` in its report's folder and in its MLflow run. They are
the same if weights, TTA, precision, store, number of drawings and code are. Comparing models
that have them takes seconds.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quickdraw_core.errors import CheckpointError, InputError, UnreachableError
from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.ensemble import PREDICTING_CODE, Ensemble
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import UNKNOWN
from quickdraw_core.inference.partial import PARTIAL_NAME
from quickdraw_core.inference.predictions import (
    PREDICTIONS_NAME,
    Predictions,
    TimedPredictions,
    open_predictions,
)
from quickdraw_core.stage import Opened
from quickdraw_core.system.code_version import code_version
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_file


def cached_or_predicted(
    config: HeldOutConfig, model: TrainedModel, held_out: HeldOut
) -> tuple[Predictions, bool]:
    """Predictions of the held-out drawings in the order of the rows, and whether they were cached.

    Raises as `predict_held_out` does.
    """
    cached = find_cached(config, model, held_out)
    if cached is not None:
        return cached.predictions, True
    # Here, since cached predictions need none of what renders drawings.
    from quickdraw_core.inference.predict import predict_held_out

    (predicted,) = predict_held_out(config, Ensemble((model,)), [held_out])
    return predicted.predictions, False


def find_cached(
    config: HeldOutConfig, model: TrainedModel, held_out: HeldOut
) -> TimedPredictions | None:
    """The predictions of this model's evaluation; None if there are none or they are damaged."""
    models = Ensemble((model,))
    if model.report_dir is not None:
        return read_if_same(model.report_dir / PREDICTIONS_NAME, config, models, held_out)
    uri, run_id = models.tracking_uri(config.tracking_uri), model.checkpoint.mlflow_run_id
    if uri == NO_TRACKING or not run_id:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        try:
            artifact = f"{model.report_name}/{PREDICTIONS_NAME}"
            path = fetch_file(uri, run_id, artifact, Path(temporary))
        except (CheckpointError, UnreachableError):  # never evaluated, or MLflow is away
            return None
        return read_if_same(path, config, models, held_out)


def write_predictions(
    path: Path, predicted: TimedPredictions, facts: dict[str, str], held_out: HeldOut
) -> None:
    """Writes predictions for `read_if_same`. facts: of the evaluation."""
    predicted.write(path, facts | {"code": code_version(*PREDICTING_CODE)}, held_out.strokes)


def read_if_same(
    path: Path, config: HeldOutConfig, models: Ensemble, held_out: HeldOut
) -> TimedPredictions | None:
    """A file's predictions, if these models made them of these drawings by this code, or None."""
    if not path.is_file():
        return None
    expected = {
        "model_digest": models.digest,
        "precision": models.precision,
        "store_fingerprint": held_out.pack.fingerprint,
        "per_class": str(config.per_class),
        "code": code_version(*PREDICTING_CODE),
    }
    try:
        predictions, facts = open_predictions(path, models.label_map, models.members[0].opened)
        predicted = TimedPredictions.of(predictions, facts)
    except InputError:
        return None
    if any(facts.get(name) != value for name, value in expected.items()):
        return None
    return predicted if _are_of(predictions, held_out) else None


def is_evaluation(reference: str) -> bool:
    """Whether a reference is the folder of an evaluation, or the predictions in it."""
    path = Path(reference)
    return path.suffix == ".parquet" or (path / PREDICTIONS_NAME).is_file()


class EvaluatedPredictions(NamedTuple):
    """Predictions of an evaluation, the name of what it judged, and the precision: a name of
    PRECISIONS, or UNKNOWN. facts: what else the evaluation recorded.
    """

    predictions: Predictions
    name: str
    precision: str
    facts: Mapping[str, str]


def evaluated_predictions(
    reference: str, config: HeldOutConfig, held_out: HeldOut, opened: Opened
) -> EvaluatedPredictions:
    """The predictions of an evaluation of anything: also of an average, an ensemble, or with TTA.

    Raises `InputError` if there are none, the file is damaged, or they are of other or partial
    drawings; `CheckpointError` if the model was trained on another store and that is not allowed.
    """
    path, pack = Path(reference), held_out.pack
    path = path / PREDICTIONS_NAME if path.is_dir() else path
    if path.name == PARTIAL_NAME:
        raise InputError(
            f"{path} holds partial drawings, and whole ones are compared; give "
            f"{path.with_name(PREDICTIONS_NAME)}"
        )
    predictions, facts = open_predictions(path, pack.label_map, opened)
    trained_on = facts.get("trained_on", pack.fingerprint)
    if trained_on != pack.fingerprint and not config.other_store:
        raise CheckpointError(
            f"{path} judges what was trained on store {trained_on[:12]}, but {config.store} is "
            f"{pack.fingerprint[:12]}: drawings held out here may have been trained on; give "
            "--other-store if you know that they were not"
        )
    store = facts.get("store_fingerprint", "")
    if store != pack.fingerprint or not _are_of(predictions, held_out):
        raise InputError(
            f"{path} holds {len(predictions):,} drawings of store {store[:12]}, "
            f"{facts.get('per_class')} a class at most, which are not those asked for of store "
            f"{pack.fingerprint[:12]}; evaluate again, or give its --store and --per-class"
        )
    name, precision = facts.get("model", path.parent.name), facts.get("precision", UNKNOWN)
    return EvaluatedPredictions(predictions, name, precision, facts)


def _are_of(predictions: Predictions, held_out: HeldOut) -> bool:
    """Whether predictions are those of these rows, in their order."""
    pack, rows = held_out.pack, held_out.rows
    return np.array_equal(predictions.key_ids, pack.key_ids[rows]) and np.array_equal(
        predictions.labels, pack.labels[rows]
    )
