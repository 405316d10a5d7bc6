"""A sweep's rows as they stand: what was measured, beside what was reported, and their order.

Read from the rows' folders, so that it is the same whichever command made them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from quickdraw_core.diagnosis.curves import Curves, read_curves, read_failure
from quickdraw_core.diagnosis.diagnosis import Findings, diagnose
from quickdraw_core.errors import TrainingError
from quickdraw_core.metrics.comparison_text import markdown_table
from quickdraw_core.metrics.metric_info import METRICS
from quickdraw_core.metrics.metrics import LOWER_IS_BETTER, Estimate
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.rows import has_diverged, is_finished, run_record_of
from quickdraw_core.tracking.journal import JOURNAL_NAME, Record, follow

Verdict = Literal["agrees", "differs", "open"]


@dataclass(frozen=True, eq=False)
class RowResult:
    """A row as it stands.

    measured: the table's metric of the held-out drawings, with its 95 % interval; None where the
    row is not finished. scores: all metrics. seconds: of training, over all attempts, from the
    start of the processes to their end. images_per_second: the curve's median. failure: why it
    is not finished, in a line: by this command, or by an earlier one that tried. diverged: a row
    shown as failed that has no score, since it failed for good. findings: what the curves of a
    row that is done say is wrong.
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
    """Two compared rows and whether their measured order is the reported one.

    upper is the one reported higher (or the first, where both are reported equal).
    """

    upper: RowResult
    lower: RowResult
    verdict: Verdict

    @property
    def equal(self) -> bool:
        """Whether the report tells no difference between the two."""
        return self.upper.reported == self.lower.reported


@dataclass(frozen=True)
class SweepResult:
    """What a sweep says of itself. folder: where table and figures are."""

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

    @property
    def best(self) -> RowResult | None:
        """The finished row with the best measured value; None where none is finished."""
        sign = 1 if self.metric in LOWER_IS_BETTER else -1
        done = [row for row in self.rows if row.measured is not None]
        return min(done, key=lambda row: sign * _value(row), default=None)

    @property
    def failed(self) -> tuple[RowResult, ...]:
        """Rows that were tried and are not finished."""
        return tuple(row for row in self.rows if row.failure is not None)


class SweepError(TrainingError):
    """Rows of a sweep failed; the others are finished and stand in `result`."""

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


def read_row(sweep: Sweep, row: PlannedRow, failure: str | None = None) -> RowResult:
    """A row from its folder. failure: why this command did not finish it."""
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


def training_seconds(records: Sequence[Record]) -> float:
    """Seconds of all attempts that a journal tells of.

    An attempt begins with RUNNING and ends with another status; one that was killed ends with
    the last that it wrote. What an evaluation added later is none of it.
    """
    total_ms, begun, last = 0, None, 0
    for record in records:
        status = record.get("status")
        if status == "RUNNING":
            total_ms += last - begun if begun is not None else 0
            begun = last = record["time_ms"]
        elif begun is not None and "time_ms" in record and not record.get("again"):
            last = record["time_ms"]
            if status is not None:
                total_ms, begun = total_ms + last - begun, None
    return (total_ms + (last - begun if begun is not None else 0)) / 1_000


def compare_orders(rows: Sequence[RowResult]) -> tuple[Pair, ...]:
    """Every two finished rows with a reported number: is the measured order that one?

    Where the report tells a difference: `agrees` and `differs` need intervals that do not
    overlap, else it stays `open`. Where it tells none, they should overlap. Overlap asks more
    than a test of the two on the same drawings would.
    """
    compared = [row for row in rows if row.measured and row.reported is not None]
    pairs = []
    for one, other in combinations([row for row in compared if not row.shown_as_failed], 2):
        assert one.reported is not None
        assert other.reported is not None
        upper, lower = (one, other) if one.reported >= other.reported else (other, one)
        pairs.append(Pair(upper, lower, _verdict(upper, lower)))
    return tuple(pairs)


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


def order_lines(result: SweepResult) -> list[str]:
    """What can be said of the order, in sentences."""
    told = [pair for pair in result.pairs if not pair.equal]
    equal = [pair for pair in result.pairs if pair.equal]
    lines = []
    if told:
        count = {v: sum(pair.verdict == v for pair in told) for v in ("agrees", "differs", "open")}
        lines.append(
            f"Of {len(told)} pairs of rows that the report tells apart, {count['agrees']} stand "
            f"in its order, {count['differs']} in the other, and of {count['open']} the "
            "intervals overlap."
        )
    if equal:
        same = sum(pair.verdict == "agrees" for pair in equal)
        lines.append(
            f"Of {len(equal)} pairs that it gives the same number, {same} have intervals that "
            "overlap."
        )
    lines += [
        f"Otherwise than reported: {pair.lower.name} "
        f"({interval_text(pair.lower.measured, result.metric)}) is above {pair.upper.name} "
        f"({interval_text(pair.upper.measured, result.metric)})."
        if not pair.equal
        else _apart_line(pair, result.metric)
        for pair in result.pairs
        if pair.verdict == "differs"
    ]
    return lines


