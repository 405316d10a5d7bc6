"""MLflow: a client of an address, and fetching what a run holds.

What is written to a run goes through `journal.py` and `delivery.py`, which make nothing wait.
"""

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from quickdraw_core.credentials import tracking_address, without_login
from quickdraw_core.errors import (
    BusyError,
    CheckpointError,
    TrackingError,
    UnreachableError,
    WriteError,
)
from quickdraw_core.system.child_environment import applied_environment
from quickdraw_core.system.locks import held, lock_of_file
from quickdraw_core.tracking.address import artifact_folder, quiet_environment
from quickdraw_core.tracking.journal import CURVES
from quickdraw_core.tracking.problems import mlflow_errors, problem_at, require_usable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SET_UP_SECONDS = 120.0
"""MLflow makes a new database in some 5 on an idle machine."""

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes of MLflow's answer if it lacks what it was asked for."""


def client(uri: str) -> "MlflowClient":
    """A client of the tracking address; the environment is made quiet first.

    Raises `TrackingError` for an address at which MLflow can never be, and `UnreachableError`
    for one if it cannot be used now, as far as that is known without asking a server.
    """
    require_usable(uri)
    load_mlflow(uri)
    from mlflow import MlflowClient

    with _set_up_alone(uri), mlflow_errors(uri):
        return MlflowClient(tracking_uri=tracking_address(uri))


def load_mlflow(uri: str) -> None:
    """Loads what a `client` of an address takes, for seconds; asks and makes nothing."""
    quiet_mlflow()
    if not is_server(uri):  # who asks one needs none of what databases take to load
        from mlflow.store.db import utils
        from mlflow.store.tracking import sqlalchemy_store  # noqa: F401

        # Ten tries take 100 seconds, whatever is wrong; MLflow has no setting for their number.
        utils.MAX_RETRY_COUNT = 3


def quiet_mlflow() -> None:
    """Loads MLflow, and has it print warnings alone."""
    for name, value in quiet_environment().items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    # After the import, which sets levels of its own. Alembic tells each step of setting up a
    # new database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for each try
    # It prints an error of the database with its traceback; `mlflow_errors` says it in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def is_missing(uri: str) -> bool:
    """Whether an address is of an SQLite file that is not there: nothing was tracked in it yet."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


def is_server(uri: str) -> bool:
    """Whether MLflow is asked through a server, rather than in its database."""
    return uri.startswith(("http://", "https://"))


def reader(uri: str) -> "MlflowClient":
    """A `client` that only reads: without a database it raises `TrackingError`."""
    if is_missing(uri):
        raise TrackingError(
            f"there is no MLflow database {uri.removeprefix('sqlite:///')}; give its address with "
            "--tracking-uri, or go to the folder that holds it"
        )
    return client(uri)


@contextmanager
def _set_up_alone(uri: str) -> Iterator[None]:
    """A block in which no other process sets up or upgrades the same SQLite file, as MLflow does
    when it first opens one: two at once break it. Raises `UnreachableError`.
    """
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    with ExitStack() as stack:
        try:
            lock = held(lock_of_file(path), str(path), "setting up", _SET_UP_SECONDS)
            stack.enter_context(lock)
        except BusyError as error:
            raise UnreachableError(str(error)) from error
        except WriteError:
            pass  # nothing is set up if nothing can be written
        yield


class _BriefRequests:
    """Makes requests brief while any thread is in a block; then restores what was."""

    SETTINGS: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}

    def __init__(self) -> None:
        self._lock, self._inside, self._applied = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._applied.enter_context(applied_environment(self.SETTINGS))
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._applied.close()


_BRIEF = _BriefRequests()


@contextmanager
def brief_requests() -> Iterator[None]:
    """A block whose requests give up soon, and are sent once.

    A request that MLflow's client repeats after a lost answer could make a second run. The
    settings are the whole process's, so that those of other threads are brief meanwhile, too.
    """
    _BRIEF.enter()
    try:
        yield
    finally:
        _BRIEF.leave()


def run_page(uri: str, run_id: str) -> str | None:
    """Address of a run's page; None if MLflow has no server, or does not answer.

    If people reach MLflow by another address than programs do, `QUICKDRAW_MLFLOW_UI` is it.
    """
    if not is_server(uri) or not run_id:
        return None
    try:
        with mlflow_errors(uri), brief_requests():
            experiment_id = client(uri).get_run(run_id).info.experiment_id
    except TrackingError:
        return None
    seen_at = without_login(os.environ.get("QUICKDRAW_MLFLOW_UI") or uri)
    return f"{seen_at.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def fetch_file(uri: str, run_id: str, artifact: str, folder: Path) -> Path:
    """Brings an artifact of a run into `folder`.

    Raises `CheckpointError`: no run, no file; `UnreachableError` if MLflow does not answer, or
    does not give what it has.
    """
    mlflow = reader(uri)
    with mlflow_errors(uri):
        run = _run(mlflow, uri, run_id)
        files = artifact_folder(uri, run.info.artifact_uri)
        if files is not None and (files / artifact).is_file():
            return Path(shutil.copy(files / artifact, folder))
        beside = mlflow.list_artifacts(run_id, str(PurePosixPath(artifact).parent))
        if artifact in {file.path for file in beside}:
            return Path(mlflow.download_artifacts(run_id, artifact, str(folder)))
    raise CheckpointError(
        f"run {run_id} ({run.info.status}) has no {artifact}: it was not trained to the first "
        "validation; give another run or a checkpoint file"
    )


def _run(mlflow: "MlflowClient", uri: str, run_id: str) -> "Run":
    """A run, soon or never. Raises `CheckpointError` if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        with brief_requests():
            return mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        raise CheckpointError(
            f"no run {run_id} in MLflow at {uri}; see the runs there, or give a checkpoint file"
        ) from error


def fetch_tags(uri: str, run_id: str) -> dict[str, str]:
    """The tags of a run. Raises `CheckpointError`: no run; `TrackingError` if MLflow does not
    answer.
    """
    mlflow = reader(uri)
    with mlflow_errors(uri):
        return dict(_run(mlflow, uri, run_id).data.tags)


def fetch_curves(uri: str, run_id: str) -> dict[str, tuple[list[int], list[float]]]:
    """The curves of a run, by the journal's names: rising steps, and a value for each.

    Those of training and validation, not the machine's. Raises `TrackingError`: no such run, or
    whatever else kept MLflow from answering.
    """
    try:
        mlflow = reader(uri)
        run = _run(mlflow, uri, run_id)
        names = sorted(name for name in run.data.metrics if name.startswith(CURVES))
        histories = {name: mlflow.get_metric_history(run.info.run_id, name) for name in names}
    except Exception as error:
        raise TrackingError(
            f"the curves of run {run_id} could not be read: {problem_at(uri, error)}"
        ) from error
    curves = {}
    for name, history in histories.items():
        points: dict[int, float] = {}
        for point in sorted(history, key=lambda point: (point.step, point.timestamp)):
            points.setdefault(point.step, point.value)
        curves[name] = (list(points), list(points.values()))
    return curves
