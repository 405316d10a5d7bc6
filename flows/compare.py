"""Trained models + held-out drawings → which is better, by how much."""

from prefect import flow

from flows.artifacts import add_page
from flows.gpus import gpu_slots
from flows.stages import StageTask
from quickdraw_core.differences.text import why_markdown
from quickdraw_core.evaluation.compare import COMPARE_STAGE, CompareResult
from quickdraw_core.evaluation.config import CompareConfig
from quickdraw_core.metrics.comparison_text import comparison_markdown


def _markdown(result: CompareResult) -> str:
    figures = [()] * len(result.comparisons)  # they are in the comparison's folder alone
    whys = why_markdown(result.why)
    return comparison_markdown(result.comparisons, figures, whys, result.split)


compare_stage = StageTask(
    COMPARE_STAGE,
    "Compares models on the held-out drawings of a store, and shows it in Prefect's UI.",
    show=lambda result: add_page("comparison", _markdown, result),
    slots=lambda config: gpu_slots(config.ranks or 1),
)


@flow(name="compare", flow_run_name="compare with {config.models[0]}")
def compare(config: CompareConfig) -> CompareResult:
    """Compares models with the first: every metric and word, with intervals of the differences."""
    return compare_stage(config)
