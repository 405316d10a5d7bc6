"""MLflow runs: a client of an address, and fetching what a run holds.

Numbers of a training go through `journal.py` and `delivery.py`, which never make it wait. The
other functions write to a run at once; with tracking off (no run id) they do nothing.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quickdraw_core.errors import CheckpointError, TrackingError
from quickdraw_core.tracking.address import (
    EXPERIMENT,
    NO_TRACKING,
    artifact_location,
    quiet_environment,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAM_LENGTH = 6000
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow's own UI sets on an experiment of trained models, as against one of prompts."""


def client(uri: str) -> "MlflowClient":
    """A client of the tracking address; the environment is made quiet first."""
    for name, value in quiet_environment().items():
        os.environ.setdefault(name, value)
    # Alembic tells each step of setting up a new database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for each try
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def start_run(uri: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Makes a run in the experiment `quickdraw` and returns its id; empty without tracking.

    Raises `TrackingError` where no MLflow answers at `uri`.
    """
    if uri == NO_TRACKING:
        return ""
    from mlflow.entities import Param

    remedy = "start it, give another --tracking-uri, or turn tracking off: --tracking-uri none"
    with _explained(f"no MLflow answers at {uri}", remedy):
        mlflow = client(uri)
        experiment = mlflow.get_experiment_by_name(EXPERIMENT)
        experiment_id = (
            experiment.experiment_id
            if experiment is not None
            else mlflow.create_experiment(EXPERIMENT, artifact_location(uri), _EXPERIMENT_TAGS)
        )
        run = mlflow.create_run(experiment_id, run_name=name, tags=dict(tags))
        pairs = [Param(key, str(value)[:_PARAM_LENGTH]) for key, value in params.items()]
        mlflow.log_batch(run.info.run_id, params=pairs)
    return str(run.info.run_id)


@contextmanager
def writing(uri: str, run_id: str) -> Iterator[None]:
    """A block that writes to a run; where MLflow refuses or is away, a `TrackingError`."""
    with _explained(f"run {run_id} at {uri} was not written to", "see that MLflow is there"):
        yield


@contextmanager
def _explained(what: str, remedy: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        first = str(error).splitlines()[0].split(" with exception ")[0]
        raise TrackingError(f"{what}: {first}; {remedy}") from error


def set_status(uri: str, run_id: str, status: str) -> None:
    """Marks a run as RUNNING again, or closes it as FINISHED, FAILED or KILLED."""
    if not run_id:
        return
    with writing(uri, run_id):
        if status == "RUNNING":
            client(uri).update_run(run_id, status=status)
        else:
            client(uri).set_terminated(run_id, status)


def log_metrics(uri: str, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Writes metrics of one step, all at once."""
    if not run_id:
        return
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    points = [Metric(key, float(value), now, step) for key, value in metrics.items()]
    client(uri).log_batch(run_id, metrics=points)


def log_tags(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets tags of a run."""
    if run_id:
        mlflow = client(uri)
        for key, value in tags.items():
            mlflow.set_tag(run_id, key, value)


def log_file(uri: str, run_id: str, path: Path, folder: str | None = None) -> None:
    """Copies a file to the run's artifacts, under `folder`."""
    if run_id:
        client(uri).log_artifact(run_id, str(path), folder)


def log_table(uri: str, run_id: str, columns: Mapping[str, list[Any]], name: str) -> None:
    """Writes a table that MLflow's UI shows side by side for several runs: `name`.json."""
    if run_id:
        client(uri).log_table(run_id, data=dict(columns), artifact_file=name)


def fetch_file(uri: str, run_id: str, artifact: str, folder: Path) -> Path:
    """Brings an artifact of a run into `folder`. Raises `CheckpointError`: no run, no file."""
    from mlflow.exceptions import MlflowException

    mlflow = client(uri)
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise CheckpointError(
            f"no run {run_id} in MLflow at {uri}; see the runs there, or give a checkpoint file"
        ) from error
    try:
        return Path(mlflow.download_artifacts(run.info.run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        raise CheckpointError(
            f"run {run_id} ({run.info.status}) has no {artifact}: it was not trained to the first "
            "validation; give another run or a checkpoint file"
        ) from error
