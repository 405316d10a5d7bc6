"""Runs that were deleted in MLflow, which keeps them and their files until they are removed for
good.

`mlflow gc` does that for all that a database has: other projects' runs, experiments and models
too, also those that a registered model comes from. Here it is done for one run, in the same steps:
its logged models, its files, then its entry, so that a run of which a part is gone is still there
to be removed. Only who has MLflow's database can; its server has no such request.
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from quickdraw_core.credentials import tracking_address
from quickdraw_core.errors import TrackingError
from quickdraw_core.tracking.address import EXPERIMENT, NO_TRACKING, artifact_folder
from quickdraw_core.tracking.problems import mlflow_errors
from quickdraw_core.tracking.run_record import PARENT_TAG
from quickdraw_core.tracking.runs import client, is_missing, is_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAGE = 1_000
_PROXIED = "mlflow-artifacts"


@dataclass(frozen=True)
class DeletedRun:
    """A run of this program's experiment that was deleted. deleted: when, seconds since 1970; as
    far as a server says, when it ended. size_bytes: of its files, if they are in folders here.
    parent: the run that it is beneath, a sweep's for one; empty if it has none. hindrance: why it
    cannot be removed from here; empty if it can.
    """

    run_id: str
    name: str
    deleted: float
    size_bytes: int
    parent: str
    hindrance: str


def deleted_runs(uri: str) -> list[DeletedRun]:
    """The deleted runs. Raises `TrackingError`."""
    if uri == NO_TRACKING or is_missing(uri):
        return []
    with mlflow_errors(uri):
        mlflow = client(uri)
        experiment = mlflow.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        runs = _all_deleted(mlflow, experiment.experiment_id)
        times = {} if is_server(uri) or not runs else _deletion_times(uri)
        return [
            DeletedRun(
                run.info.run_id,
                run.info.run_name or "",
                times.get(run.info.run_id, run.info.end_time or run.info.start_time or 0) / 1000,
                sum(_size(folder) for folder in _folders(mlflow, uri, run)),
                run.data.tags.get(PARENT_TAG, ""),
                _hindrance(mlflow, uri, run),
            )
            for run in runs
        ]


def remove_for_good(uri: str, run_id: str) -> None:
    """Removes a deleted run with its files and logged models.

    Raises `TrackingError` if it is not deleted (any more), cannot be removed from here, or MLflow
    does not answer.
    """
    with mlflow_errors(uri):
        mlflow, store = client(uri), _store(uri)
        run = mlflow.get_run(run_id)
        if run.info.lifecycle_stage != "deleted":
            raise TrackingError(f"run {run_id} is not deleted in MLflow any more; it stays")
        if hindrance := _hindrance(mlflow, uri, run):
            raise TrackingError(f"run {run_id} stays: {hindrance}")
        for model in _logged_models(mlflow, run):
            _delete_files(uri, str(model.artifact_location))
            mlflow.delete_logged_model(model.model_id)
            store._hard_delete_logged_model(model.model_id)
        _delete_files(uri, run.info.artifact_uri)
        store._hard_delete_run(run_id)


def _all_deleted(mlflow: "MlflowClient", experiment_id: str) -> list[Any]:
    from mlflow.entities import ViewType

    found: list[Any] = []
    token = None
    while True:
        page = mlflow.search_runs(
            [experiment_id],
            run_view_type=ViewType.DELETED_ONLY,
            max_results=_PAGE,
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def _store(uri: str) -> Any:
    """MLflow's store of a database, as `mlflow gc` opens it."""
    from mlflow.tracking import _get_store

    return _get_store(tracking_address(uri))


def _deletion_times(uri: str) -> dict[str, int]:
    """Milliseconds since 1970 by run id: MLflow's runs do not say it."""
    from mlflow.store.tracking.dbmodels.models import SqlRun

    with _store(uri).ManagedSessionMaker() as session:
        rows = session.query(SqlRun.run_uuid, SqlRun.deleted_time).filter(
            SqlRun.lifecycle_stage == "deleted", SqlRun.deleted_time.isnot(None)
        )
        return {str(run_id): int(milliseconds) for run_id, milliseconds in rows}


def _hindrance(mlflow: "MlflowClient", uri: str, run: Any) -> str:
    if is_server(uri) or run.info.artifact_uri.startswith(_PROXIED):
        return "only MLflow's server has its database and files: run mlflow gc there"
    if uri.startswith("sqlite:///"):
        # A copy of a database names the files of the one that it was copied from.
        here = Path(uri.removeprefix("sqlite:///")).resolve().parent
        for folder in _folders(mlflow, uri, run):
            if folder.exists() and not folder.resolve().is_relative_to(here):
                return f"its files are not beside the database: {folder}"
    return ""


def _logged_models(mlflow: "MlflowClient", run: Any) -> list[Any]:
    where = f"source_run_id = '{run.info.run_id}'"
    return list(mlflow.search_logged_models([run.info.experiment_id], filter_string=where))


def _folders(mlflow: "MlflowClient", uri: str, run: Any) -> list[Path]:
    """The folders here that hold a run's files."""
    if is_server(uri):
        return []
    addresses = [run.info.artifact_uri]
    addresses += [str(model.artifact_location) for model in _logged_models(mlflow, run)]
    return [folder for folder in (_local(uri, address) for address in addresses) if folder]


def _local(uri: str, address: str) -> Path | None:
    """The folder of an artifact address; None if it is elsewhere."""
    with suppress(TrackingError):  # the files are gone
        if (folder := artifact_folder(uri, address)) is not None:
            return folder
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return 0


def _delete_files(uri: str, address: str) -> None:
    folder = _local(uri, address)
    if folder is None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(address).delete_artifacts()
        return
    if folder.is_dir():
        shutil.rmtree(folder, onerror=_unless_gone)
    with suppress(OSError):  # `<id>/artifacts`: the folder of the id, if it is empty now
        folder.parent.rmdir()


def _unless_gone(_: object, __: str, error: Any) -> None:
    """What another command removes beside this one is no problem: the run's entry is left."""
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]
