"""What a finished stage tells its user: name → value, a line each. Pure; `cli.py` prints it."""

from typing import TYPE_CHECKING

from quickdraw_core.errors import and_more, first_few

if TYPE_CHECKING:
    from quickdraw_core.challenge.balance import Balance
    from quickdraw_core.challenge.submission import SubmissionResult
    from quickdraw_core.evaluation.compare import CompareResult
    from quickdraw_core.evaluation.result import EvaluateResult
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
