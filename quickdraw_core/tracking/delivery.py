"""Delivers a run's journal to MLflow: while it grows, at the end, and whenever it is asked again.

`journal.jsonl.sent` holds the byte offset up to which records were delivered, for each of two
kinds: numbers (points, tags, status), and files, so that a large file that a server refuses holds
up no curve. One process delivers at a time (`journal.jsonl.lock`).
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Self

from quickdraw_core.errors import TrackingError
from quickdraw_core.system.files import write_atomic
from quickdraw_core.system.locks import try_lock
from quickdraw_core.system.retries import Attempts
from quickdraw_core.tracking.address import NO_TRACKING, requested_tracking_uri
from quickdraw_core.tracking.journal import JOURNAL_NAME, Record, Send, read_batches
from quickdraw_core.tracking.problems import explain
from quickdraw_core.tracking.run_record import RunRecord, ensure_run

_KINDS = ("numbers", "files")
PATIENCE_SECONDS = 15.0
"""For how long the end of a training tries a server that is away."""
_BACKOFF_SECONDS, _MAX_PAUSE_SECONDS = 1.0, 8.0


@dataclass(frozen=True)
class Delivery:
    """Records sent by this call, records that still wait, and why."""

    sent: int
    waiting: int
    problem: str | None


def deliver_rest(run_dir: Path, patience_seconds: float = 0.0) -> Delivery:
    """Sends what a run's journal still holds: after a training, or whenever it is asked again.

    patience_seconds: for how long a server that is away is tried again. Never raises if a server
    is away or refuses: that is the `problem`, and the rest waits for the next call.
    """
    spool = Spool(run_dir)
    if not spool.waiting():
        return Delivery(0, 0, None)
    try:
        send = sender_of(run_dir) if RunRecord.read(run_dir) else None
        if send is None:
            return Delivery(0, 0, None)
    except Exception as error:  # noqa: BLE001 — tracking never costs a trained model
        return Delivery(0, spool.waiting(), explain(error))
    thread = DeliveryThread(run_dir, send, patience_seconds=patience_seconds, tell=lambda _: None)
    with thread:
        pass
    return thread.delivery


def is_delivered(run_dir: Path, uri: str | None = None) -> bool:
    """Whether nothing of a run waits to be sent, to where it is or to a requested address (as
    `start_run` takes it). Without tracking nothing waits.
    """
    record, requested = RunRecord.read(run_dir), requested_tracking_uri(uri)
    uri = record.uri if record else NO_TRACKING
    if (requested or uri) == NO_TRACKING:
        return True
    return requested in (None, uri) and not Spool(run_dir).waiting()


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

    None without tracking. Raises `TrackingError` if the folder has no run.
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


class DeliveryThread:
    """A block during which a thread delivers a run's growing journal; at its end the rest is sent.

    send: None delivers nothing. patience_seconds: for how long a server that is away at the end
    is tried again, `PATIENCE_SECONDS` by default; what still waits then is for `deliver_rest`.
    tell: called when the server goes away and comes back. delivery: what was sent and what waits,
    once the block is left.
    """

    def __init__(
        self,
        run_dir: Path,
        send: Send | None,
        every_seconds: float = 2.0,
        patience_seconds: float | None = None,
        tell: Callable[[str], None] = _to_stderr,
    ) -> None:
        self.delivery = Delivery(0, 0, None)
        self._run_dir, self._spool, self._send, self._tell = run_dir, Spool(run_dir), send, tell
        self._every_seconds = every_seconds
        self._patience_seconds = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
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
        with sole_delivery(self._run_dir) as alone:
            if alone:
                sent, problem = self._deliver(self._send)
            else:
                sent, problem = 0, "another process is sending this run's numbers"
        self.delivery = Delivery(sent, self._spool.waiting(), problem)

    def _deliver(self, send: Send) -> tuple[int, str | None]:
        """Sends until the block is left and all is sent, or patience is over."""
        attempts = Attempts(inf, _BACKOFF_SECONDS, max_pause_seconds=_MAX_PAUSE_SECONDS)
        sent, away = 0, False
        deadline, pause = None, 0.0  # first at once: the run shows from its beginning
        while True:
            if deadline is not None:
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            elif self._closing.wait(pause):
                deadline = time.monotonic() + self._patience_seconds
                attempts.succeeded()  # short pauses again: patience is short
            more, error = self._spool.deliver(send)
            sent += more
            if error is None:
                if away:
                    self._tell("MLflow takes the numbers again; those that waited were sent")
                if deadline is not None:
                    return sent, None
                attempts.succeeded()
                away, pause = False, self._every_seconds
                continue
            if not away:
                self._tell(
                    f"MLflow does not take the numbers; they wait in {self._spool.journal}: "
                    f"{explain(error)}"
                )
            if deadline is not None and time.monotonic() >= deadline:
                return sent, f"MLflow does not take the numbers: {explain(error)}"
            away, pause = True, attempts.failed(error) or 0.0


class Spool:
    """A run's journal, and how much of each kind of record has been delivered."""

    def __init__(self, run_dir: Path) -> None:
        self.journal = run_dir / JOURNAL_NAME
        self._sent_path = run_dir / f"{JOURNAL_NAME}.sent"

    def waiting(self) -> int:
        """Records that have not been delivered."""
        if not self.journal.is_file():
            return 0
        size = self.journal.stat().st_size
        return sum(
            len(_of(kind, records))
            for kind, offset in self._offsets().items()
            if offset < size
            for records, _ in read_batches(self.journal, offset)
        )

    def deliver(self, send: Send) -> tuple[int, Exception | None]:
        """Sends what is new, kind by kind: records sent, and what went wrong."""
        if not self.journal.is_file():
            return 0, None
        sent, offsets, problem = 0, self._offsets(), None
        for kind in _KINDS:
            for records, end in self._batches(kind, offsets[kind]):
                try:
                    if records:
                        send(records)
                    write_atomic(self._sent_path, json.dumps(offsets | {kind: end}), sync=False)
                except Exception as error:  # noqa: BLE001 — tracking never stops training
                    problem = problem or error
                    break
                sent += len(records)
                offsets[kind] = end
        return sent, problem

    def _batches(self, kind: str, start: int) -> Iterator[tuple[list[Record], int]]:
        batches = read_batches(self.journal, start)
        if kind == "numbers":
            yield from ((_of(kind, records), end) for records, end in batches)
            return
        # Files are few, and the last of a name counts: all that wait are one batch.
        files, end = [], start
        for records, after in batches:
            files += _of(kind, records)
            end = after
        if end > start:
            yield files, end

    def _offsets(self) -> dict[str, int]:
        """The byte up to which each kind was delivered; 0 if that is unknown."""
        try:
            value = json.loads(self._sent_path.read_text("utf-8"))
            offsets = {kind: int(value[kind]) for kind in _KINDS}
            if max(offsets.values()) <= self.journal.stat().st_size:
                return offsets
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return dict.fromkeys(_KINDS, 0)


def _of(kind: str, records: list[Record]) -> list[Record]:
    return [r for r in records if ("file" in r or "model" in r) == (kind == "files")]


@contextmanager
def sole_delivery(run_dir: Path) -> Iterator[bool]:
    """Whether this block alone delivers. A killed process holds no lock."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / f"{JOURNAL_NAME}.lock").open("w") as file:
        yield try_lock(file.fileno()) is True