def _apart_line(pair: Pair, metric: str) -> str:
    rows = sorted((pair.upper, pair.lower), key=lambda row: -_value(row))
    return (
        f"Reported as equal: {rows[0].name} ({interval_text(rows[0].measured, metric)}) is above "
        f"{rows[1].name} ({interval_text(rows[1].measured, metric)})."
    )


def _value(row: RowResult) -> float:
    assert row.measured is not None
    return row.measured.value


def table_of(result: SweepResult, settings: bool = True) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table, as texts for people. settings: with network, loss and so on."""
    has_report = any(row.reported is not None for row in result.rows)
    heads = ["row", *(["network", "loss", "optimizer", "schedule"] if settings else [])]
    heads += ["reported"] if has_report else []
    heads += [result.metric, "95 % interval"]
    heads += ["order"] if has_report else []
    heads += ["time", "images/s"]
    lines = []
    for row in result.rows:
        cells = [row.name]
        cells += [row.model, row.loss, row.optimizer, row.schedule] if settings else []
        if has_report:
            cells.append(_reported(row.reported, result.metric))
        if row.measured is None:
            cells += [_unmeasured(row), ""]
        else:
            cells += [
                METRICS[result.metric].shown(row.measured.value),
                interval_text(row.measured, result.metric),
            ]
        cells += [_order(row, result.pairs)] if has_report else []
        cells += [_time(row.seconds), f"{row.images_per_second:,.0f}" if row.seconds else ""]
        lines.append(cells)
    return heads, lines


def interval_text(found: Estimate | None, metric: str) -> str:
    """An interval from its lower to its upper end."""
    return "" if found is None else METRICS[metric].shown(found.low, found.high)


def markdown_of(result: SweepResult) -> str:
    """The table, what can be said of it, and its figures, as `table.md`."""
    heads, rows = table_of(result)
    lines = [f"# Sweep {result.table}", "", result.description, ""]
    lines += markdown_table(heads, rows)
    lines += [
        "",
        f"`{result.metric}` on {result.per_class} held-out drawings a class, with 95 % bootstrap "
        "intervals; time of training with its validations, over all attempts; images a second: "
        "the median of the curve.",
    ]
    if result.pairs:
        lines += [
            "Order: pairs with the other rows in which a row stands as reported.",
            "",
            *[f"- {line}" for line in order_lines(result)],
        ]
    failed = [f"- {row.name}: {row.failure}" for row in result.failed]
    lines += ["", "Failed:", "", *failed] if failed else []
    found = [f"- {row.name}: {finding}" for row in result.rows for finding in row.findings]
    lines += ["", "What the curves say:", "", *found] if found else []
    for path in result.figures:
        if path.suffix == ".png":
            lines += ["", f"![{path.stem.replace('-', ' ')}]({path.relative_to(result.folder)})"]
    return "\n".join(lines) + "\n"


def json_of(result: SweepResult) -> dict[str, Any]:
    """All numbers as plain values."""
    return {
        "table": result.table,
        "description": result.description,
        "metric": result.metric,
        "per_class": result.per_class,
        "rows": [
            {
                "name": row.name,
                "model": row.model,
                "loss": row.loss,
                "optimizer": row.optimizer,
                "schedule": row.schedule,
                "reported": row.reported,
                "shown_as_failed": row.shown_as_failed,
                "scores": {name: found._asdict() for name, found in row.scores.items()},
                "seconds": row.seconds,
                "images_per_second": row.images_per_second,
                "failure": row.failure,
                "diverged": row.diverged,
                "findings": [asdict(finding) for finding in row.findings],
                "run": row.run_dir.name,
                "mlflow_run_id": row.mlflow_run_id,
            }
            for row in result.rows
        ],
        "order": [
            {"reported_higher": p.upper.name, "reported_lower": p.lower.name,
             "reported_equal": p.equal, "verdict": p.verdict}
            for p in result.pairs
        ],
        "order_in_words": order_lines(result),
    }  # fmt: skip


def _unmeasured(row: RowResult) -> str:
    if row.diverged:
        return "diverged"
    return "failed" if row.failure else "not finished"


def _reported(value: float | None, metric: str) -> str:
    """Somebody else's number, with as many digits as it was given with."""
    if value is None:
        return ""
    return f"{100 * value:g} %" if METRICS[metric].is_share else f"{value:g}"


def _order(row: RowResult, pairs: Sequence[Pair]) -> str:
    if row.shown_as_failed:
        return "shown on purpose"
    mine = [pair for pair in pairs if row in (pair.upper, pair.lower)]
    return f"{sum(pair.verdict == 'agrees' for pair in mine)} of {len(mine)}" if mine else ""


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
