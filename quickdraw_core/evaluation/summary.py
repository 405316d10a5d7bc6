"""What an evaluation tells in few lines, for the UI of whoever ran it. Pure."""

from typing import Any

from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.metrics.metric_info import METRICS
from quickdraw_core.metrics.metrics import Estimate


def numbers(name: str, found: Estimate) -> tuple[str, str]:
    """A metric's value and its interval, with as many digits as mean something."""
    digits = 2 if name == "mean_rank" else 4
    return (
        f"{found.value:.{digits}f}",
        f"{found.low:.{digits}f} to {found.high:.{digits}f}",
    )


def score_rows(result: EvaluateResult) -> list[tuple[str, str, str]]:
    """Name, value and 95 % interval of each metric."""
    return [(metric.name, *numbers(name, result.scores[name])) for name, metric in METRICS.items()]


def evaluation_markdown(result: EvaluateResult) -> str:
    """The scores as a table, and where the rest is."""
    n = result.scores["map_at_3"].n
    lines = [
        f"**{result.model}**, judged on {n:,} held-out drawings, computed in {result.precision}",
        "",
        "| metric | value | 95 % interval |",
        "| --- | --- | --- |",
        *(f"| {shown} | {value} | {interval} |" for shown, value, interval in score_rows(result)),
        "",
        f"Report: `{result.report}`",
    ]
    if result.mlflow_page is not None:
        lines += ["", f"In MLflow: [run {result.mlflow_run_id}]({result.mlflow_page})"]
    if result.short_classes:
        few = ", ".join(f"{word} ({n})" for word, n in result.short_classes.items())
        lines += ["", f"Classes judged on fewer drawings than asked for: {few}"]
    return "\n".join(lines) + "\n"


def class_rows(result: EvaluateResult) -> list[dict[str, Any]]:
    """The table of classes, worst first."""
    order = sorted(result.class_scores.items(), key=lambda row: row[1]["map_at_3"].value)
    return [
        {
            "word": word,
            "MAP@3": round(scores["map_at_3"].value, 3),
            "95 % interval": numbers("map_at_3", scores["map_at_3"])[1],
            "top-1": round(scores["top_1"].value, 3),
            "top-3": round(scores["top_3"].value, 3),
            "drawings": scores["map_at_3"].n,
        }
        for word, scores in order
    ]
