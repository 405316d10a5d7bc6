"""Trained model + held-out drawings → scores and report."""

from contextlib import AbstractContextManager, nullcontext

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.alerts.events import alerting
from flows.artifacts import add_artifact, add_mlflow_link, add_page
from flows.gpus import gpu_slots
from flows.stages import StageTask
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import EVALUATE_STAGE
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.evaluation.summary import class_rows, evaluation_markdown


def _show(result: EvaluateResult) -> None:
    add_page("evaluation", evaluation_markdown, result)
    description = "Held-out scores by class"
    add_artifact(
        lambda: create_table_artifact(
            class_rows(result), key="evaluation-classes", description=description
        )
    )
    add_mlflow_link("evaluation-mlflow-run", result.mlflow_page)


def _slots(config: EvaluateConfig) -> AbstractContextManager[object]:
    """The GPU slots of processes of this host; Dask's workers have Dask's resources instead."""
    return nullcontext() if config.dask is not None else gpu_slots(config.ranks or 1)


evaluate_stage = StageTask(
    EVALUATE_STAGE,
    "Judges a model on the held-out drawings of a store, and shows it in Prefect's UI.",
    show=_show,
    slots=_slots,
)


@flow(
    name="evaluate",
    flow_run_name="evaluate {config.model}",
    on_failure=alerting(),
    on_crashed=alerting(),
)
def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model: MAP@3 and more with their intervals, the report, the table of guesses."""
    return evaluate_stage(config)
