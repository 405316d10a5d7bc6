"""Trained model + held-out drawings → scores and report."""

from prefect import flow, task

from flows.policy import worth_retrying
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import EvaluateResult
from quickdraw_core.evaluation.evaluate import evaluate as run_evaluation


@task(name="evaluate", retries=1, retry_delay_seconds=10, retry_condition_fn=worth_retrying)
def evaluate_stage(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model on the held-out drawings of a store."""
    return run_evaluation(config)


@flow(name="evaluate", flow_run_name="evaluate {config.model}")
def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model: MAP@3, top-1, top-3, and the table of guesses."""
    return evaluate_stage(config)
