"""An evaluation and a comparison in a few lines: facts for the terminal, Markdown for Prefect."""

from typing import TYPE_CHECKING, Any

from quickdraw_core.errors import first_few
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.metrics.by_strokes import UntilRight
from quickdraw_core.metrics.comparison_text import markdown_table
from quickdraw_core.metrics.metrics import METRICS, Estimate

if TYPE_CHECKING:
    from quickdraw_core.evaluation.compare import CompareResult


def value_and_interval(name: str, estimate: Estimate) -> tuple[str, str]:
    """A metric's value and its interval, with as many digits as mean something."""
    value, low, high = (f"{x:.{2 if name == 'mean_rank' else 4}f}" for x in estimate[:3])
    return value, f"{low} to {high}"


def until_right_text(until: UntilRight) -> str:
    """After how many strokes half of the drawings are recognised."""
    if until.value is None:
        return f"more than half of {until.n:,} drawings are not recognised, even when whole"
    strokes = "stroke" if until.value == 1 else "strokes"
    return (
        f"the right word is first, and stays so, after {until.value} {strokes} (median of "
        f"{until.n:,} drawings; 95 % interval {until.interval_text()})"
    )


def score_table(result: EvaluateResult) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the scores, a metric a row: name, value and 95 % interval."""
    scores = result.scores
    rows = [[m.name, *value_and_interval(name, scores[name])] for name, m in METRICS.items()]
    return ["held-out", "value", "95 % interval"], rows


def evaluate_facts(result: EvaluateResult) -> dict[str, str]:
    """How fast the model is, where the report is, and which classes had too few drawings."""
    facts = {
        "held-out": f"{result.scores['map_at_3'].n:,} drawings, "
        f"{result.images_per_second:,.0f} a second, "
        f"{result.data_wait_share:.1%} of the time waiting for data",
        "computed in": result.precision,
    }
    if result.until_right is not None:
        facts["by strokes"] = until_right_text(result.until_right)
    facts["report"] = str(result.report)
    if result.short_classes:
        few = first_few([f"{word} ({count})" for word, count in result.short_classes.items()])
        facts["short"] = f"classes with fewer held-out drawings than asked for: {few}"
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    return facts


def evaluation_markdown(result: EvaluateResult) -> str:
    """The scores as a table, and where the rest is."""
    n = result.scores["map_at_3"].n
    lines = [
        f"**{result.model}**, judged on {n:,} held-out drawings, computed in {result.precision}",
        "",
        *markdown_table(*score_table(result)),
        "",
        *([until_right_text(result.until_right), ""] if result.until_right is not None else []),
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
            "95 % interval": value_and_interval("map_at_3", scores["map_at_3"])[1],
            "top-1": round(scores["top_1"].value, 3),
            "top-3": round(scores["top_3"].value, 3),
            "drawings": scores["map_at_3"].n,
        }
        for word, scores in order
    ]


def compare_facts(result: "CompareResult") -> dict[str, str]:
    """On what the models were compared, and what was written."""
    precisions = result.precisions[:1]
    if len(set(result.precisions)) > 1:
        each = zip(result.precisions, result.names, strict=True)
        precisions = tuple(f"{precision} ({name})" for precision, name in each)
    facts = {
        "held-out": f"{result.comparisons[0].n:,} {result.split} drawings, the same for all; "
        f"{result.reused} of {len(result.names)} models had been evaluated on them",
        "computed in": ", ".join(precisions),
    }
    if result.files:
        facts["written"] = first_few([str(path) for path in result.files])
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    return facts
