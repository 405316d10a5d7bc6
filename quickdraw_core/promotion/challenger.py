"""A model that is to be registered, the MLflow run it comes from, and what is written there."""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from quickdraw_core.errors import CheckpointError, TrackingError
from quickdraw_core.evaluation.publish import send_to_run
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.references import best_of_run
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import PromoteResult
from quickdraw_core.system.files import write_atomic
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.journal import file_record, tags_record
from quickdraw_core.tracking.registry import describe, register
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.training.checkpoint import BEST_ARTIFACT

FILE_NAME = "promotion.json"
ARTIFACT = f"promotion/{FILE_NAME}"
TAG = "promotion"
REASON_TAG = "promotion.reason"


@dataclass(frozen=True)
class Challenger:
    """A model with the run that it is registered from."""

    model: TrainedModel
    uri: str
    run_id: str

    @property
    def weights_sha256(self) -> str:
        """The digest by which versions are compared."""
        return self.model.checkpoint.weights_sha256


def find_challenger(model: TrainedModel, tracking_uri: str | None, alias: str) -> Challenger:
    """The model with the run whose best checkpoint it is. Delivers what the run's folder has not
    sent yet.

    Raises `TrackingError` without tracking, `CheckpointError` if it is no run's best.
    """
    uri = Ensemble((model,)).tracking_uri(tracking_uri)
    if uri == NO_TRACKING:
        raise TrackingError(
            f"tracking is off, but a {alias} is kept in MLflow's registry; give --tracking-uri"
        )
    return Challenger(model, uri, _run_of(model, uri))


def _run_of(model: TrainedModel, uri: str) -> str:
    """The run whose best checkpoint the model is. Raises `CheckpointError` if there is none."""
    run_id, run_dir = model.checkpoint.mlflow_run_id, model.run_dir
    record = RunRecord.read(run_dir) if run_dir is not None else None
    if run_dir is not None and record is not None and record.uri == uri:
        deliver_rest(run_dir)  # a server that was away at the end of the training
        record = RunRecord.read(run_dir)
        run_id = record.run_id if record is not None and record.run_id else run_id
    if not run_id:
        raise CheckpointError(
            f"the model {model.name} has no run in MLflow at {uri} to be registered from; see "
            "that MLflow is there, and train with tracking"
        )
    if model.path is None:  # it was fetched from its run
        return run_id
    best = best_of_run(uri, run_id, model.opened).weights_sha256
    if best != model.checkpoint.weights_sha256:
        raise CheckpointError(
            f"{model.path} has weights {model.checkpoint.weights_sha256[:12]}, but the best "
            f"checkpoint of its run {run_id} has {best[:12]}, which is what a registered model "
            "is; promote the run"
        )
    return run_id


def register_with_reason(
    config: PromoteConfig, challenger: Challenger, result: PromoteResult
) -> PromoteResult:
    """Registers the challenger, and writes the reason to its version and run.

    Called before the alias moves: if the process is killed in between, the next call makes the
    reason true. The other way round there would be a champion without a reason.
    """
    checkpoint = challenger.model.checkpoint
    version = register(
        challenger.uri,
        config.name,
        challenger.run_id,
        weights_sha256=challenger.weights_sha256,
        store_fingerprint=checkpoint.store_fingerprint,
        label_map_sha256=checkpoint.label_map.sha256,
        artifact=BEST_ARTIFACT,
    )
    result = replace(result, version=version)
    describe(challenger.uri, version, result.reason, {TAG: str(result.decision)})
    return replace(result, tracking_problem=_publish(config, challenger, result))


def _publish(config: PromoteConfig, challenger: Challenger, result: PromoteResult) -> str | None:
    """Sends decision and reason to the challenger's run; returns why that failed, or None."""
    of = {"per_class", "tta", "precision", "seed", "margin", "other_store"}
    judged = config.model_dump(include=of)
    value = result.to_json() | {"judged": judged}
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    tags = tags_record({TAG: str(result.decision), REASON_TAG: result.reason})
    run_dir = challenger.model.run_dir
    with tempfile.TemporaryDirectory() as temporary:
        # In the run's folder if it is here: a server that is away gets the file later.
        path = (Path(temporary) if run_dir is None else run_dir) / FILE_NAME
        write_atomic(path, text)
        records = [tags, file_record(path, ARTIFACT)]
        return send_to_run(run_dir, challenger.uri, challenger.run_id, records)[1]
