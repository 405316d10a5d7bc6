"""Predictions that an evaluation left, used again where they are just what is asked for.

A model that was evaluated has its predictions in `predictions.parquet` of its report, beside its
run's folder or in its MLflow run: of the same weights, looks, store and number of drawings they
are the same that would be made now, and comparing such models takes seconds.
"""

import tempfile
from pathlib import Path

import numpy as np

from quickdraw_core.errors import CheckpointError, InputError
from quickdraw_core.evaluation.config import JudgedConfig
from quickdraw_core.evaluation.ensemble import Ensemble
from quickdraw_core.evaluation.held_out import held_out_rows, predict_held_out
from quickdraw_core.evaluation.model import TrainedModel
from quickdraw_core.evaluation.predictions import Predictions
from quickdraw_core.evaluation.publish import tracking_uri_of
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_file

PREDICTIONS_NAME = "predictions.parquet"


def predictions_of(
    config: JudgedConfig, reference: str, model: TrainedModel, pack: Pack
) -> tuple[Predictions, bool]:
    """Predictions of the held-out drawings in the order of the rows, and whether they were there.

    reference: what `model` was loaded from. Raises as `predict_held_out` does.
    """
    models = Ensemble((model,))
    found = left_by_evaluation(config, model, pack)
    if found is not None:
        return found, True
    return predict_held_out(config, [reference], 1, models, pack).predictions, False


def left_by_evaluation(
    config: JudgedConfig, model: TrainedModel, pack: Pack
) -> Predictions | None:
    """The predictions of the model's evaluation; None where there are none, they are of anything
    else, or the file is damaged.
    """
    if model.report_dir is not None:
        return read_if_same(model.report_dir / PREDICTIONS_NAME, config, model, pack)
    models = Ensemble((model,))
    uri, run_id = tracking_uri_of(config.tracking_uri, models), model.checkpoint.mlflow_run_id
    if uri == NO_TRACKING or not run_id:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        try:
            artifact = f"{model.report_name}/{PREDICTIONS_NAME}"
            fetched = fetch_file(uri, run_id, artifact, Path(temporary))
        except CheckpointError:  # never evaluated
            return None
        return read_if_same(fetched, config, model, pack)


def read_if_same(
    path: Path, config: JudgedConfig, model: TrainedModel, pack: Pack
) -> Predictions | None:
    """A file's predictions, if they are this model's of these drawings and the file is whole."""
    try:
        predictions, facts = Predictions.read(path, model.label_map)
    except InputError:
        return None
    wanted = {
        "model_digest": Ensemble((model,)).digest,
        "store_fingerprint": pack.fingerprint,
        "per_class": str(config.per_class),
    }
    if any(facts.get(name) != value for name, value in wanted.items()):
        return None
    rows = held_out_rows(config, pack)
    same = np.array_equal(predictions.key_ids, pack.key_ids[rows]) and np.array_equal(
        predictions.labels, pack.labels[rows]
    )
    return predictions if same else None
