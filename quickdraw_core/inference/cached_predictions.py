"""Predictions that an evaluation left, used again where they are just what is asked for.

A model that was evaluated has its predictions in `predictions.parquet` of its report, beside its
run's folder or in its MLflow run: of the same weights, looks, arithmetic, store and number of
drawings they are the same that this code would make now, and comparing such models takes seconds.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quickdraw_core.errors import CheckpointError, InputError, UnreachableError
from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.ensemble import PREDICTING_CODE, Ensemble, tracking_uri_of
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import UNKNOWN
from quickdraw_core.inference.predictions import (
    PREDICTIONS_NAME,
    Predicted,
    Predictions,
    open_predictions,
)
from quickdraw_core.stage import Opened
from quickdraw_core.system.code_version import code_version
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_file


def predictions_of(
    config: HeldOutConfig, model: TrainedModel, held_out: HeldOut
) -> tuple[Predictions, bool]:
    """Predictions of the held-out drawings in the order of the rows, and whether they were there.

    Raises as `predict_held_out` does.
    """
    found = left_by_evaluation(config, model, held_out)
    if found is not None:
        return found.predictions, True
    # Here, since predictions of before take none of what draws.
    from quickdraw_core.inference.predict import predict_held_out

    return predict_held_out(config, Ensemble((model,)), held_out).predictions, False


def left_by_evaluation(
    config: HeldOutConfig, model: TrainedModel, held_out: HeldOut
) -> Predicted | None:
    """The predictions of the model's evaluation; None where there are none, they are of anything
    else (another arithmetic, or an unknown one), or the file is damaged.
    """
    models = Ensemble((model,))
    if model.report_dir is not None:
        return read_if_same(model.report_dir / PREDICTIONS_NAME, config, models, held_out)
    uri, run_id = tracking_uri_of(config.tracking_uri, models), model.checkpoint.mlflow_run_id
    if uri == NO_TRACKING or not run_id:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        try:
            artifact = f"{model.report_name}/{PREDICTIONS_NAME}"
            fetched = fetch_file(uri, run_id, artifact, Path(temporary))
        except (CheckpointError, UnreachableError):  # never evaluated, or not to be had
            return None
        return read_if_same(fetched, config, models, held_out)


def write_predictions(path: Path, predicted: Predicted, facts: dict[str, str]) -> None:
    """Writes predictions for `read_if_same`. facts: of `facts_of`."""
    predicted.write(path, facts | {"code": code_version(*PREDICTING_CODE)})


def read_if_same(
    path: Path, config: HeldOutConfig, models: Ensemble, held_out: HeldOut
) -> Predicted | None:
    """A file's predictions, if they are these models' of these drawings, made by this code, and
    the file is whole.
    """
    if not path.is_file():
        return None
    wanted = {
        "model_digest": models.digest,
        "precision": models.precision,
        "store_fingerprint": held_out.pack.fingerprint,
        "per_class": str(config.per_class),
        "code": code_version(*PREDICTING_CODE),
    }
    try:
        predictions, facts = open_predictions(path, models.label_map, models.members[0].opened)
        predicted = Predicted.of(predictions, facts)
    except InputError:
        return None
    if any(facts.get(name) != value for name, value in wanted.items()):
        return None
    return predicted if _are_of(predictions, held_out) else None


def is_evaluation(reference: str) -> bool:
    """Whether a reference is the folder of an evaluation, or the predictions in it."""
    path = Path(reference)
    return path.suffix == ".parquet" or (path / PREDICTIONS_NAME).is_file()


class Left(NamedTuple):
    """Predictions that an evaluation left, the name of what it judged, and what it computed in:
    a name of PRECISIONS, or UNKNOWN.
    """

    predictions: Predictions
    name: str
    precision: str


def predictions_left(
    reference: str, config: HeldOutConfig, held_out: HeldOut, opened: Opened
) -> Left:
    """What an evaluation of anything (an average, several models, two looks) left.

    Raises `InputError` where there is none, the file is damaged, or it is of other drawings;
    `CheckpointError` where what it judged was trained on another store, unless that is allowed.
    """
    path, pack = Path(reference), held_out.pack
    path = path / PREDICTIONS_NAME if path.is_dir() else path
    predictions, facts = open_predictions(path, pack.label_map, opened)
    trained_on = facts.get("trained_on", pack.fingerprint)
    if trained_on != pack.fingerprint and not config.other_store:
        raise CheckpointError(
            f"{path} judges what was trained on store {trained_on[:12]}, but {config.store} is "
            f"{pack.fingerprint[:12]}: drawings held out here may have been trained on; give "
            "--other-store where you know better"
        )
    store = facts.get("store_fingerprint", "")
    if store != pack.fingerprint or not _are_of(predictions, held_out):
        raise InputError(
            f"{path} holds {len(predictions):,} drawings of store {store[:12]}, "
            f"{facts.get('per_class')} a class at most, which are not those asked for of store "
            f"{pack.fingerprint[:12]}; evaluate again, or give its --store and --per-class"
        )
    name, precision = facts.get("model", path.parent.name), facts.get("precision", UNKNOWN)
    return Left(predictions, name, precision)


def _are_of(predictions: Predictions, held_out: HeldOut) -> bool:
    """Whether predictions are those of these rows, in their order."""
    pack, rows = held_out.pack, held_out.rows
    return np.array_equal(predictions.key_ids, pack.key_ids[rows]) and np.array_equal(
        predictions.labels, pack.labels[rows]
    )
