"""The gate: a model becomes the champion only where it is better by more than the noise.

Challenger and champion are judged on the same held-out drawings of one store. The alias moves
where the whole 95 % interval of the difference in MAP@3 lies above the margin; the reason, in
words and numbers, is written to the challenger's run and version either way.
"""

import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    TrackingError,
    UnreachableError,
)
from quickdraw_core.evaluation.publish import send_to_run
from quickdraw_core.inference.cached_predictions import cached_or_predicted
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.held_out import (
    HeldOut,
    find_held_out,
    on_store,
    require_same_store,
)
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.inference.references import load_model, remember_version
from quickdraw_core.launching.gpus import gpus_locked
from quickdraw_core.metrics.differences import Candidate, compare
from quickdraw_core.metrics.judgement import judge
from quickdraw_core.metrics.metrics import chance_map_at_3
from quickdraw_core.promotion.challenger import Challenger, find_challenger
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import (
    Decision,
    PromoteResult,
    decide,
    decide_alone,
)
from quickdraw_core.stage import Opened, Stage, key_of, options_of
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.files import write_atomic
from quickdraw_core.tracking.address import NO_TRACKING, resolve_tracking_uri
from quickdraw_core.tracking.journal import file_record, tags_record
from quickdraw_core.tracking.registry import (
    Version,
    alias_holder,
    describe,
    move_alias,
    register,
)
from quickdraw_core.tracking.runs import run_page
from quickdraw_core.training.checkpoint import BEST_ARTIFACT

FILE_NAME = "promotion.json"
ARTIFACT = f"promotion/{FILE_NAME}"
TAG = "promotion"
REASON_TAG = "promotion.reason"
_TRIES = 3


@dataclass(frozen=True)
class PreparedPromotion:
    """A promotion that can begin: store and model are open, and the model can be registered."""

    config: PromoteConfig
    opened: Opened = field(repr=False)
    store: Store = field(repr=False)
    challenger: Challenger = field(repr=False)

    def key(self) -> str:
        """Of all that decides the promotion, but for who is champion."""
        decisive = self.challenger.weights_sha256, self.store.manifest.fingerprint
        return key_of("promote", *decisive, self.challenger.uri, options_of(self.config, "store"))

    def finished(self) -> None:
        """Who is champion now is for the registry to say, each time."""

    def run(self) -> PromoteResult:
        """Judges the model against the champion, and moves the alias where it is better.

        Raises `CheckpointError` (a champion of other words or another store) or `StoreError`
        before work; `EvaluationError` where the store changed or a process that predicts is lost;
        `TrackingError` where MLflow is away, or the alias does not hold still.
        """
        with gpus_locked(self.config.ranks or 1):
            return self._promoted()

    def _promoted(self) -> PromoteResult:
        config, challenger = self.config, self.challenger
        held_out = find_held_out(config, self.store, self.opened)
        predictions: Predictions | None = None
        for _ in range(_TRIES):
            champion = alias_holder(challenger.uri, config.name, config.alias)
            if champion is not None and champion.weights_sha256 == challenger.weights_sha256:
                return _same(config, challenger, champion)
            if champion is not None:
                require_judged_here(config, champion, self.store)
            if predictions is None:
                predictions, _ = cached_or_predicted(config, challenger.model, held_out)
            result = _decide(config, challenger, predictions, champion, held_out)
            if config.dry_run:
                return result
            result = _written(config, challenger, result)
            if not result.promoted:
                return result
            assert result.version is not None
            if _moved(config, challenger.uri, result.version, champion):
                return result
            # Somebody was promoted meanwhile. It is judged again, which may come to nothing.
            moved = f"the {config.alias} of {config.name} was moved by others"
            judged = f"while {challenger.model.name} was judged against it"
            reason = f"not promoted: {moved} {judged}"
            _written(config, challenger, replace(result, decision=Decision.KEPT, reason=reason))
        raise UnreachableError(f"{moved} {_TRIES} times {judged}; run the same again")


def prepare(config: PromoteConfig, opened: Opened) -> PreparedPromotion:
    """Opens store and model, and makes sure that the model can be registered.

    Raises `ConfigError`, `CheckpointError` (no such model, of other words or another store, not
    its run's best), `StoreError` or `TrackingError`.
    """
    if config.model is None:
        raise ConfigError("no model to promote: give a checkpoint, a run folder or a run id")
    store = open_store(config.store, opened)
    model = _opened(config, config.model, config.tracking_uri, store.manifest.fingerprint, opened)
    require_same_store(config, Ensemble((model,)), store)
    challenger = find_challenger(model, config.tracking_uri, config.alias)
    return PreparedPromotion(config, opened, store, challenger)


PROMOTE_STAGE = Stage("promote", prepare)


def promote(config: PromoteConfig, opened: Opened | None = None) -> PromoteResult:
    """Judges a model against the champion, and moves the alias where it is better. Raises what
    `prepare` and `PreparedPromotion.run` do.
    """
    return prepare(config, opened or Opened()).run()


