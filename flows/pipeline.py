"""The main job as a flow: each of its stages is one task."""

from typing import TypeVar

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.alerts.events import alerting
from flows.evaluate import evaluate_stage
from flows.ingest import ingest_stage
from flows.promote import promote_stage
from flows.stages import StageTask, begun, opened_here
from flows.train import mlflow_page, name_of, train_stage
from quickdraw_core.config import Config
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.pipeline import Pipeline, PipelineResult, StageName, run_pipeline
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.recipes import RecipedConfig
from quickdraw_core.stage import Opened, Stage
from quickdraw_core.store.pack_stage import PACK_STAGE

C = TypeVar("C", bound=Config)
R = TypeVar("R")

pack_stage = StageTask(PACK_STAGE, "Builds the pack of a store, if it is not there.")

_TASKS = {
    task.stage.name: task
    for task in (ingest_stage, pack_stage, train_stage, evaluate_stage, promote_stage)
}


def _run_name() -> str:
    given = flow_run.parameters
    ingest = IngestConfig.model_validate(given["ingest"])
    train = RecipedConfig.model_validate(given["train"]).whole()
    return f"pipeline {ingest.source[0]} {name_of(train, ingest.store)}"


@flow(
    name="pipeline",
    flow_run_name=_run_name,
    on_failure=alerting(mlflow_page),
    on_crashed=alerting(mlflow_page),
)
def pipeline(
    ingest: IngestConfig,
    train: RecipedConfig,
    evaluate: EvaluateConfig,
    promote: PromoteConfig | None = None,
    redo_from: StageName | None = None,
) -> PipelineResult:
    """Reads doodles, trains on them, judges the result and makes it the champion if it is better.

    The store of `ingest` serves all stages, whatever the others name; `evaluate` judges the
    model that `train` made, in the same MLflow. Without `promote` no model becomes champion. A
    stage whose outputs are there and whole is skipped, unless `redo_from` names it or one before
    it: those are done anew. If `ingest` leaves a class out, nothing
    is trained: a model of fewer classes is not what was asked for.
    """
    job = Pipeline(ingest, train.whole(), evaluate, promote, redo_from)
    result = run_pipeline(job, _as_task, opened_here(), begun() or None)
    if result.skipped:
        get_run_logger().info("nothing was to do: all of it was done before, and is whole")
    return result


def _as_task(stage: Stage[C, R], config: C, opened: Opened) -> R:
    task: StageTask[C, R] = _TASKS[stage.name]  # type: ignore[assignment]
    return task(config, opened)
