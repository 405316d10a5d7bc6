"""The end of a sweep: writes table and figures, and sends all of it to the parent run.

Out, in the sweep's folder: `table.md`, `sweep.json`, `rows.json` (the table as MLflow shows it)
and `figures/`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from quickdraw_core.sweep.figures import draw_figures
from quickdraw_core.sweep.learning_curve import LearningCurve
from quickdraw_core.sweep.learning_curve_figure import draw_learning_curve
from quickdraw_core.sweep.plan import Sweep
from quickdraw_core.sweep.results import (
    SweepResult,
    compare_orders,
    learning_curves,
    read_row,
)
from quickdraw_core.sweep.rows import deliver, nest
from quickdraw_core.sweep.summary import order_lines, result_table, sweep_markdown
from quickdraw_core.system.files import write_atomic
from quickdraw_core.tracking.journal import (
    append,
    file_record,
    points_record,
    status_record,
    write_table,
)
from quickdraw_core.tracking.run_record import tracked_run_id

_SWEEP_FIELDS = ("table", "description", "metric", "per_class")
_ROW_FIELDS = (
    *("name", "model", "loss", "optimizer", "schedule", "reported", "shown_as_failed"),
    *("seconds", "images_per_second", "failure", "diverged", "mlflow_run_id"),
)


def finish_sweep(sweep: Sweep, failures: Mapping[str, str]) -> SweepResult:
    """Collects what all rows of the table reached, in earlier commands too.

    failures: row name → why this command did not finish it, in a line.
    """
    rows = tuple(read_row(sweep, row, failures.get(row.name)) for row in sweep.rows)
    result = SweepResult(
        table=sweep.table.name,
        description=sweep.table.description,
        metric=sweep.table.metric,
        per_class=sweep.per_class,
        folder=sweep.path,
        rows=rows,
        pairs=compare_orders(rows),
        figures=(),
        mlflow_run_id=tracked_run_id(sweep.path),
        tracking_uri=sweep.uri,
        tracking_problem=None,
        learning_curves=learning_curves(sweep, rows),
    )
    _write(result)  # the numbers are there whatever becomes of the figures
    folder = sweep.path / "figures"
    figures = draw_figures(rows, folder)
    if result.learning_curves:
        figures = draw_learning_curve(result.learning_curves[0], folder) + figures
    result = replace(result, figures=figures)
    _write(result)
    _record(result, sweep, "FAILED" if result.failed else "FINISHED")
    problems = [deliver(sweep)]
    for row in sweep.rows:  # the parent may be known by now, and MLflow back
        problem = nest(sweep, row)
        problems.append(f"row {row.name!r}: {problem}" if problem else None)
    return replace(
        result,
        mlflow_run_id=tracked_run_id(sweep.path),
        tracking_problem=next(filter(None, problems), None),
    )


def stop_sweep(sweep: Sweep) -> None:
    """Records in the parent run that its sweep was stopped."""
    append(sweep.path, status_record("KILLED"))
    deliver(sweep)


def _write(result: SweepResult) -> None:
    text = json.dumps(_json_of(result), indent=1, ensure_ascii=False) + "\n"
    write_atomic(result.folder / "sweep.json", text, sync=False)
    write_atomic(result.folder / "table.md", sweep_markdown(result), sync=False)
    heads, rows = result_table(result)
    columns = {head: [row[column] for row in rows] for column, head in enumerate(heads)}
    write_table(result.folder / "rows.json", columns)


def _record(result: SweepResult, sweep: Sweep, status: str) -> None:
    done, best = sum(row.done for row in result.rows), result.best
    metrics = {"rows": float(len(result.rows)), "rows_finished": float(done)}
    if best is not None and best.measured is not None:
        metrics[f"best_{result.metric}"] = best.measured.value
    append(
        sweep.path,
        points_record(0, metrics, again=True),
        file_record(result.folder / "table.md", "sweep/table.md"),
        file_record(result.folder / "sweep.json", "sweep/sweep.json"),
        file_record(result.folder / "rows.json", "sweep/rows.json", table=True),
        *[file_record(path, f"sweep/figures/{path.name}") for path in result.figures],
        status_record(status),
    )


def _json_of(result: SweepResult) -> dict[str, Any]:
    """All numbers as plain values."""
    return {
        **{name: getattr(result, name) for name in _SWEEP_FIELDS},
        "rows": [
            {
                **{name: getattr(row, name) for name in _ROW_FIELDS},
                "scores": {name: score._asdict() for name, score in row.scores.items()},
                "findings": [asdict(finding) for finding in row.findings],
                "run": row.run_dir.name,
            }
            for row in result.rows
        ],
        "order": [
            {
                "reported_higher": pair.upper.name,
                "reported_lower": pair.lower.name,
                "reported_equal": pair.equal,
                "verdict": pair.verdict,
            }
            for pair in result.pairs
        ],
        "order_in_words": order_lines(result),
        "learning_curves": [_json_of_curve(curve) for curve in result.learning_curves],
    }


def _json_of_curve(curve: LearningCurve) -> dict[str, Any]:
    fit = None
    if curve.fit is not None:
        fit = {name: interval._asdict() for name, interval in curve.parameters().items()}
    return {
        "metric": curve.metric,
        "classes": curve.classes,
        "points": [
            {"row": row, "drawings_a_class": drawings, **measured._asdict()}
            for row, drawings, measured in curve.points
        ],
        "fit": fit,
        "without_fit": curve.without_fit or None,
        "predictions": [
            {
                "drawings_a_class": prediction.drawings,
                **prediction.expected._asdict(),
                "times_the_most_tried": prediction.times,
                "is_guess": prediction.is_guess,
            }
            for prediction in curve.predictions()
        ],
        "published": [value.model_dump(mode="json") for value in curve.published],
    }
