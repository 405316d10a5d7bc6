"""The journal of a training: every number goes to a file first, and to MLflow from there.

Rank 0 appends a line a record; a thread sends what is new in batches. While the server is away
the file grows and training goes on; what is unsent at the end is sent when the run is resumed.
The launcher follows the same file to show progress.

A record is `{"step", "time_ms", "metrics"}`, or `{"file", "artifact"}`: a file to be copied to
the run's artifacts under that name.
"""

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

JOURNAL_NAME = "journal.jsonl"
_BATCH = 1_000
_RETRY_SECONDS = (1, 2, 4, 8, 15, 30)
_LAST_TRIES = 3

Record = dict[str, Any]
Send = Callable[[list[Record]], None]
"""Delivers records; raises where they did not arrive."""


class NoJournal:
    """Stands in for a journal on the ranks that do not write."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Does nothing."""

    def write_file(self, path: Path, artifact: str) -> None:
        """Does nothing."""


class Journal:
    """Appends to `run_dir/journal.jsonl` and has a thread deliver what was appended."""

    def __init__(self, run_dir: Path, send: Send | None, every_seconds: float = 2.0) -> None:
        self._path = run_dir / JOURNAL_NAME
        self._mark = run_dir / f"{JOURNAL_NAME}.sent"
        self._send, self._every_seconds = send, every_seconds
        _cut_torn_line(self._path)
        self._written = _points(self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._sent_bytes = int(self._mark.read_text()) if self._mark.is_file() else 0
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._deliver, name="quickdraw-journal", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Sends what is left, with a few retries."""
        self._closing.set()
        self._thread.join()
        self._file.close()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends the metrics of a step; returns at once.

        A run that goes on from a checkpoint comes by the steps after it a second time; a point
        that is there already is left out, so that each stands once in a curve.
        """
        metrics = {
            key: value for key, value in metrics.items() if (step, key) not in self._written
        }
        if not metrics:
            return
        time_ms = time.time_ns() // 1_000_000
        self._append({"step": step, "time_ms": time_ms, "metrics": metrics})

    def write_file(self, path: Path, artifact: str) -> None:
        """Has a file copied to the run's artifacts as `artifact` (folder/name); returns at once.

        A file that is gone when its turn comes was replaced by a later one, and is left out.
        """
        self._append({"file": str(path), "artifact": artifact})

    def _append(self, record: Record) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def _deliver(self) -> None:
        failures = 0
        while True:
            pause = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1]
            closing = self._closing.wait(pause if failures else self._every_seconds)
            failures = 0 if self._deliver_new() else failures + 1
            if closing and (not failures or failures >= _LAST_TRIES):
                return

    def _deliver_new(self) -> bool:
        if self._send is None:
            return True
        for records, end in _read_batches(self._path, self._sent_bytes):
            try:
                self._send(records)
            except Exception as error:  # noqa: BLE001 — tracking never stops training
                first = (str(error).splitlines() or [type(error).__name__])[0]
                sys.stderr.write(f"MLflow is away; numbers wait in {self._path}: {first}\n")
                return False
            self._sent_bytes = end
            aside = self._mark.with_suffix(".tmp")
            aside.write_text(str(end))
            aside.replace(self._mark)  # never half a number, whenever the process is killed
        return True


def _cut_torn_line(path: Path) -> None:
    """Drops a last line that a kill left without its end; the next one would run into it."""
    if path.is_file() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _points(path: Path) -> set[tuple[int, str]]:
    """(step, metric) of every point that a journal holds."""
    records, _ = follow(path, 0)
    return {(r["step"], key) for r in records for key in r.get("metrics", {})}


def _read_batches(path: Path, start: int) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Whole lines from byte `start` on: batches of records, and the byte after each batch."""
    with path.open("rb") as file:
        file.seek(start)
        records, end = [], start
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            records.append(json.loads(line))
            if len(records) == _BATCH:
                yield records, end
                records = []
        if records:
            yield records, end


def follow(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Records appended since byte `start`, and where to go on: for whoever watches a training."""
    if not path.is_file():
        return [], start
    records: list[dict[str, Any]] = []
    for batch, end in _read_batches(path, start):
        records += batch
        start = end
    return records, start


def mlflow_sender(uri: str, run_id: str) -> Send | None:
    """Delivers records to an MLflow run; None without one."""
    if not run_id:
        return None
    from mlflow.entities import Metric

    from quickdraw_core.tracking.runs import client

    mlflow = client(uri)

    def send(records: list[Record]) -> None:
        points = [
            Metric(key, value, record["time_ms"], record["step"])
            for record in records
            for key, value in record.get("metrics", {}).items()
        ]
        for first in range(0, len(points), _BATCH):
            mlflow.log_batch(run_id, metrics=points[first : first + _BATCH])
        latest = {r["artifact"]: Path(r["file"]) for r in records if "artifact" in r}
        for artifact, path in latest.items():
            if path.is_file():
                _copy_as(path, PurePosixPath(artifact))

    def _copy_as(path: Path, artifact: PurePosixPath) -> None:
        # MLflow keeps a file's own name, hence the copy under the wanted one.
        with tempfile.TemporaryDirectory() as folder:
            named = Path(shutil.copyfile(path, Path(folder) / artifact.name))
            mlflow.log_artifact(run_id, str(named), str(artifact.parent))

    return send
