"""What a run is, written into its folder before any server knows it.

`RUN/mlflow.json` holds the address, a key made once, and name, params and tags. The MLflow run
is made from it when a server answers, and found again by its key: a kill between the making and
the writing down of its id makes no second run.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quickdraw_core.credentials import set_apart
from quickdraw_core.errors import TrackingError
from quickdraw_core.system.files import write_atomic
from quickdraw_core.tracking.address import (
    EXPERIMENT,
    artifact_location,
    relocated_uri,
    resolve_tracking_uri,
)
from quickdraw_core.tracking.journal import now_ms
from quickdraw_core.tracking.runs import brief_requests

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_RECORD_NAME = "mlflow.json"
KEY_TAG = "quickdraw.run_key"
CHANGED_TAG = "changed."
PARENT_TAG = "mlflow.parentRunId"
"""The tag by which MLflow shows a run beneath another."""
_PARAM_LENGTH = 6_000
_TAG_LENGTH = 5_000
_PAIRS = 100
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow's own UI sets on an experiment of trained models, as against one of prompts."""


@dataclass(frozen=True)
class RunRecord:
    """The facts of one MLflow run. run_id: empty as long as no server has it."""

    uri: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    began_ms: int = field(default_factory=now_ms)
    run_id: str = ""

    @classmethod
    def read(cls, run_dir: Path) -> "RunRecord | None":
        """The record in a run folder, if there is one. Raises `TrackingError` if it is damaged."""
        path = run_dir / RUN_RECORD_NAME
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            value["uri"] = set_apart(value["uri"])  # older records hold the secrets
            value["uri"] = relocated_uri(value["uri"], run_dir)
            return cls(**{name: value[name] for name in cls.__dataclass_fields__})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise TrackingError(
                f"{path} cannot be read ({error!r}); train again with --fresh"
            ) from error

    def write(self, run_dir: Path) -> None:
        """Writes the record, whole or not at all."""
        write_atomic(run_dir / RUN_RECORD_NAME, json.dumps(asdict(self), indent=1) + "\n")


def new_run_record(
    uri: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> RunRecord:
    """The record of a new run, with a key of its own."""
    return RunRecord(uri, name, {k: _short(v) for k, v in params.items()}, dict(tags))


def tracked_run_id(run_dir: Path) -> str:
    """The MLflow run of a run folder; empty as long as no server has it."""
    record = RunRecord.read(run_dir)
    return "" if record is None else record.run_id


def ensure_run(mlflow: "MlflowClient", run_dir: Path) -> str:
    """The id of a folder's run, made if the server has none yet; params and tags completed.

    Raises what MLflow raises if it does not answer, and `TrackingError` if the run or its
    experiment was deleted there.
    """
    record = RunRecord.read(run_dir)
    if record is None:
        raise TrackingError(f"{run_dir} holds no {RUN_RECORD_NAME}; train again with --fresh")
    with brief_requests():
        run = mlflow.get_run(record.run_id) if record.run_id else _find_or_create(mlflow, record)
        if run.info.lifecycle_stage == "deleted":
            raise TrackingError(
                f"run {run.info.run_id} was deleted in MLflow; restore it there, or train again "
                "with --fresh"
            )
        run_id = str(run.info.run_id)
        if run_id != record.run_id:
            replace(record, run_id=run_id).write(run_dir)
        _complete(mlflow, run, record)
    return run_id


def _find_or_create(mlflow: "MlflowClient", record: RunRecord) -> "Run":
    experiment_id = _experiment(mlflow)
    run = find_run(mlflow, record.key)
    if run is not None:
        return run
    tags = {**record.tags, KEY_TAG: record.key}
    return mlflow.create_run(
        experiment_id, start_time=record.began_ms, run_name=record.name, tags=tags
    )


def find_run(mlflow: "MlflowClient", key: str) -> "Run | None":
    """The run that was made of a record; the first one, should there be two."""
    from mlflow.entities import ViewType

    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    runs = mlflow.search_runs(
        [experiment.experiment_id],
        f"tags.`{KEY_TAG}` = '{key}'",
        run_view_type=ViewType.ALL,
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    return runs[0] if runs else None


def _experiment(mlflow: "MlflowClient") -> str:
    from mlflow.exceptions import MlflowException

    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        location = artifact_location(mlflow.tracking_uri)
        try:
            return str(mlflow.create_experiment(EXPERIMENT, location, _EXPERIMENT_TAGS))
        except MlflowException:  # another training made it at the same moment
            experiment = mlflow.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {EXPERIMENT} was deleted in MLflow; restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def _complete(mlflow: "MlflowClient", run: "Run", record: RunRecord) -> None:
    """Adds what the run lacks. A param can never change in MLflow: its new value is a tag."""
    from mlflow.entities import Param, RunTag

    params = [Param(k, v) for k, v in record.params.items() if k not in run.data.params]
    wanted = {k: _short(v, _TAG_LENGTH) for k, v in record.tags.items()}
    for key, value in record.params.items():
        if run.data.params.get(key, value) != value:
            wanted[CHANGED_TAG + key] = _short(value, _TAG_LENGTH)
    tags = [RunTag(k, v) for k, v in wanted.items() if run.data.tags.get(k) != v]
    for first in range(0, len(params), _PAIRS):
        mlflow.log_batch(run.info.run_id, params=params[first : first + _PAIRS])
    for first in range(0, len(tags), _PAIRS):
        mlflow.log_batch(run.info.run_id, tags=tags[first : first + _PAIRS])


def _short(value: object, length: int = _PARAM_LENGTH) -> str:
    return str(value)[:length]


def tracking_uri_of_run(asked: str | None, run_dir: Path | None) -> str:
    """Where a model's run is: as asked for, else where its run folder says, else the default."""
    asked = asked or os.environ.get("MLFLOW_TRACKING_URI")
    record = RunRecord.read(run_dir) if run_dir is not None else None
    if asked is None and record is not None:
        return record.uri
    return resolve_tracking_uri(asked)
