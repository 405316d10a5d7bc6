"""A finished training in a few lines, for the terminal and for Prefect. Pure."""

import textwrap

from quickdraw_core.launching.result import TrainResult
from quickdraw_core.tracking.address import ui_command


def train_facts(result: TrainResult) -> dict[str, str]:
    """Where the model is, how it came about, and how to look at its run: name → value."""
    how = f"{result.steps:,} steps"
    if result.skipped:
        how = f"finished before, {how}; --fresh starts over"
    elif result.resumed_from:
        how = f"{how}, continued from step {result.resumed_from:,}"
    facts = {
        "model": f"{result.best_checkpoint} ({how})",
        "validation": f"MAP@3 {result.metrics['map_at_3']:.4f}",
    }
    if result.mlflow_run_id:
        facts["MLflow run"] = result.mlflow_run_id
        facts["MLflow UI"] = ui_command(result.tracking_uri)
    if result.notes:
        facts["note"] = "; ".join(result.notes)
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    for number, finding in enumerate(result.findings, 1):
        facts["finding" if number == 1 else f"finding {number}"] = _wrapped(str(finding))
    return facts


def training_markdown(result: TrainResult) -> str:
    """The same as a list, and all validation scores of the best checkpoint."""
    facts = (f"- **{name}**: {' '.join(v.split())}" for name, v in train_facts(result).items())
    scores = (f"| {name} | {value:.4f} |" for name, value in sorted(result.metrics.items()))
    table = ["", "| validation of the best | |", "| --- | --- |", *scores]
    return "\n".join([*facts, *table]) + "\n"


def _wrapped(text: str) -> str:
    """Sentences over several lines, beside the column of names."""
    beside = " " * 13
    filled = textwrap.fill(
        text, 97, initial_indent=beside, subsequent_indent=beside, break_on_hyphens=False
    )
    return filled.lstrip()
