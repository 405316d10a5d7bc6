"""Brings a run's journal to MLflow: while it grows, at the end, and whenever it is asked again.

What was sent is noted beside the journal, in `journal.jsonl.sent`, as the byte up to which each
of two lanes has been delivered: numbers (points, tags, status), and files, so that a large file
that a server refuses holds up no curve. One process delivers at a time (`journal.jsonl.lock`).
"""

import fcntl
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from quickdraw_core.errors import TrackingError
from quickdraw_core.system.files import write_aside
from quickdraw_core.tracking.address import (
    NO_TRACKING,
    check_address,
    requested_tracking_uri,
    resolve_tracking_uri,
)
from quickdraw_core.tracking.journal import JOURNAL_NAME, Record, Send, read_batches
from quickdraw_core.tracking.problems import explain, problem_at
from quickdraw_core.tracking.run_record import (
    RunRecord,
    brief_requests,
    ensure_run,
    find_run,
    new_run_record,
)

_LANES = ("numbers", "files")
_RETRY_SECONDS = (1, 2, 4, 8)


@dataclass(frozen=True)
class TrackedRun:
    """Where a run's numbers go. run_id: empty as long as no server has it (see `problem`)."""

    uri: str
    run_id: str
    problem: str | None


@dataclass(frozen=True)
class Delivery:
    """Records sent by this call, records that still wait, and why."""

    sent: int
    waiting: int
    problem: str | None