def check_promotable(config: PromoteConfig, tracking_uri: str | None) -> None:
    """Finds out before a model is trained whether a pipeline can promote it. Raises `ConfigError`
    or `TrackingError`.
    """
    if config.model is not None:
        raise ConfigError(
            f"a pipeline promotes the model that it trains, but was given promote.model "
            f"{config.model}; leave it out"
        )
    if resolve_tracking_uri(tracking_uri) == NO_TRACKING:
        raise TrackingError(
            f"tracking is off, but a {config.alias} is kept in MLflow's registry; give "
            "--tracking-uri, or leave the promotion out"
        )


def _opened(
    config: PromoteConfig, reference: str, uri: str | None, fingerprint: str, opened: Opened
) -> TrainedModel:
    model = load_model(reference, uri, tta=config.tta, precision=config.precision, opened=opened)
    return on_store(Ensemble((model,)), fingerprint).members[0]


def require_judged_here(config: PromoteConfig, champion: Version, store: Store) -> None:
    """Refuses a champion of other words, or (unless allowed) of another store."""
    if champion.label_map_sha256 != store.label_map.sha256:
        raise CheckpointError(
            f"the {config.alias} {champion.reference} knows other words (sha256 "
            f"{champion.label_map_sha256[:8]}) than the store {config.store} "
            f"({store.label_map.describe()}); give another --name or --alias to models of these"
        )
    here = store.manifest.fingerprint
    if champion.store_fingerprint != here and not config.other_store:
        raise CheckpointError(
            f"the {config.alias} {champion.reference} was trained on store "
            f"{champion.store_fingerprint[:12]}, but {config.store} is {here[:12]}: it may have "
            "been trained on drawings that are held out here, and would be flattered; give "
            "--other-store where you know better, or another --alias"
        )


def _same(config: PromoteConfig, challenger: Challenger, champion: Version) -> PromoteResult:
    return PromoteResult(
        Decision.SAME,
        f"{challenger.model.name} is the {config.alias} already, as {champion.reference}",
        config.name,
        config.alias,
        config.dry_run,
        version=champion,
        champion=champion,
        mlflow_run_id=challenger.run_id,
        tracking_uri=challenger.uri,
        mlflow_page=run_page(challenger.uri, challenger.run_id),
    )


def _decide(
    config: PromoteConfig,
    challenger: Challenger,
    predictions: Predictions,
    champion: Version | None,
    held_out: HeldOut,
) -> PromoteResult:
    """Judges the challenger alone, or against the champion."""
    result = PromoteResult(
        Decision.KEPT,
        "",
        config.name,
        config.alias,
        config.dry_run,
        score=judge(predictions, config.seed).scores["map_at_3"],
        precision=challenger.model.precision,
        champion=champion,
        mlflow_run_id=challenger.run_id,
        tracking_uri=challenger.uri,
        mlflow_page=run_page(challenger.uri, challenger.run_id),
    )
    name = challenger.model.name
    if champion is None:
        assert result.score is not None
        decision, reason = decide_alone(
            name, result.score, chance_map_at_3(predictions), config.alias
        )
        return replace(result, decision=decision, reason=reason)
    opened = challenger.model.opened
    remember_version(challenger.uri, champion, opened)
    model = _opened(config, champion.reference, challenger.uri, held_out.pack.fingerprint, opened)
    there = config.updated({"tracking_uri": challenger.uri})
    theirs, _ = cached_or_predicted(there, model, held_out)
    comparison = compare(
        Candidate(champion.reference, theirs),
        Candidate(name, predictions),
        config.seed,
    )
    decision, reason = decide(comparison, config.margin, config.alias)
    return replace(result, decision=decision, reason=reason, comparison=comparison)


def _written(
    config: PromoteConfig, challenger: Challenger, result: PromoteResult
) -> PromoteResult:
    """Registers the challenger, and writes the reason to its version and run.

    Before the alias moves: a kill in between leaves a reason that the next call makes true,
    rather than a champion of which nobody knows why.
    """
    checkpoint = challenger.model.checkpoint
    version = register(
        challenger.uri,
        config.name,
        challenger.run_id,
        weights_sha256=challenger.weights_sha256,
        store_fingerprint=checkpoint.store_fingerprint,
        label_map_sha256=checkpoint.label_map.sha256,
        artifact=BEST_ARTIFACT,
    )
    result = replace(result, version=version)
    describe(challenger.uri, version, result.reason, {TAG: str(result.decision)})
    return replace(result, tracking_problem=_publish(config, challenger, result))


def _publish(config: PromoteConfig, challenger: Challenger, result: PromoteResult) -> str | None:
    """Puts decision and reason into the challenger's run; returns what hindered it."""
    of = {"per_class", "tta", "precision", "seed", "margin", "other_store"}
    judged = config.model_dump(include=of)
    value = result.to_json() | {"judged": judged}
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    tags = tags_record({TAG: str(result.decision), REASON_TAG: result.reason})
    run_dir = challenger.model.run_dir
    with tempfile.TemporaryDirectory() as temporary:
        # In the run's folder where it is here: a server that is away gets the file later.
        path = (Path(temporary) if run_dir is None else run_dir) / FILE_NAME
        write_atomic(path, text)
        records = [tags, file_record(path, ARTIFACT)]
        return send_to_run(run_dir, challenger.uri, challenger.run_id, records)[1]


def _moved(config: PromoteConfig, uri: str, to: Version, judged: Version | None) -> bool:
    """Gives the alias to a version, unless it is no longer with whom that was judged against."""
    return move_alias(uri, config.name, config.alias, to, judged)
