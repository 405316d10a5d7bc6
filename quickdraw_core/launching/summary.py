"""What a training tells in few lines, for the UI of whoever ran it. Pure."""

from quickdraw_core.launching.result import TrainResult


def training_markdown(result: TrainResult) -> str:
    """How far it came, the best checkpoint's scores, and what its curves say is wrong."""
    begun = f", going on from step {result.resumed_from:,}" if result.resumed_from else ""
    lines = [
        f"**{result.steps:,} steps{begun}** in `{result.run_dir}`",
        "",
        f"Best checkpoint: `{result.best_checkpoint}`",
        "",
        "| validation of the best | |",
        "| --- | --- |",
        *(f"| {name} | {value:.4f} |" for name, value in sorted(result.metrics.items())),
    ]
    notes = [*result.notes, *([result.tracking_problem] if result.tracking_problem else [])]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    if result.findings:
        lines += ["", "What the curves say is wrong:", ""]
        lines += [f"- {finding}" for finding in result.findings]
    return "\n".join(lines) + "\n"
