"""The main job: ingest → train → evaluate, each stage one task."""

from typing import NamedTuple

from prefect import flow

from flows.evaluate import evaluate_stage
from flows.ingest import ingest_stage
from flows.train import train_stage
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import (
    EvaluateResult,
    check_asked,
    check_before_training,
)
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.run import IngestResult
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.launch import TrainResult


class PipelineResult(NamedTuple):
    """What the three stages say of themselves."""

    ingest: IngestResult
    train: TrainResult
    evaluate: EvaluateResult


@flow(name="pipeline", flow_run_name="pipeline {ingest.source[0]} {train.model}")
def pipeline(ingest: IngestConfig, train: TrainConfig, evaluate: EvaluateConfig) -> PipelineResult:
    """Reads doodles, trains on them and judges the result.

    The store of `ingest` serves all stages, whatever the others name; `evaluate` judges the
    model that `train` made, in the same MLflow.
    """
    check_asked(evaluate, train)
    ingested = ingest_stage(ingest)
    evaluate = evaluate.updated({"store": ingested.store})
    check_before_training(evaluate)  # now, and not after hours of training
    trained = train_stage(train.updated({"store": ingested.store}))
    model = {"model": str(trained.run_dir), "tracking_uri": trained.tracking_uri}
    judged = evaluate_stage(evaluate.updated(model))
    return PipelineResult(ingested, trained, judged)
