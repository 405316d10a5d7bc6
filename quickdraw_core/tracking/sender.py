"""Delivers journal records to an MLflow run, each point once.

A batch may have arrived although its answer was lost, or although the process was killed before
it noted that. So the first batch, and the first after every failure, is compared with what the
server has.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from quickdraw_core.errors import UnreachableError
from quickdraw_core.tracking.address import artifact_folder
from quickdraw_core.tracking.journal import Record
from quickdraw_core.tracking.logged_model import deliver_model
from quickdraw_core.tracking.problems import mlflow_errors
from quickdraw_core.tracking.runs import client

if TYPE_CHECKING:
    from mlflow import MlflowClient

_POINTS = 1_000
_TABLES_TAG = "mlflow.loggedArtifacts"

_Identity = tuple[str, int] | tuple[str, int, int]
"""What may stand once in a run: (metric, step), or with the time for what may be repeated."""


class Sender:
    """Sends records to the run that `find_run` names; raises `TrackingError`.

    find_run: called before the first delivery and after each that failed; it may make the run.
    """

    def __init__(self, uri: str, find_run: Callable[["MlflowClient"], str]) -> None:
        self._uri, self._find_run = uri, find_run
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._unsure, self._known = True, _Known()

    @property
    def _mlflow(self) -> "MlflowClient":
        """The client, made when it is first needed: it may not be to be had before."""
        if self._client is None:
            self._client = client(self._uri)
        return self._client

    def __call__(self, records: list[Record]) -> None:
        """Points, then tags and status, then files and models."""
        try:
            with mlflow_errors(self._uri):
                if not self._run_id:
                    self._run_id = self._find_run(self._mlflow)
                self._send_points(records)
                self._send_facts(records)
                self._send_files(records)
        except BaseException:
            self._run_id, self._unsure = "", True
            self._known = _Known()
            raise

    def _send_points(self, records: list[Record]) -> None:
        from mlflow.entities import Metric

        points: dict[_Identity, Metric] = {}
        for record in records:
            step, time_ms = record.get("step", 0), record.get("time_ms", 0)
            for key, value in record.get("metrics", {}).items():
                identity = (key, step, time_ms) if record.get("again") else (key, step)
                points.setdefault(identity, Metric(key, value, time_ms, step))
        if not points:
            return
        if self._unsure:
            count = len(points)
            self._known.ask(self._mlflow, self._run_id, {identity[0] for identity in points})
            points = {i: point for i, point in points.items() if i not in self._known.points}
            # The mark of what was sent may be older than one batch (a power failure): compare
            # until a batch is met of which the server has nothing.
            if len(points) == count:
                self._unsure, self._known = False, _Known()
        batch = list(points.values())
        for first in range(0, len(batch), _POINTS):
            self._mlflow.log_batch(self._run_id, metrics=batch[first : first + _POINTS])

    def _send_facts(self, records: list[Record]) -> None:
        from mlflow.entities import RunTag

        tags: dict[str, str] = {}
        for record in records:
            tags.update(record.get("tags", {}) if "model" not in record else {})
        if tags:
            pairs = [RunTag(key, value) for key, value in tags.items()]
            self._mlflow.log_batch(self._run_id, tags=pairs)
        last = next((r for r in reversed(records) if "status" in r), None)
        if last is not None and last["status"] == "RUNNING":
            self._mlflow.update_run(self._run_id, status="RUNNING")
        elif last is not None:
            self._mlflow.set_terminated(self._run_id, last["status"], last["time_ms"])

    def _send_files(self, records: list[Record]) -> None:
        latest = {r["artifact"]: r for r in records if "artifact" in r}
        if latest or any("model" in record for record in records):
            self._require_files_in_place()
        for artifact, record in latest.items():
            self._send_file(Path(record["file"]), PurePosixPath(artifact))
            if record.get("table"):
                self._show_table(artifact)
        for record in {r["model"]: r for r in records if "model" in r}.values():
            deliver_model(self._mlflow, self._run_id, record)

    def _require_files_in_place(self) -> None:
        """Raises `UnreachableError` if MLflow would make a new folder for a moved run."""
        if not self._uri.startswith("sqlite:///"):
            return
        recorded = self._mlflow.get_run(self._run_id).info.artifact_uri
        files = artifact_folder(self._uri, recorded)
        if files is not None and files != Path(unquote(urlsplit(recorded).path)):
            raise UnreachableError(
                f"MLflow has the run's files at {recorded}, and they were moved; new ones stay in "
                "the run's folder"
            )

    def _send_file(self, path: Path, artifact: PurePosixPath) -> None:
        folder = str(artifact.parent) if len(artifact.parts) > 1 else None
        with tempfile.TemporaryDirectory() as temporary:
            named = Path(temporary) / artifact.name  # MLflow keeps a file's own name
            try:
                named.symlink_to(path.absolute())
            except OSError:
                if path.is_file():
                    shutil.copyfile(path, named)
            if not named.is_file():
                return  # a later checkpoint has replaced it
            try:
                self._mlflow.log_artifact(self._run_id, str(named), folder)
            except FileNotFoundError:
                if path.is_file():
                    raise

    def _show_table(self, artifact: str) -> None:
        """Makes the UI show a file as a table, beside those of other runs."""
        tags = self._mlflow.get_run(self._run_id).data.tags
        shown = json.loads(tags.get(_TABLES_TAG, "[]"))
        entry = {"path": artifact, "type": "table"}
        if entry not in shown:
            self._mlflow.set_tag(self._run_id, _TABLES_TAG, json.dumps([*shown, entry]))


class _Known:
    """Points that the server has, of the metrics asked for so far."""

    def __init__(self) -> None:
        self.points: set[_Identity] = set()
        self._keys: set[str] = set()

    def ask(self, mlflow: "MlflowClient", run_id: str, keys: set[str]) -> None:
        """Fetches the histories of `keys`, page by page, each once."""
        for key in keys - self._keys:
            for point in mlflow.get_metric_history(run_id, key):
                self.points.add((key, point.step))
                self.points.add((key, point.step, point.timestamp))
            self._keys.add(key)
