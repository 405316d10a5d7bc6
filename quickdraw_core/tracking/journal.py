"""The journal of a training: every number goes to a file first, and to MLflow from there.

Rank 0 appends a line a record, which costs microseconds and asks no server. `delivery.py` sends
what is new from another thread or process; while the server is away the file grows and training
goes on. The launcher follows the same file to show progress.

A record is one JSON object a line, of one of these kinds:

    {"step", "time_ms", "metrics"}             points of curves ("again": may repeat a step)
    {"tags"}                                   facts of the run
    {"status", "time_ms"}                      RUNNING, FINISHED, FAILED or KILLED
                                               (with "reason", "error": message and class)
    {"file", "artifact"}                       a file to be copied to the run ("table": a table)
    {"model", "key", "step", "points", …}      a model folder, see `logged_model.py`
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from quickdraw_core.redaction import without_secrets

JOURNAL_NAME = "journal.jsonl"
CURVES = ("train/", "validation/")
"""How the names of a training's curves begin; other numbers are of the machine or of a test."""
_BATCH = 1_000

Record = dict[str, Any]
Send = Callable[[list[Record]], None]
"""Delivers records; raises if they did not arrive."""


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

    def next_step(self, prefix: str) -> int:
        """There is no step before."""
        return 0


class Journal:
    """Appends to `run_dir/journal.jsonl`; whole lines, from any thread."""

    def __init__(self, run_dir: Path) -> None:
        self._last_steps = _last_steps(run_dir / JOURNAL_NAME)
        self._line = _Line(run_dir / JOURNAL_NAME)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends the metrics of a step; returns at once.

        A run that goes on from a checkpoint comes by the steps after it a second time; a point
        that is there already is left out, so that each stands once in a curve. Steps of a metric
        count up, hence it is enough to know its last one.
        """
        with self._lock:
            last = self._last_steps
            fresh = {k: float(v) for k, v in metrics.items() if step > last.get(k, step - 1)}
            if not fresh:
                return
            self._line.append({"step": step, "time_ms": now_ms(), "metrics": fresh})
            last.update(dict.fromkeys(fresh, step))

    def write_file(self, path: Path, artifact: str) -> None:
        """Has a file copied to the run's artifacts as `artifact` (folder/name); returns at once.

        A file that is gone when its turn comes was replaced by a later one, and is left out.
        """
        with self._lock:
            self._line.append(file_record(path, artifact))

    def next_step(self, prefix: str) -> int:
        """The step after the last of all metrics whose names begin with `prefix`; 0 at first."""
        with self._lock:
            steps = [step for key, step in self._last_steps.items() if key.startswith(prefix)]
        return max(steps, default=-1) + 1


class _Line:
    """Appends whole lines to a file: one system call each, so that a reader, a second writer
    or a kill never sees two lines mixed.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._failed = path, False
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._torn = _ends_within_a_line(path)

    def append(self, record: Record) -> None:
        # A torn line is closed rather than cut off: readers skip it, and who writes at the
        # same time loses nothing.
        data = (("\n" if self._torn else "") + json.dumps(record) + "\n").encode()
        try:
            self._torn = os.write(self._file, data) < len(data)
        except OSError as error:  # a full disk; the next checkpoint will fail with it
            self._torn = True
            if not self._failed:
                sys.stderr.write(f"{self._path} cannot be written to: {error.strerror}\n")
            self._failed = True

    def close(self) -> None:
        os.close(self._file)


def append(run_dir: Path, *records: Record) -> None:
    """Appends records to a run's journal, from outside the training that writes it."""
    line = _Line(run_dir / JOURNAL_NAME)
    try:
        for record in records:
            line.append(record)
    finally:
        line.close()


def points_record(step: int, metrics: Mapping[str, float], again: bool = False) -> Record:
    """Points of one step. again: a new point even if the step has one (an evaluation)."""
    record = {
        "step": step,
        "time_ms": now_ms(),
        "metrics": {k: float(v) for k, v in metrics.items()},
    }
    return {**record, "again": True} if again else record


def tags_record(tags: Mapping[str, str]) -> Record:
    """Facts of a run, the later ones replacing earlier ones."""
    return {"tags": dict(tags)}


def status_record(status: str, error: BaseException | None = None) -> Record:
    """The run's status from now on: RUNNING, FINISHED, FAILED or KILLED. error: what it failed
    with, recorded without secrets.
    """
    record: Record = {"status": status, "time_ms": now_ms()}
    if error is not None:
        record |= {"reason": without_secrets(str(error)), "error": type(error).__name__}
    return record


def last_status(records: Sequence[Record]) -> str | None:
    """What a journal says last of how its run stands."""
    return next((r["status"] for r in reversed(records) if "status" in r), None)


def file_record(path: Path, artifact: str, table: bool = False) -> Record:
    """A file for the run's artifacts. table: written by `write_table`, shown as one in the UI."""
    record = {"file": str(path), "artifact": artifact}
    return {**record, "table": True} if table else record


def write_table(path: Path, columns: Mapping[str, list[Any]]) -> None:
    """Writes a table of columns of one length as MLflow's UI shows it, side by side for runs."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    value = {"columns": list(columns), "data": rows}
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def now_ms() -> int:
    """Now, in milliseconds since 1970, as MLflow counts."""
    return time.time_ns() // 1_000_000


def read_batches(path: Path, start: int) -> Iterator[tuple[list[Record], int]]:
    """Whole lines from byte `start` on: batches of records, and the byte after each batch."""
    with path.open("rb") as file:
        file.seek(start)
        records, end, lines = [], start, 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            lines += 1
            record = _parse(line)
            if record is not None:
                records.append(record)
            if lines == _BATCH:
                yield records, end
                records, lines = [], 0
        if lines:
            yield records, end


def follow(path: Path, start: int) -> tuple[list[Record], int]:
    """Records appended since byte `start`, and where to go on: for whoever watches a training."""
    if not path.is_file():
        return [], start
    records: list[Record] = []
    for batch, end in read_batches(path, start):
        records += batch
        start = end
    return records, start


def _parse(line: bytes) -> Record | None:
    """The record of a line; None for one that a kill tore."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _last_steps(path: Path) -> dict[str, int]:
    """The last step of every metric that a journal holds."""
    last: dict[str, int] = {}
    if path.is_file():
        for records, _ in read_batches(path, 0):
            for record in records:
                for key in record.get("metrics", ()):
                    last[key] = max(record["step"], last.get(key, record["step"]))
    return last
