"""What a finished training says of itself, out of what it left in its run folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quickdraw_core.diagnosis.curves import read_curves
from quickdraw_core.diagnosis.diagnosis import Finding, diagnose
from quickdraw_core.errors import TrainingError
from quickdraw_core.stage import Opened
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.training.checkpoint import find_checkpoint, open_checkpoint, step_of


@dataclass(frozen=True)
class TrainResult:
    """What a finished training says of itself.

    skipped: it was finished already. notes: what went otherwise than asked for.
    tracking_problem: why MLflow does not show all of it. findings: what its curves say is wrong.
    """

    run_dir: Path
    mlflow_run_id: str
    tracking_uri: str
    best_checkpoint: Path
    metrics: dict[str, float]
    steps: int
    resumed_from: int
    skipped: bool
    notes: tuple[str, ...]
    tracking_problem: str | None
    findings: tuple[Finding, ...] = ()


def result_of(
    run_dir: Path,
    opened: Opened,
    resumed_from: int,
    skipped: bool,
    notes: Iterable[str],
    problem: str | None = None,
) -> TrainResult:
    """The result of a run folder. Raises `TrainingError` or `CheckpointError` if it has none."""
    best, last = find_checkpoint(run_dir, "best"), find_checkpoint(run_dir, "last")
    if best is None or last is None:
        raise TrainingError(f"the training ended without a checkpoint; see {run_dir / 'log.txt'}")
    record, checkpoint = RunRecord.read(run_dir), open_checkpoint(best, opened)
    classes = int(np.count_nonzero(checkpoint.train_counts))
    return TrainResult(
        run_dir=run_dir,
        mlflow_run_id=record.run_id if record else "",
        tracking_uri=record.uri if record else NO_TRACKING,
        best_checkpoint=best,
        metrics=checkpoint.metrics,
        steps=step_of(last),
        resumed_from=resumed_from,
        skipped=skipped,
        notes=tuple(notes),
        tracking_problem=problem,
        findings=diagnose(read_curves(run_dir), classes=classes),
    )
