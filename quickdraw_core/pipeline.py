"""The main job: ingest → pack → train → evaluate → promote, whoever runs its stages."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar, get_args

from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError, QuickdrawError, nearest
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
from quickdraw_core.launching.room import training_needs
from quickdraw_core.launching.train import TRAIN_STAGE, check_options, needs_of
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import PromoteResult
from quickdraw_core.promotion.promote import DECIDED_EACH_TIME, PROMOTE_STAGE, check_promotable
from quickdraw_core.stage import Action, Opened, Outlook, Stage
from quickdraw_core.store.pack_stage import PACK_STAGE, PackConfig, PackResult
from quickdraw_core.store.store import open_store
from quickdraw_core.system.disk import Need, require_room
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RUNS

StageName = Literal["ingest", "pack", "train", "evaluate", "promote"]
"""The stages, in their order."""
STAGES: tuple[StageName, ...] = get_args(StageName)

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
    becomes champion. redo_from: the first stage that is done anew, with all after it.
    """

    ingest: IngestConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    promote: PromoteConfig | None = None
    redo_from: StageName | None = None

    def is_redone(self, stage: str) -> bool:
        """Whether a stage is done anew, whatever is finished of it."""
        if self.redo_from is None:
            return False
        order: tuple[str, ...] = STAGES
        return order.index(self.redo_from) <= order.index(stage)

    def check(self) -> None:
        """Finds what can be found wrong before there is a store. Raises `ConfigError`."""
        if self.redo_from is not None:
            find_stage(self.redo_from, promotes=self.promote is not None)
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


def run_pipeline(
    job: Pipeline, perform: Perform, opened: Opened, begun: float | None = None
) -> PipelineResult:
    """Runs one stage after the other; one whose outputs are there and whole is skipped, unless it
    is to be done anew. If the ingest leaves a class out, nothing is trained: a model of fewer
    classes is not what was asked for.

    begun: when the work first began, in seconds since the epoch; default: now. What another
    attempt of it has made since then is not done anew.
    """
    begun = time.time() if begun is None else begun

    def performed(stage: Stage[C, R], config: C) -> R:
        if job.is_redone(stage.name):
            config = stage.anew(config, opened, begun)
        return perform(stage, config, opened)

    job.check()
    require_room(_needs(job, opened))
    ingested = performed(INGEST_STAGE, job.ingest)
    store = {"store": ingested.store}
    packed = performed(PACK_STAGE, PackConfig(store=ingested.store))
    evaluate = job.evaluate.updated(store)
    check_before_training(evaluate, opened)  # now, and not after hours of training
    trained = performed(TRAIN_STAGE, job.train.updated(store))
    model = {"model": str(trained.run_dir), "tracking_uri": trained.tracking_uri}
    judged = performed(EVALUATE_STAGE, evaluate.updated(model))
    promoted = None
    if job.promote is not None:
        promoted = performed(PROMOTE_STAGE, job.promote.updated(model | store))
    return PipelineResult(ingested, packed, trained, judged, promoted)


def find_stage(name: str, promotes: bool = True) -> StageName:
    """The stage of a name. promotes: whether there is a promotion. Raises `ConfigError` if there
    is no such stage.
    """
    if name == "promote" and not promotes:
        raise ConfigError(
            "--from promote (redo_from=promote): nothing is promoted; a pipeline has that stage "
            "only with --promote (its parameter promote)"
        )
    for stage in STAGES:
        if stage == name:
            return stage
    raise ConfigError(f"unknown stage {name!r}: {nearest(name, STAGES)}")


def plan_pipeline(job: Pipeline, opened: Opened, begun: float | None = None) -> dict[str, Outlook]:
    """What each stage would do now, and why. Writes nothing.

    A stage after one that has work to do is looked at only as far as its inputs are known. begun:
    as of `run_pipeline`. Raises what the stages raise before work.
    """
    job.check()
    plan: dict[str, Outlook] = {}

    def finished(stage: Stage[C, R], config: C) -> R | None:
        """The stage's result if it is reused. Notes what it would do."""
        stage.prepared(config, opened)
        is_redone = job.is_redone(stage.name)
        if is_redone and (begun is None or stage.is_of_before(config, begun, opened)):
            return None
        if begun is not None:
            config = stage.going_on(config, begun, opened)
        plan[stage.name] = stage.outlook(config, opened)
        return stage.finished(config, opened)

    ingested = finished(INGEST_STAGE, job.ingest)
    if ingested is not None:
        store = {"store": ingested.store}
        finished(PACK_STAGE, PackConfig(store=ingested.store))
        trained = finished(TRAIN_STAGE, job.train.updated(store))
        if trained is not None:
            model = {"model": str(trained.run_dir), "tracking_uri": trained.tracking_uri}
            finished(EVALUATE_STAGE, job.evaluate.updated(store | model))
            if job.promote is not None:
                finished(PROMOTE_STAGE, job.promote.updated(store | model))
    return {
        name: plan.get(name) or _not_looked_at(job, name, plan)
        for name in STAGES
        if name != "promote" or job.promote is not None
    }


def _not_looked_at(job: Pipeline, stage: str, plan: Mapping[str, Outlook]) -> Outlook:
    """What a stage would do that was asked for, or whose inputs are not there yet, and why."""
    if stage == "promote":
        return Outlook(Action.ANEW, DECIDED_EACH_TIME)
    if job.is_redone(stage):
        return Outlook(Action.ANEW, f"asked for, from {job.redo_from} on")
    if "train" in plan:
        return Outlook(Action.ANEW, "follows train, which makes its model")
    if "ingest" in plan and plan["ingest"].action is Action.ANEW:
        return Outlook(Action.ANEW, "follows ingest, which makes its store")
    return Outlook(Action.ANEW, "follows ingest; reused if the store comes out as it was")


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
    run_dir, classes = job.train.run_dir or RUNS, len({file.word for file in files})
    return [*store_needs(job.ingest, files), *training_needs(job.train, run_dir, classes)]
