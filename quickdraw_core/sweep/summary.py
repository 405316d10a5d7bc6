"""A sweep in a few lines: for the terminal, and as Markdown for its folder and Prefect."""

from collections.abc import Sequence

from quickdraw_core.metrics.comparison_text import markdown_table
from quickdraw_core.metrics.metrics import METRICS
from quickdraw_core.sweep.learning_curve import FAR, LearningCurve, Prediction
from quickdraw_core.sweep.results import Pair, RowResult, SweepResult, measured_value
from quickdraw_core.tracking.address import ui_command


def sweep_facts(result: SweepResult) -> dict[str, str]:
    """Where table and figures of a sweep are, which rows failed, and how to look at its run."""
    done = sum(row.done for row in result.rows)
    facts = {"sweep": f"{result.folder} ({done} of {len(result.rows)} rows finished)"}
    facts["table"] = str(result.folder / "table.md")
    if result.figures:
        facts["figures"] = str(result.figures[0].parent)
    for row in result.failed:
        facts[f"failed {row.name}"] = str(row.failure)
    if result.mlflow_run_id:
        facts["MLflow run"] = result.mlflow_run_id
        facts["MLflow UI"] = ui_command(result.tracking_uri)
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    return facts


def order_lines(result: SweepResult) -> list[str]:
    """How the measured order compares with the reported one, in sentences."""
    ranked = [pair.verdict for pair in result.pairs if not pair.equal]
    equal = [pair.verdict for pair in result.pairs if pair.equal]
    lines = []
    if ranked:
        lines.append(
            f"Of {len(ranked)} pairs that the report ranks, {ranked.count('agrees')} stand "
            f"in its order, {ranked.count('differs')} in the other, and of "
            f"{ranked.count('open')} the intervals overlap."
        )
    if equal:
        lines.append(
            f"Of {len(equal)} pairs that it gives the same number, {equal.count('agrees')} have "
            "intervals that overlap."
        )
    for pair in result.pairs:
        if pair.verdict == "differs":
            low, high = sorted(pair[:2], key=measured_value)
            reported = "Reported as equal" if pair.equal else "Otherwise than reported"
            lines.append(
                f"{reported}: {high.name} ({_interval(high, result.metric)}) is above "
                f"{low.name} ({_interval(low, result.metric)})."
            )
    return lines


def result_table(result: SweepResult, settings: bool = True) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table, as texts for people. settings: with network, loss and so on."""
    has_report = any(row.reported is not None for row in result.rows)
    heads = ["row", *(["network", "loss", "optimizer", "schedule"] if settings else [])]
    heads += ["reported"] if has_report else []
    heads += [result.metric, "95 % interval"]
    heads += ["order"] if has_report else []
    heads += ["time", "images/s"]
    rows = []
    for row in result.rows:
        cells = [row.name]
        cells += [row.model, row.loss, row.optimizer, row.schedule] if settings else []
        cells += [_reported(row.reported, result.metric)] if has_report else []
        cells += [_measured(row, result.metric), _interval(row, result.metric)]
        cells += [_order(row, result.pairs)] if has_report else []
        cells += [_time(row.seconds), f"{row.images_per_second:,.0f}" if row.seconds else ""]
        rows.append(cells)
    return heads, rows


def curve_lines(result: SweepResult) -> list[str]:
    """What the learning curves are of, their fits, and how far these can be trusted."""
    if not result.learning_curves:
        return []
    lines = [_fit_line(curve) for curve in result.learning_curves]
    predictions = [p for curve in result.learning_curves for p in curve.predictions()]
    if any(prediction.is_guess for prediction in predictions):
        lines.append(
            f"More than {FAR} times the most drawings that were tried: a guess, whatever its "
            "interval, which assumes that the error goes on in the same way."
        )
    if predictions:
        lines.append(
            "The intervals do not cover that another seed, or other drawings of a class, would "
            "give other points."
        )
    if any(curve.published for curve in result.learning_curves):
        lines.append(
            f"The rows tell {result.learning_curves[0].classes} classes apart; what others "
            "published is of the classes and settings named beside it, and more classes are "
            "harder to tell apart."
        )
    return lines


def _fit_line(curve: LearningCurve) -> str:
    metric = METRICS[curve.metric]
    if curve.fit is None:
        return f"{metric.name}: no fit: {curve.without_fit}."
    error = metric.name if metric.lower_is_better else f"1 − {metric.name}"
    values = ", ".join(
        f"{name} = {value:.3g} ({low:.3g} to {high:.3g})"
        for name, (value, low, high) in curve.parameters().items()
    )
    return (
        f"{metric.name}: {error} = c + a·n^(−b) with n train drawings a class, the mean over "
        f"classes: {values}. The fit passes the intervals of "
        f"{len(curve.points) - curve.missed} of {len(curve.points)} points."
    )


def prediction_table(result: SweepResult) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: what the fits give for other numbers of drawings, beside what others
    published; no rows without a fit.
    """
    heads = ["metric", "drawings a class", "by the fit", "95 % interval", "times the most tried"]
    heads.append("published by others")
    rows = [
        _prediction_cells(curve.metric, prediction)
        for curve in result.learning_curves
        for prediction in curve.predictions()
    ]
    return heads, rows


def _prediction_cells(name: str, prediction: Prediction) -> list[str]:
    metric, expected = METRICS[name], prediction.expected
    others = [f"{metric.text(*dict.fromkeys(v.span))}: {v.note}" for v in prediction.published]
    times = f"{prediction.times:.1f}" + (", a guess" if prediction.is_guess else "")
    cells = [metric.name, f"{prediction.drawings:,.0f}", metric.text(expected.value)]
    return [*cells, metric.text(expected.low, expected.high), times, "; ".join(others)]


def sweep_markdown(result: SweepResult) -> str:
    """The table, what can be said of the order, and the figures, as `table.md`."""
    lines = [f"# Sweep {result.table}", "", result.description, ""]
    lines += markdown_table(*result_table(result))
    lines += [
        "",
        f"`{result.metric}` on {result.per_class} held-out drawings a class, with 95 % bootstrap "
        "intervals; time of training with its validations, over all attempts; images a second: "
        "the median of the curve.",
    ]
    if result.pairs:
        lines.append("Order: pairs with the other rows in which a row stands as reported.")
        lines += ["", *[f"- {line}" for line in order_lines(result)]]
    failed = [f"- {row.name}: {row.failure}" for row in result.failed]
    lines += ["", "Failed:", "", *failed] if failed else []
    findings = [f"- {row.name}: {finding}" for row in result.rows for finding in row.findings]
    lines += ["", "What the curves say:", "", *findings] if findings else []
    if result.learning_curves:
        lines += ["", "Learning curve:", "", *[f"- {line}" for line in curve_lines(result)]]
        heads, predicted = prediction_table(result)
        lines += ["", *markdown_table(heads, predicted)] if predicted else []
    for path in result.figures:
        if path.suffix == ".png":
            lines += ["", f"![{path.stem.replace('-', ' ')}]({path.relative_to(result.folder)})"]
    return "\n".join(lines) + "\n"


def _interval(row: RowResult, metric: str) -> str:
    return METRICS[metric].text(row.measured.low, row.measured.high) if row.measured else ""


def _measured(row: RowResult, metric: str) -> str:
    if row.measured is not None:
        return METRICS[metric].text(row.measured.value)
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
    mine = [pair for pair in pairs if row in pair[:2]]
    return f"{sum(pair.verdict == 'agrees' for pair in mine)} of {len(mine)}" if mine else ""


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
