"""The main job: ingest → pack → train → evaluate → promote, whoever runs its stages."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from quickdraw_core.config import Config
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import (
    EVALUATE_STAGE,
    check_before_training,
    check_evaluable,
)
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import INGEST_STAGE, PreparedIngest
from quickdraw_core.ingest.result import IngestResult
from quickdraw_core.ingest.room import store_needs
from quickdraw_core.launching.result import TrainResult
from quickdraw_core.launching.room import checkpoint_bytes, checkpoints_need
from quickdraw_core.launching.train import TRAIN_STAGE, check_options, needs_of
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import PromoteResult
from quickdraw_core.promotion.promote import PROMOTE_STAGE, check_promotable
from quickdraw_core.stage import Opened, Stage
from quickdraw_core.store.pack_stage import PACK_STAGE, PackConfig, PackResult
from quickdraw_core.store.store import open_store
from quickdraw_core.system.disk import Need, require_room
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RUNS

C = TypeVar("C", bound=Config)
R = TypeVar("R")


class Perform(Protocol):
    """What runs a stage, or takes its earlier result: `stage.perform`, or a Prefect task."""

    def __call__(self, stage: Stage[C, R], config: C, opened: Opened) -> R:
        """The stage's result. Raises what the stage raises."""


@dataclass(frozen=True)
class Pipeline:
    """What the stages are to do.

    The store of `ingest` serves all of them, whatever the others name; `evaluate` judges the
    model that `train` makes, in the same MLflow, and so does `promote`, without which nobody
    becomes champion.
    """

    ingest: IngestConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    promote: PromoteConfig | None = None

    def check(self) -> None:
        """Finds what can be found wrong before there is a store."""
        check_evaluable(self.evaluate, self.train)
        check_options(self.train)
        if self.promote is not None:
            check_promotable(self.promote, self.train.tracking.uri)


class PipelineResult(NamedTuple):
    """What the stages say of themselves. promote: None if nothing was to be promoted."""

    ingest: IngestResult
    pack: PackResult
    train: TrainResult
    evaluate: EvaluateResult
    promote: PromoteResult | None = None

    @property
    def skipped(self) -> bool:
        """Whether all of it was done before; a promotion is decided again each time."""
        return all(stage.skipped for stage in self[:4])


def run_pipeline(job: Pipeline, perform: Perform, opened: Opened) -> PipelineResult:
    """Runs one stage after the other; one whose outputs are there and whole is skipped. If the
    ingest leaves a class out, nothing is trained: a model of fewer classes is not what was asked
    for.
    """
    job.check()
    require_room(_needs(job, opened))
    ingested = perform(INGEST_STAGE, job.ingest, opened)
    store = {"store": ingested.store}
    packed = perform(PACK_STAGE, PackConfig(store=ingested.store), opened)
    evaluate = job.evaluate.updated(store)
    check_before_training(evaluate, opened)  # now, and not after hours of training
    trained = perform(TRAIN_STAGE, job.train.updated(store), opened)
    model = {"model": str(trained.run_dir), "tracking_uri": trained.tracking_uri}
    judged = perform(EVALUATE_STAGE, evaluate.updated(model), opened)
    promoted = None
    if job.promote is not None:
        promoted = perform(PROMOTE_STAGE, job.promote.updated(model | store), opened)
    return PipelineResult(ingested, packed, trained, judged, promoted)


def _needs(job: Pipeline, opened: Opened) -> list[Need]:
    """What the stages are still going to write, as far as it is known before there is a store.
    Nothing, if it cannot be found out: the stages then say why.
    """
    try:
        return _known_needs(job, opened)
    except (QuickdrawError, OSError):
        return []


def _known_needs(job: Pipeline, opened: Opened) -> list[Need]:
    if INGEST_STAGE.finished(job.ingest, opened) is not None:
        config = job.train.updated({"store": job.ingest.store})
        return needs_of(config, open_store(job.ingest.store, opened), opened)
    prepared = INGEST_STAGE.prepared(job.ingest, opened)
    assert isinstance(prepared, PreparedIngest)
    files = prepared.sources.files
    size = checkpoint_bytes(job.train, len({file.word for file in files}))
    run_dir = job.train.run_dir or RUNS
    return [
        *store_needs(job.ingest, files),
        checkpoints_need(job.train, run_dir, size),
    ]
