"""A training in a few lines, before and after it, for the terminal and for Prefect. Pure."""

import textwrap
from collections.abc import Sequence

from rich.filesize import decimal

from quickdraw_core.launching.estimate import Estimate
from quickdraw_core.launching.result import TrainResult
from quickdraw_core.progress import duration_text
from quickdraw_core.system.disk import Room
from quickdraw_core.tracking.address import ui_command


def train_facts(result: TrainResult) -> dict[str, str]:
    """Where the model is, how it came about, and how to look at its run: name → value."""
    how = _steps(result.steps)
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


def estimate_facts(estimate: Estimate) -> dict[str, str]:
    """What a training will take, as `quickdraw train --plan` prints it: name → value."""
    probe, every, duration = estimate.probe, estimate.every, estimate.duration
    config = estimate.config
    most = config.validation.per_class
    judged = f"{estimate.validation_drawings:,} to validate on"
    judged += "" if most is None else f" ({most:,} a class at most)"
    facts = {
        "run": _run_of(estimate),
        "steps": _steps_of(estimate),
        "drawings": f"{estimate.train_drawings:,} of {estimate.classes:,} classes to train on, "
        f"{judged}",
    }
    if every is not None and estimate.validations:
        facts["validations"] = f"{estimate.validations:,}, every {_steps(every.validate)}"
        if config.validation.patience is not None:
            facts["validations"] += (
                f"; {config.validation.patience} without a better one end the training"
            )
        facts["checkpoints"] = (
            f"{estimate.checkpoints:,} of {decimal(estimate.checkpoint_bytes)}, kept are the "
            f"latest {config.checkpoints.keep} and the best"
        )
    ranks = f"{config.world_size} rank{'s' if config.world_size > 1 else ''} on {estimate.device}"
    if probe is not None:
        memory = decimal(round(probe.memory_megabytes * 1e6))
        facts["memory"] = f"{memory} a rank at most, {ranks}"
        mean = probe.step_mean
        rate = config.global_batch_size / config.hosts.nodes / mean
        low, high = min(probe.step_seconds), max(probe.step_seconds)
        facts["speed"] = (
            f"{rate:,.0f} images/s by {len(probe.step_seconds)} steps of {mean * 1e3:,.0f} ms "
            f"({low * 1e3:,.0f} to {high * 1e3:,.0f})"
        )
    else:
        is_to_run = estimate.done != estimate.steps
        unmeasured = "; speed and memory are measured by quickdraw train --plan"
        facts["ranks"] = ranks + (unmeasured if is_to_run else "")
    if duration is not None:
        facts["time"] = (
            f"{duration_text(duration.expected)}, 95 % interval {duration_text(duration.low)} to "
            f"{duration_text(duration.high)}; {duration_text(duration.validating)} of it validates"
        )
    facts["disk"] = _disk_of(estimate.rooms)
    if probe is not None and probe.notes:
        facts["note"] = "; ".join(probe.notes)
    return facts


def estimate_markdown(estimate: Estimate) -> str:
    """The same as a table, for Prefect."""
    facts = (f"| {name} | {value} |" for name, value in estimate_facts(estimate).items())
    return "\n".join(["| before it starts | |", "| --- | --- |", *facts]) + "\n"


def _run_of(estimate: Estimate) -> str:
    if not estimate.done:
        state = "begun, without a checkpoint yet: from step 0" if estimate.begun else "new"
        return f"{estimate.run_dir} ({state})"
    if estimate.done == estimate.steps:
        return f"{estimate.run_dir} (finished)"
    return f"{estimate.run_dir} (goes on from step {estimate.done:,})"


def _steps_of(estimate: Estimate) -> str:
    config, a_step = estimate.config, f"of {estimate.config.global_batch_size:,} drawings"
    by = f"{config.max_minutes:g} minutes" if config.max_minutes is not None else ""
    if estimate.steps is None:
        return f"as many {a_step} as {by} allow by a probe at the start"
    epochs = estimate.steps / estimate.steps_an_epoch
    by = f", as {by} allow" if by else ""
    count = f"{epochs:.4g} epoch{'' if epochs == 1 else 's'}"
    return f"{estimate.steps:,} {a_step}: {count} of {_steps(estimate.steps_an_epoch)}{by}"


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def _disk_of(rooms: Sequence[Room]) -> str:
    return "; ".join(map(_room_text, rooms)) or "nothing is left to be written"


def _room_text(room: Room) -> str:
    needed, free = decimal(room.needed_bytes), decimal(room.free_bytes)
    what = " and ".join(
        filter(None, [", ".join(n.what for n in room.needs[:-1]), room.needs[-1].what])
    )
    text = f"{what} need {needed}, {free} are free"
    return text if room.is_enough else f"TOO LITTLE: {text}; {room.remedy}"


def _wrapped(text: str) -> str:
    """Sentences over several lines, beside the column of names."""
    beside = " " * 13
    filled = textwrap.fill(
        text, 97, initial_indent=beside, subsequent_indent=beside, break_on_hyphens=False
    )
    return filled.lstrip()
