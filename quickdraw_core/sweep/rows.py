"""A row of a sweep: trained and judged in a folder of its own, unless that was done before."""

import json
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from quickdraw_core.diagnosis.curves import ended_diverged
from quickdraw_core.errors import DivergedError, TrackingError
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.inference.options import Precision
from quickdraw_core.launching.processes import RunContext
from quickdraw_core.launching.train import train
from quickdraw_core.progress import progress, report_to, reporter_of
from quickdraw_core.stage import Opened
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.row_slots import Slot
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    append,
    follow,
    last_status,
    tags_record,
)
from quickdraw_core.tracking.run_record import PARENT_TAG, RunRecord, tracked_run_id
from quickdraw_core.training.checkpoint import find_checkpoint

SWEEP_TAG, ROW_TAG = "quickdraw.sweep", "quickdraw.sweep_row"


@dataclass(frozen=True)
class PreparedRow:
    """A row that can begin. opened: what all rows share, such as the store."""

    sweep: Sweep
    planned: PlannedRow
    opened: Opened

    def finished(self) -> str | None:
        """A note if nothing is left to do; None if something is."""
        done = is_finished(self.sweep, self.planned) or has_diverged(self.planned)
        return "finished before" if done else None

    def run(
        self,
        slot: Slot,
        stopping: threading.Event | None = None,
        turn: AbstractContextManager[object] | None = None,
    ) -> str:
        """Trains and judges the row, continuing what was begun; returns the outcome in words.

        stopping: once it is set, the row ends as by Ctrl-C. turn: a lock held while judging, so
        that rows that run at once judge one after the other. Raises what `train` and `evaluate`
        raise, except the `DivergedError` of a row shown as failed.
        """
        row, sweep = self.planned, self.sweep
        context = RunContext(slot.environment(os.environ), _row_tags(sweep, row), stopping)
        opened = self.opened.branch()  # what the row opens is released with it
        try:
            _require_going_on(stopping)
            train(row.config, context, opened)
        except DivergedError:
            if not has_diverged(row):
                raise
            return "diverged, shown as failed"
        with turn or nullcontext():
            _require_going_on(stopping)
            judged = evaluate(sweep.judging(row), stopping, opened)
        return f"{sweep.table.metric} {judged.scores[sweep.table.metric].value:.4f}"


def run_row(
    sweep: Sweep,
    name: str,
    opened: Opened,
    slot: Slot | None = None,
    stopping: threading.Event | None = None,
    turn: AbstractContextManager[object] | None = None,
) -> None:
    """Does what is left of a row, and puts its run beneath the sweep's in MLflow.

    Raises what `PreparedRow.run` raises.
    """
    row = PreparedRow(sweep, sweep.row(name), opened)
    with progress(name, 1, "rows") as bar:
        with report_to(reporter_of(name)) if len(sweep.slots) > 1 else nullcontext():
            bar.note(row.finished() or row.run(slot or Slot(), stopping, turn))
        nest(sweep, row.planned)
        bar.advance(1)


def _require_going_on(stopping: threading.Event | None) -> None:
    if stopping is not None and stopping.is_set():
        raise KeyboardInterrupt


def is_finished(sweep: Sweep, row: PlannedRow) -> bool:
    """Whether a row is trained, judged on these drawings, and its run has the scores."""
    best = find_checkpoint(row.run_dir, "best")
    records, _ = follow(row.run_dir / JOURNAL_NAME, 0)
    if best is None or last_status(records) != "FINISHED":
        return False
    record = run_record_of(row)
    score = f"test/{sweep.table.metric}"
    has_score = any(score in record.get("metrics", ()) for record in records)
    if (
        record is not None
        and sweep.uri != NO_TRACKING
        and record.uri == sweep.uri
        and not has_score
    ):
        return False
    try:
        judged = json.loads((row.run_dir / "evaluation" / "evaluation.json").read_text("utf-8"))
        facts = judged["evaluated"]
        step = int(facts["step"].replace(",", ""))
        of = ("store_fingerprint", "per_class", "tta", "average", "precision")
        same = tuple(facts[name] for name in of)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    expected = (sweep.store_fingerprint, str(sweep.per_class), "none", "1", Precision.FP32)
    return same == expected and best.stem == f"step-{step:08d}"


def has_diverged(row: PlannedRow) -> bool:
    """Whether a row shown as failed has diverged: the same again comes to the same end."""
    return row.row.shown_as_failed and ended_diverged(row.run_dir)


def run_record_of(row: PlannedRow) -> RunRecord | None:
    """The run record of a row; None as well if it is damaged, which training the row reports."""
    try:
        return RunRecord.read(row.run_dir)
    except TrackingError:
        return None


def nest(sweep: Sweep, row: PlannedRow) -> str | None:
    """Puts a row's run beneath the parent in MLflow if it began before the parent was known, and
    sends the rest of its journal; returns why that failed, or None.
    """
    parent, record = tracked_run_id(sweep.path), run_record_of(row)
    if sweep.uri == NO_TRACKING or not parent or record is None:
        return None
    if record.tags.get(PARENT_TAG) != parent:
        replace(record, tags=record.tags | {PARENT_TAG: parent}).write(row.run_dir)
        append(row.run_dir, tags_record({PARENT_TAG: parent}))
    return deliver_rest(row.run_dir).problem


def deliver(sweep: Sweep) -> str | None:
    """Sends the rest of the parent's journal; returns why that failed, or None."""
    return None if sweep.uri == NO_TRACKING else deliver_rest(sweep.path).problem


def _row_tags(sweep: Sweep, row: PlannedRow) -> dict[str, str]:
    parent = tracked_run_id(sweep.path)
    tags = {SWEEP_TAG: sweep.path.name, ROW_TAG: row.name}
    return tags | ({PARENT_TAG: parent} if parent else {})
