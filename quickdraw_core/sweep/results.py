"""A sweep's rows: what was measured, beside what was reported, and their order.

Read from the rows' folders, so the result is the same whichever command trained them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from quickdraw_core.diagnosis.cost import training_seconds
from quickdraw_core.diagnosis.curves import Curves, read_curves, read_failure
from quickdraw_core.diagnosis.diagnosis import Findings, diagnose
from quickdraw_core.errors import TrainingError
from quickdraw_core.metrics.metrics import METRICS, Estimate
from quickdraw_core.sweep.learning_curve import LearningCurve, Point
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.rows import has_diverged, is_finished, run_record_of
from quickdraw_core.sweep.table import differ_in_drawings_alone
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow

Verdict = Literal["agrees", "differs", "open"]


@dataclass(frozen=True, eq=False)
class RowResult:
    """What a row reached so far.

    measured: the table's metric on the held-out drawings, with its 95 % interval; None if the
    row is not finished. scores: all metrics. seconds: of training, over all attempts.
    images_per_second: the curve's median. failure: why this or an earlier command did not finish
    it, in a line. diverged: the row is shown as failed, and its training diverged as expected.
    findings: what the curves of a row that is done say is wrong.
    """

    name: str
    model: str
    loss: str
    optimizer: str
    schedule: str
    reported: float | None
    shown_as_failed: bool
    measured: Estimate | None
    scores: Mapping[str, Estimate]
    seconds: float | None
    images_per_second: float | None
    failure: str | None
    run_dir: Path
    mlflow_run_id: str
    curves: Curves
    diverged: bool = False
    findings: Findings = ()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train or judge."""
        return self.diverged or self.measured is not None


class Pair(NamedTuple):
    """Two rows, and whether their measured order is the reported one.

    upper: the row reported higher, or the first if both are reported equal.
    """

    upper: RowResult
    lower: RowResult
    verdict: Verdict

    @property
    def equal(self) -> bool:
        """Whether the report gives both the same number."""
        return self.upper.reported == self.lower.reported


@dataclass(frozen=True)
class SweepResult:
    """What all rows reached. folder: where table and figures are. learning_curves: of the
    table's metric, and of others that were published; none if rows differ in more than drawings.
    """

    table: str
    description: str
    metric: str
    per_class: int
    folder: Path
    rows: tuple[RowResult, ...]
    pairs: tuple[Pair, ...]
    figures: tuple[Path, ...]
    mlflow_run_id: str
    tracking_uri: str
    tracking_problem: str | None
    learning_curves: tuple[LearningCurve, ...] = ()

    @property
    def best(self) -> RowResult | None:
        """The finished row with the best measured value; None if none is finished."""
        sign = 1 if METRICS[self.metric].lower_is_better else -1
        finished = [row for row in self.rows if row.measured is not None]
        return min(finished, key=lambda row: sign * measured_value(row), default=None)

    @property
    def failed(self) -> tuple[RowResult, ...]:
        """Rows that were tried and are not finished."""
        return tuple(row for row in self.rows if row.failure is not None)


class SweepError(TrainingError):
    """Rows of a sweep failed; `result` has the others too."""

    def __init__(self, result: SweepResult) -> None:
        names = ", ".join(repr(row.name) for row in result.failed)
        first = result.failed[0]
        super().__init__(
            f"{len(result.failed)} of {len(result.rows)} rows failed: {names} ({first.failure}); "
            "the same command (without --fresh) trains only what is missing"
        )
        self.result = result

    def __reduce__(self) -> tuple[type["SweepError"], tuple[SweepResult]]:
        return SweepError, (self.result,)


def measured_value(row: RowResult) -> float:
    """The measured value of a finished row."""
    assert row.measured is not None
    return row.measured.value


def read_row(sweep: Sweep, row: PlannedRow, failure: str | None = None) -> RowResult:
    """Reads a row's result from its folder. failure: why this command did not finish it."""
    scores: dict[str, Estimate] = {}
    if is_finished(sweep, row):
        values = json.loads((row.run_dir / "evaluation" / "evaluation.json").read_text("utf-8"))
        scores = {
            name: Estimate(**value)
            for name, value in values.items()
            if isinstance(value, dict) and set(value) == set(Estimate._fields)
        }
    journal = row.run_dir / JOURNAL_NAME
    curves = read_curves(row.run_dir) if journal.is_file() else {}
    ended, diverged = read_failure(row.run_dir), not scores and has_diverged(row)
    speed, record = curves.get("train/images_per_second"), run_record_of(row)
    config = row.config
    return RowResult(
        name=row.name,
        model=config.model.name,
        loss=config.loss.name,
        optimizer=config.optimizer.name,
        schedule=config.schedule.name,
        reported=row.row.reported,
        shown_as_failed=row.row.shown_as_failed,
        measured=scores.get(sweep.table.metric),
        scores=scores,
        seconds=training_seconds(follow(journal, 0)[0]) if scores else None,
        images_per_second=float(np.median(speed.values)) if speed and scores else None,
        failure=failure or (ended.reason if ended and not (scores or diverged) else None),
        run_dir=row.run_dir,
        mlflow_run_id=record.run_id if record is not None else "",
        curves=curves,
        diverged=diverged,
        findings=diagnose(curves, row.classes, diverged) if scores or diverged else (),
    )


def compare_orders(rows: Sequence[RowResult]) -> tuple[Pair, ...]:
    """Compares the measured order of every two finished rows with the reported one.

    If the report ranks the two, `agrees` and `differs` need intervals that do not overlap;
    otherwise the verdict is `open`. If it gives both the same number, they agree if the
    intervals overlap. This asks more than a test on the same drawings would.
    """
    reported = [
        (row.reported, row)
        for row in rows
        if row.measured and row.reported is not None and not row.shown_as_failed
    ]
    pairs = []
    for (one, first), (other, second) in combinations(reported, 2):
        upper, lower = (first, second) if one >= other else (second, first)
        pairs.append(Pair(upper, lower, _verdict(upper, lower)))
    return tuple(pairs)


def learning_curves(sweep: Sweep, results: Sequence[RowResult]) -> tuple[LearningCurve, ...]:
    """The metric against the drawings a class, if rows differ in `select.per_class` alone.

    A curve for the table's metric, which comes first, and one for each that it has published
    values of. Rows that are shown as failed have no part in it.
    """
    rows = [row for row in sweep.rows if not row.row.shown_as_failed]
    table = sweep.table
    if not differ_in_drawings_alone(table, {row.name: row.config for row in sweep.rows}):
        return ()
    scores = {row.name: row.scores for row in results}
    curves = []
    for metric in dict.fromkeys([table.metric, *(value.metric for value in table.published)]):
        points = [
            Point(row.name, row.drawings / row.classes, scores[row.name][metric])
            for row in rows
            if metric in scores[row.name]
        ]
        curves.append(LearningCurve.of(metric, points, rows[0].classes, table.published))
    return tuple(curves)


def _verdict(upper: RowResult, lower: RowResult) -> Verdict:
    above, below = upper.measured, lower.measured
    assert above is not None
    assert below is not None
    apart = above.low > below.high or below.low > above.high
    if upper.reported == lower.reported:
        return "differs" if apart else "agrees"
    if not apart:
        return "open"
    return "agrees" if above.value > below.value else "differs"
