"""A model that is to be registered, with the MLflow run whose best checkpoint it is."""

from dataclasses import dataclass

from quickdraw_core.errors import CheckpointError, TrackingError
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.references import best_of_run
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.run_record import RunRecord


@dataclass(frozen=True)
class Challenger:
    """A model with the run that it is registered from."""

    model: TrainedModel
    uri: str
    run_id: str

    @property
    def weights_sha256(self) -> str:
        """The digest that tells versions apart."""
        return self.model.checkpoint.weights_sha256


def find_challenger(model: TrainedModel, tracking_uri: str | None, alias: str) -> Challenger:
    """The run whose best checkpoint a model is; what the run's folder has to send is sent.

    Raises `TrackingError` without tracking, `CheckpointError` where it is no run's best.
    """
    uri = Ensemble((model,)).tracking_uri(tracking_uri)
    if uri == NO_TRACKING:
        raise TrackingError(
            f"tracking is off, but a {alias} is kept in MLflow's registry; give --tracking-uri"
        )
    return Challenger(model, uri, _run_of(model, uri))


def _run_of(model: TrainedModel, uri: str) -> str:
    """The run whose best checkpoint the model is. Raises `CheckpointError` where it has none."""
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
