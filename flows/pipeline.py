"""The main job: ingest → pack → train → evaluate → promote, each stage one task."""

from typing import NamedTuple

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.evaluate import evaluate_stage
from flows.ingest import ingest_stage
from flows.pack import pack_stage
from flows.promote import promote_stage
from flows.train import name_of, train_stage
from quickdraw_core.evaluation.asked import check_asked, check_before_training
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.promote import PromoteConfig, check_promotable
from quickdraw_core.evaluation.promotion import PromoteResult
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.result import IngestResult
from quickdraw_core.stage import Opened
from quickdraw_core.store.packing import PackConfig, PackResult
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.result import TrainResult
from quickdraw_core.training.train import check_options


class PipelineResult(NamedTuple):
    """What the stages say of themselves. promote: None where nothing was to be promoted."""

    ingest: IngestResult
    pack: PackResult
    train: TrainResult
    evaluate: EvaluateResult
    promote: PromoteResult | None = None


def _run_name() -> str:
    given = flow_run.parameters
    ingest = IngestConfig.model_validate(given["ingest"])
    train = TrainConfig.model_validate(given["train"])
    return f"pipeline {ingest.source[0]} {name_of(train, ingest.store)}"


@flow(name="pipeline", flow_run_name=_run_name)
def pipeline(
    ingest: IngestConfig,
    train: TrainConfig,
    evaluate: EvaluateConfig,
    promote: PromoteConfig | None = None,
) -> PipelineResult:
    """Reads doodles, trains on them, judges the result and makes it the champion if it is better.

    The store of `ingest` serves all stages, whatever the others name; `evaluate` judges the
    model that `train` made, in the same MLflow. Without `promote` nobody becomes champion. A
    stage whose outputs are there and whole is skipped. Where `ingest` leaves a class out, nothing
    is trained: a model of fewer classes is not what was asked for.
    """
    check_asked(evaluate, train)
    check_options(train)
    if promote is not None:
        check_promotable(promote, train.tracking_uri)
    ingested = ingest_stage(ingest)
    packed = pack_stage(PackConfig(store=ingested.store))
    evaluate = evaluate.updated({"store": ingested.store})
    check_before_training(evaluate, Opened())  # now, and not after hours of training
    trained = train_stage(train.updated({"store": ingested.store}))
    model = {"model": str(trained.run_dir), "tracking_uri": trained.tracking_uri}
    judged = evaluate_stage(evaluate.updated(model))
    promoted = None
    if promote is not None:
        promoted = promote_stage(promote.updated(model | {"store": ingested.store}))
    if ingested.skipped and packed.skipped and trained.skipped and judged.skipped:
        get_run_logger().info("nothing was to do: all of it was done before, and is whole")
    return PipelineResult(ingested, packed, trained, judged, promoted)
