"""A run's curves, as its journal or MLflow holds them: of the training and its validations.

Names are the journal's: `train/loss`, `train/learning_rate`, `train/images_per_second`,
`train/data_wait_share`, `train/epoch`, and `validation/` with `loss`, `map_at_3`,
`map_at_3_class_mean`, `top_1` and `top_3`. A point of `train/loss` is the mean over the steps
since the point before it; steps are optimiser steps, counted from 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import DivergedError
from quickdraw_core.tracking.journal import CURVES, JOURNAL_NAME, Record, read_batches


@dataclass(frozen=True)
class Curve:
    """One number over the training. steps: int64 [n], rising; values: float64 [n]."""

    steps: Int64Array
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


Curves = Mapping[str, Curve]


def read_curves(run_dir: Path) -> dict[str, Curve]:
    """The curves in a run folder's journal; none if it has no journal.

    Lines that a kill tore are passed over, and a step that a resumed run came by twice counts
    once, with its first value, as in MLflow.
    """
    journal = run_dir / JOURNAL_NAME
    points: dict[str, dict[int, float]] = {}
    if journal.is_file():
        for records, _ in read_batches(journal, 0):
            for record in records:
                metrics = record.get("metrics")
                for name, value in metrics.items() if isinstance(metrics, dict) else ():
                    if name.startswith(CURVES):
                        points.setdefault(name, {}).setdefault(int(record["step"]), float(value))
    return {name: curve_of(values.items()) for name, values in points.items()}


@dataclass(frozen=True)
class Failure:
    """What the last attempt of a training failed with. error: the name of its class."""

    reason: str
    error: str


def read_failure(run_dir: Path) -> Failure | None:
    """What the last attempt of a run failed with; None if it did not fail."""
    journal = run_dir / JOURNAL_NAME
    failure = None
    if journal.is_file():
        for records, _ in read_batches(journal, 0):
            for record in records:
                if "status" in record:
                    failure = _failure_of(record)
    return failure


def ended_diverged(run_dir: Path) -> bool:
    """Whether the last attempt of a run failed since loss or weights were no longer finite."""
    failure = read_failure(run_dir)
    return failure is not None and failure.error == DivergedError.__name__


def _failure_of(record: Record) -> Failure | None:
    reason = record.get("reason")
    if reason is None:
        return None
    # Journals of earlier versions hold no class of the error.
    unnamed = DivergedError.__name__ if "training diverged" in reason else ""
    return Failure(reason, record.get("error", unnamed))


def curve_of(points: Iterable[tuple[int, float]]) -> Curve:
    """The curve through (step, value) points of different steps, in any order."""
    ordered = sorted(points)
    return Curve(
        np.array([step for step, _ in ordered], np.int64),
        np.array([value for _, value in ordered], np.float64),
    )
