"""Trained model + held-out drawings → scores and report."""

from prefect import flow, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.policy import worth_retrying
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import EvaluateResult
from quickdraw_core.evaluation.evaluate import evaluate as run_evaluation
from quickdraw_core.evaluation.told import class_rows, evaluation_markdown


@task(name="evaluate", retries=1, retry_delay_seconds=10, retry_condition_fn=worth_retrying)
def evaluate_stage(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model on the held-out drawings of a store, and shows it in Prefect's UI."""
    result = run_evaluation(config)
    create_markdown_artifact(evaluation_markdown(result), key="evaluation")
    create_table_artifact(
        class_rows(result), key="evaluation-classes", description="Held-out scores by class"
    )
    if result.mlflow_page is not None:
        create_link_artifact(result.mlflow_page, "MLflow run", key="evaluation-mlflow-run")
    return result


@flow(name="evaluate", flow_run_name="evaluate {config.model}")
def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model: MAP@3 and more with their intervals, the report, the table of guesses."""
    return evaluate_stage(config)
