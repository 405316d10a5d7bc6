"""Trained models + held-out drawings → which is better, by how much."""

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from flows.policy import worth_retrying
from flows.telling import show
from quickdraw_core.evaluation.compare import CompareConfig, CompareResult, compare_models
from quickdraw_core.evaluation.verdicts import comparison_markdown


@task(name="compare", retries=1, retry_delay_seconds=10, retry_condition_fn=worth_retrying)
def compare_stage(config: CompareConfig) -> CompareResult:
    """Compares models on the held-out drawings of a store, and shows it in Prefect's UI."""
    result = compare_models(config)
    page = comparison_markdown(result.comparisons, [[] for _ in result.comparisons])
    show(lambda: create_markdown_artifact(page, key="comparison"))
    return result


@flow(name="compare", flow_run_name="compare with {config.models[0]}")
def compare(config: CompareConfig) -> CompareResult:
    """Compares models with the first: every metric and word, with intervals of the differences."""
    return compare_stage(config)
