"""What a finished stage tells its user: name → value, a line each. Pure; `cli.py` prints it."""

import json
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quickdraw_core.assignments import flattened
from quickdraw_core.errors import and_more, first_few

if TYPE_CHECKING:
    from quickdraw_core.challenge.balance import Balance
    from quickdraw_core.challenge.submission import SubmissionResult
    from quickdraw_core.evaluation.compare import CompareResult
    from quickdraw_core.evaluation.result import EvaluateResult
    from quickdraw_core.launching.result import TrainResult
    from quickdraw_core.promotion.decision import PromoteResult
    from quickdraw_core.sources.fetch import FetchResult
    from quickdraw_core.sweep.results import SweepResult


def fetch_facts(result: "FetchResult") -> dict[str, str]:
    """What is in the folder now, and what had to be fetched for it."""
    files = len(result.fetched) + len(result.present)
    facts = {
        "files": f"{files:,} of {result.format} drawings in {result.folder}, "
        f"{result.size_bytes:,} bytes"
    }
    if not result.fetched:
        return facts | {"fetched": "nothing, all files were there"}
    how = [f"{len(result.present):,} were there"] if result.present else []
    how += [f"{len(result.continued):,} continued"] if result.continued else []
    more = f" ({', '.join(how)})" if how else ""
    fetched = f"{len(result.fetched):,} files, {result.received_bytes:,} bytes{more}"
    return facts | {"fetched": fetched}


def train_facts(result: "TrainResult") -> dict[str, str]:
    """Where the model is, how it came about, and how to look at its run."""
    from quickdraw_core.tracking.address import ui_command

    how = f"{result.steps:,} steps"
    if result.skipped:
        how = f"finished before, {how}; --fresh trains anew"
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


def _wrapped(text: str) -> str:
    """Sentences over several lines, beside the column of names."""
    beside = " " * 13
    filled = textwrap.fill(
        text, 97, initial_indent=beside, subsequent_indent=beside, break_on_hyphens=False
    )
    return filled.lstrip()


def inspect_facts(found: Mapping[str, Any]) -> dict[str, str]:
    """A model in some lines; the configuration as `--set` takes it."""
    loader, words = found["loader"], found["label_map"]["words"]
    done = "finished" if found["finished"] else "not finished"
    average = ", their running average" if found["running_average"] else ""
    facts = {
        "model": found["model"],
        "step": f"{found['step']:,}, epoch {loader['epoch']} step {loader['step']:,} ({done})",
        "validation": ", ".join(f"{key} {value:.4f}" for key, value in found["metrics"].items()),
        "weights": f"{found['weights']:,}{average}",
        "sha256": found["weights_sha256"],
        "classes": f"{len(words)}: {first_few(words)}; sha256 {found['label_map']['sha256']}",
        "trained on": f"{found['train_drawings']:,} drawings, store {found['store_fingerprint']}",
        "MLflow run": found["mlflow_run_id"] or "none",
        "versions": ", ".join(f"{key} {value}" for key, value in found["versions"].items()),
    }
    flat = flattened(found["config"])
    return facts | {"config": " ".join(f"{k}={json.dumps(v)}" for k, v in flat.items())}


def evaluate_facts(result: "EvaluateResult") -> dict[str, str]:
    """The scores, where the report is, and which classes had too few drawings."""
    scores = result.scores
    n = scores["map_at_3"].n
    facts = {
        "held-out": f"{n:,} drawings, {result.images_per_second:,.0f} a second, "
        f"{result.data_wait_share:.1%} of the time waiting for data",
        "computed in": result.precision,
        "report": str(result.report),
    }
    if result.short_classes:
        few = [f"{word} ({count})" for word, count in result.short_classes.items()]
        facts["short"] = f"classes with fewer held-out drawings than asked for: {first_few(few)}"
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    return facts


def score_table(result: "EvaluateResult") -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the scores with their 95 % intervals, one metric a row."""
    from quickdraw_core.evaluation.summary import score_rows

    return ["held-out", "value", "95 % interval"], [list(row) for row in score_rows(result)]


def compare_facts(result: "CompareResult") -> dict[str, str]:
    """On what the models were compared, and what was written."""
    n = result.comparisons[0].n
    facts = {
        "held-out": f"{n:,} drawings, the same for all; {result.reused} of {len(result.names)} "
        "models had been evaluated on them",
        "computed in": _precisions(result),
    }
    if result.files:
        facts["written"] = first_few([str(path) for path in result.files])
    return facts


def _precisions(result: "CompareResult") -> str:
    """What all models computed in, or each by its name where they differ."""
    if len(set(result.precisions)) == 1:
        return result.precisions[0]
    each = zip(result.names, result.precisions, strict=True)
    return ", ".join(f"{precision} ({name})" for name, precision in each)


def promote_facts(result: "PromoteResult") -> dict[str, str]:
    """What was decided and why, and where to look."""
    from quickdraw_core.promotion.decision import decision_words
    from quickdraw_core.tracking.address import ui_command

    facts = {"decision": decision_words(result), "reason": result.reason}
    if result.precision is not None:
        facts["computed in"] = result.precision
    if result.version is not None:
        facts["version"] = result.version.reference
    facts["MLflow UI"] = result.mlflow_page or ui_command(result.tracking_uri)
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    return facts


def sweep_facts(result: "SweepResult") -> dict[str, str]:
    """Where table and figures of a sweep are, which rows failed, and how to look at its run."""
    from quickdraw_core.tracking.address import ui_command

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


def submission_facts(result: "SubmissionResult") -> dict[str, str]:
    """Where the submission is, what balancing did, and which rows were answered unseen."""
    facts = {"submission": f"{result.rows:,} rows in {result.path}"}
    facts["computed in"] = result.precision
    if result.seconds:
        facts["speed"] = (
            f"{result.rows / result.seconds:,.0f} rows a second, "
            f"{result.waited_seconds / result.seconds:.1%} of the time waiting for data"
        )
    if result.balance is not None:
        facts |= _balance_facts(result.balance)
    if result.notes:
        facts["for Kaggle"] = "; ".join(result.notes)
    if result.probabilities is not None:
        facts["probabilities"] = str(result.probabilities)
    if result.unreadable:
        lines = ", ".join(
            f"line {row.line} ({row.reason}, {row.found})" for row in result.first_unreadable
        )
        more = result.unreadable - len(result.first_unreadable)
        facts["unreadable"] = (
            f"{result.unreadable:,} rows answered with the most common words: {lines}"
            + and_more(more)
            + (f"; all in {result.unreadable_file}" if result.unreadable_file else "")
        )
    return facts


def _balance_facts(found: "Balance") -> dict[str, str]:
    """How often a class is guessed first, least and most, before and after."""
    mean = found.before.mean()
    facts = {
        "first guesses": f"{found.before.min():,} to {found.before.max():,} a class (spread "
        f"{found.before.std():,.1f}), balanced {found.after.min():,} to {found.after.max():,} "
        f"(spread {found.after.std():,.1f}); even is {mean:,.1f}"
    }
    if not found.reached:
        facts["note"] = (
            f"the counts did not come within the limit of {found.limit:,} a class; the nearest "
            "to it were taken"
        )
    return facts
