"""A promotion in a few lines: facts for the terminal, Markdown for Prefect."""

from quickdraw_core.metrics.comparison_text import difference_table, markdown_table
from quickdraw_core.promotion.decision import Decision, PromoteResult
from quickdraw_core.tracking.address import ui_command

_WORDS = {
    Decision.FIRST: "promoted",
    Decision.PROMOTED: "promoted",
    Decision.KEPT: "not promoted",
    Decision.SAME: "nothing to do",
}


def promote_facts(result: PromoteResult) -> dict[str, str]:
    """What was decided and why, and where to look."""
    facts = {"decision": _decision(result), "reason": result.reason}
    if result.precision is not None:
        facts["computed in"] = result.precision
    if result.version is not None:
        facts["version"] = result.version.reference
    facts["MLflow UI"] = result.mlflow_page or ui_command(result.tracking_uri)
    if result.tracking_problem:
        facts["MLflow"] = result.tracking_problem
    return facts


def promotion_markdown(result: PromoteResult) -> str:
    """The decision with its numbers."""
    lines = [f"**{result.name}@{result.alias}: {_decision(result)}**", "", result.reason]
    if result.comparison is not None:
        lines += ["", *markdown_table(*difference_table(result.comparison))]
    if result.version is not None:
        lines += ["", f"Registered as `{result.version.reference}`"]
    if result.mlflow_page is not None:
        lines += ["", f"In MLflow: [run {result.mlflow_run_id}]({result.mlflow_page})"]
    return "\n".join(lines) + "\n"


def _decision(result: PromoteResult) -> str:
    return _WORDS[result.decision] + (" (dry run: nothing was written)" if result.dry_run else "")
