"""Trained model + held-out drawings → scores and report."""

from prefect import flow
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.gpus import gpu_slots
from flows.stages import Stage, options_of
from flows.telling import show
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import EvaluateResult, is_finished, models_digest
from quickdraw_core.evaluation.evaluate import evaluate as run_evaluation
from quickdraw_core.evaluation.told import class_rows, evaluation_markdown
from quickdraw_core.store.store import Store
from quickdraw_core.training.gpus import gpus_locked


def _evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model on the held-out drawings of a store, and shows it in Prefect's UI."""
    ranks = config.ranks or 1
    with gpu_slots(ranks), gpus_locked(ranks):
        result = run_evaluation(config)
    show(lambda: create_markdown_artifact(evaluation_markdown(result), key="evaluation"))
    description = "Held-out scores by class"
    show(
        lambda: create_table_artifact(
            class_rows(result), key="evaluation-classes", description=description
        )
    )
    page = result.mlflow_page
    if page is not None:
        show(lambda: create_link_artifact(page, "MLflow run", key="evaluation-mlflow-run"))
    return result


def _inputs(config: EvaluateConfig) -> object:
    fingerprint = Store.open(config.store).manifest.fingerprint
    return [models_digest(config), fingerprint, options_of(config, "store")]


evaluate_stage = Stage("evaluate", _evaluate, _inputs, is_finished)


@flow(name="evaluate", flow_run_name="evaluate {config.model}")
def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model: MAP@3 and more with their intervals, the report, the table of guesses."""
    return evaluate_stage(config)