def start_run(
    run_dir: Path, uri: str | None, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> TrackedRun:
    """Writes what a run is into its folder (`record_run`), and makes it in MLflow if that answers;
    a server that is away is a `problem`, and the run is made when it answers.
    """
    noted = record_run(run_dir, uri, name, params, tags)
    record = RunRecord.read(run_dir)
    if noted.uri == NO_TRACKING or record is None:
        return noted
    run_id, problem = _try_run(run_dir, record)
    return TrackedRun(record.uri, run_id, noted.problem or problem)


def record_run(
    run_dir: Path, uri: str | None, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> TrackedRun:
    """Writes what a run is into its folder; who first delivers to it makes it.

    A folder that has a run keeps it: its tags become those of this attempt, and a param that
    changed becomes a tag. uri: where asked for, else `MLFLOW_TRACKING_URI`, else where the run
    is already, else the default; where another address than before is asked for, that is looked
    at. Raises `TrackingError` where an address is asked for that can never work.
    """
    record = RunRecord.read(run_dir)
    asked = requested_tracking_uri(uri)
    if record is None:
        asked = asked or resolve_tracking_uri(None)
        record = new_run_record(asked, name, params, tags)
    else:
        new = new_run_record(record.uri, name, params, tags)
        record = replace(record, params=new.params, tags=new.tags)
    if asked:
        check_address(asked)
    moved = None
    if asked and asked != record.uri:
        record, moved = _moved(record, asked)
    record.write(run_dir)
    if NO_TRACKING in (record.uri, asked):
        return TrackedRun(NO_TRACKING, record.run_id, None)
    return TrackedRun(record.uri, record.run_id, moved)


def deliver_rest(run_dir: Path, patience_seconds: float = 0.0) -> Delivery:
    """Sends what a run's journal still holds: after a training, or whenever it is asked again.

    patience_seconds: how long a server that is away is tried again. Never raises for a server
    that is away or refuses: that is the `problem`, and the rest waits for the next call.
    """
    spool = _Spool(run_dir)
    if not spool.waiting():
        return Delivery(0, 0, None)
    try:
        record = RunRecord.read(run_dir)
        if record is None or record.uri == NO_TRACKING:
            return Delivery(0, 0, None)
        send = sender_of(run_dir)
    except Exception as error:  # noqa: BLE001 — tracking never costs a trained model
        return Delivery(0, spool.waiting(), explain(error))
    with DeliveryThread(
        run_dir, send, patience_seconds=patience_seconds, tell=_to_nobody
    ) as sending:
        pass
    return sending.delivery


def is_delivered(run_dir: Path, uri: str | None = None) -> bool:
    """Whether nothing of a run waits to be sent, to where it is or to another address that is
    asked for, as `start_run` takes it; so it is without tracking.
    """
    record, asked = RunRecord.read(run_dir), requested_tracking_uri(uri)
    uri = record.uri if record else NO_TRACKING
    if asked == NO_TRACKING or (asked is None and uri == NO_TRACKING):
        return True
    return asked in (None, uri) and not _Spool(run_dir).waiting()


def send_records(uri: str, run_id: str, records: list[Record]) -> None:
    """Sends records to a run that has no folder here. Raises `TrackingError`."""
    from quickdraw_core.tracking.sender import Sender

    try:
        Sender(uri, lambda _: run_id)(records)
    except Exception as error:
        raise TrackingError(
            f"run {run_id} at {uri} was not written to: {explain(error)}; see that MLflow is there"
        ) from error


def sender_of(run_dir: Path) -> Send | None:
    """Delivers records to the run of a folder, which it makes when it is first needed.

    None without tracking. Raises `TrackingError` where the folder has no run.
    """
    record = RunRecord.read(run_dir)
    if record is None:
        raise TrackingError(f"{run_dir} holds no run to send numbers to; train again with --fresh")
    if record.uri == NO_TRACKING:
        return None
    from quickdraw_core.tracking.sender import Sender

    return Sender(record.uri, lambda mlflow: ensure_run(mlflow, run_dir))


def delivery_thread(run_dir: Path, uri: str) -> "DeliveryThread":
    """Delivers the journal of a started run; does nothing if its address is `none`."""
    return DeliveryThread(run_dir, None if uri == NO_TRACKING else sender_of(run_dir))


def _to_stderr(text: str) -> None:
    with suppress(OSError, AttributeError):  # nobody reads there, or it is closed
        sys.stderr.write(text + "\n")


def _to_nobody(text: str) -> None:
    pass


class DeliveryThread:
    """Has a thread deliver a run's journal while it grows; on leaving, sends what is left.

    send: None delivers nothing. patience_seconds: how long a server that is away at the end is
    tried again; what it has not got then waits for `deliver_rest`. tell: is told when the server
    goes away and comes back. delivery: what was sent and what waits, once the block is left.
    """

    def __init__(
        self,
        run_dir: Path,
        send: Send | None,
        every_seconds: float = 2.0,
        patience_seconds: float = 15.0,
        tell: Callable[[str], None] = _to_stderr,
    ) -> None:
        self.delivery = Delivery(0, 0, None)
        self._spool, self._send, self._tell = _Spool(run_dir), send, tell
        self._every_seconds, self._patience_seconds = every_seconds, patience_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quickdraw-delivery", daemon=True)

    def __enter__(self) -> Self:
        if self._send is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._send is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._send is not None
        with self._spool.alone() as alone:
            if alone:
                sent, problem = self._deliver(self._send)
            else:
                sent, problem = 0, "another process is sending this run's numbers"
        self.delivery = Delivery(sent, self._spool.waiting(), problem)

    def _deliver(self, send: Send) -> tuple[int, str | None]:
        """Sends until the block is left and all is sent, or patience is at its end."""
        failures = sent = 0
        deadline, wait = None, 0.0  # the first time at once: the run is seen from its beginning
        while True:
            pause = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1]
            if deadline is not None:
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            elif self._closing.wait(pause if failures else wait):
                deadline = time.monotonic() + self._patience_seconds
                failures = min(failures, 1)
            more, error = self._spool.deliver(send)
            sent, wait = sent + more, self._every_seconds
            if error is not None and not failures:
                self._tell(
                    f"MLflow does not take the numbers; they wait in {self._spool.journal}: "
                    f"{explain(error)}"
                )
            if error is None and failures:
                self._tell("MLflow takes the numbers again; those that waited were sent")
            failures = 0 if error is None else failures + 1
            if deadline is not None and (error is None or time.monotonic() >= deadline):
                return (
                    sent,
                    None
                    if error is None
                    else f"MLflow does not take the numbers: {explain(error)}",
                )


class _Spool:
    """A run's journal, and how much of each lane has been delivered."""

    def __init__(self, run_dir: Path) -> None:
        self.journal = run_dir / JOURNAL_NAME
        self._mark = run_dir / f"{JOURNAL_NAME}.sent"
        self._lock = run_dir / f"{JOURNAL_NAME}.lock"

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this block alone delivers. The system gives the lock back after any kill."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True

    def waiting(self) -> int:
        """Records that have not been delivered."""
        if not self.journal.is_file():
            return 0
        ends, size = self._ends(), self.journal.stat().st_size
        return sum(
            len(_of(lane, records))
            for lane, end in ends.items()
            if end < size
            for records, _ in read_batches(self.journal, end)
        )

    def deliver(self, send: Send) -> tuple[int, Exception | None]:
        """Sends what is new, lane by lane: records sent, and what went wrong."""
        if not self.journal.is_file():
            return 0, None
        sent, ends, problem = 0, self._ends(), None
        for lane in _LANES:
            for records, end in self._batches(lane, ends[lane]):
                try:
                    if records:
                        send(records)
                    # Written aside and renamed: never half a number, whenever it is killed.
                    write_aside(self._mark, json.dumps(ends | {lane: end}), sync=False)
                except Exception as error:  # noqa: BLE001 — tracking never stops training
                    problem = problem or error
                    break
                sent += len(records)
                ends[lane] = end
        return sent, problem

    def _batches(self, lane: str, start: int) -> Iterator[tuple[list[Record], int]]:
        batches = read_batches(self.journal, start)
        if lane == "numbers":
            for records, end in batches:
                yield _of(lane, records), end
            return
        # Files are few, and the last of a name counts: all that wait are one batch.
        files, end = [], start
        for records, after in batches:
            files += _of(lane, records)
            end = after
        if end > start:
            yield files, end

    def _ends(self) -> dict[str, int]:
        """The byte up to which each lane was delivered; from the start where that is unknown."""
        try:
            value = json.loads(self._mark.read_text("utf-8"))
            ends = {lane: int(value[lane]) for lane in _LANES}
        except (OSError, ValueError, KeyError, TypeError):
            return dict.fromkeys(_LANES, 0)
        size = self.journal.stat().st_size
        return ends if max(ends.values()) <= size else dict.fromkeys(_LANES, 0)


def _of(lane: str, records: list[Record]) -> list[Record]:
    if lane == "files":
        return [r for r in records if "file" in r or "model" in r]
    return [r for r in records if "file" not in r and "model" not in r]


def _try_run(run_dir: Path, record: RunRecord) -> tuple[str, str | None]:
    """Makes the run now, if the server answers: its id, or why there is none yet."""
    from quickdraw_core.tracking.runs import client

    with _Spool(run_dir).alone() as alone:
        if not alone:  # who delivers makes it
            return record.run_id, None
        try:
            return ensure_run(client(record.uri), run_dir), None
        except Exception as error:  # noqa: BLE001 — tracking never stops training
            return record.run_id, problem_at(record.uri, error)


def _moved(record: RunRecord, uri: str) -> tuple[RunRecord, str | None]:
    """A run at another address than before: taken where the run is there, or is nowhere yet."""
    if uri == NO_TRACKING:
        return record, None  # for this attempt only
    if not record.run_id:
        return replace(record, uri=uri), None
    from quickdraw_core.tracking.runs import reader

    try:
        with brief_requests():
            found = find_run(reader(uri), record.key)
    except Exception as error:  # noqa: BLE001 — tracking never stops training
        return (
            record,
            f"{problem_at(uri, error)}; the numbers go to {record.uri} as before",
        )
    if found is None:
        return record, (
            f"the run is not in MLflow at {uri}; its numbers go to {record.uri} as before "
            "(--fresh starts a new one)"
        )
    return replace(record, uri=uri, run_id=found.info.run_id), None
