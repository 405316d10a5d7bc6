"""The gate: a model becomes the champion only if it is better by more than the noise.

Challenger and champion are judged on the same held-out drawings of one store. The alias moves if
the whole 95 % interval of the difference in MAP@3 is above the margin. Either way the reason, in
words and numbers, is written to the challenger's run and version.
"""

from dataclasses import dataclass, field, replace

from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    TrackingError,
    UnreachableError,
)
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
from quickdraw_core.promotion.challenger import Challenger, find_challenger, register_with_reason
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import (
    Decision,
    PromoteResult,
    decide,
    decide_alone,
)
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of, options_of
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.tracking.address import NO_TRACKING, resolve_tracking_uri
from quickdraw_core.tracking.registry import Version, alias_holder, move_alias
from quickdraw_core.tracking.runs import run_page

DECIDED_EACH_TIME = "decided each time: the registry says who is champion then"
_TRIES = 3


@dataclass(frozen=True)
class PreparedPromotion:
    """A promotion that can begin: store and model are open, and the model can be registered."""

    config: PromoteConfig
    opened: Opened = field(repr=False)
    store: Store = field(repr=False)
    challenger: Challenger = field(repr=False)

    def key(self) -> str:
        """A digest of all that decides the promotion, except who is champion."""
        decisive = self.challenger.weights_sha256, self.store.manifest.fingerprint
        return key_of("promote", *decisive, self.challenger.uri, options_of(self.config, "store"))

    def finished(self) -> None:
        """Never: the registry says each time who is champion now."""

    def unfinished(self) -> Outlook:
        """A promotion is decided each time."""
        return Outlook(Action.ANEW, DECIDED_EACH_TIME)

    def run(self) -> PromoteResult:
        """Judges the model against the champion, and moves the alias if it is better.

        Raises `CheckpointError` (a champion of other words or another store) or `StoreError`
        before work; `EvaluationError` if the store changed or a process that predicts fails;
        `TrackingError` if MLflow is away, or others keep moving the alias.
        """
        with gpus_locked(self.config.ranks or 1):
            result = self._promoted()
        page = run_page(self.challenger.uri, self.challenger.run_id)
        return replace(result, mlflow_page=page)

    def _promoted(self) -> PromoteResult:
        config, challenger = self.config, self.challenger
        held_out = find_held_out(config, self.store, self.opened)
        predictions: Predictions | None = None
        base = PromoteResult(
            Decision.KEPT,
            "",
            config.name,
            config.alias,
            config.dry_run,
            mlflow_run_id=challenger.run_id,
            tracking_uri=challenger.uri,
        )
        for _ in range(_TRIES):
            champion = alias_holder(challenger.uri, config.name, config.alias)
            if champion is not None and champion.weights_sha256 == challenger.weights_sha256:
                holder = f"the {config.alias} already, as {champion.reference}"
                reason = f"{challenger.model.name} is {holder}"
                same = replace(base, decision=Decision.SAME, version=champion, champion=champion)
                return replace(same, reason=reason)
            if champion is not None:
                _require_comparable(config, champion, self.store)
            if predictions is None:
                predictions, _ = cached_or_predicted(config, challenger.model, held_out)
            result = _decide(config, challenger, predictions, champion, held_out, base)
            if config.dry_run:
                return result
            result = register_with_reason(config, challenger, result)
            if not result.promoted:
                return result
            assert result.version is not None
            to = challenger.uri, config.name, config.alias
            if move_alias(*to, result.version, champion):
                return result
            # Others moved the alias meanwhile. The model is judged against the new champion.
            moved = f"the {config.alias} of {config.name} was moved by others"
            judged = f"while {challenger.model.name} was judged against it"
            kept = replace(
                result, decision=Decision.KEPT, reason=f"not promoted: {moved} {judged}"
            )
            register_with_reason(config, challenger, kept)
        raise UnreachableError(f"{moved} {_TRIES} times {judged}; run the same command again")


def prepare(config: PromoteConfig, opened: Opened) -> PreparedPromotion:
    """Opens store and model, and checks that the model can be registered.

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


def check_promotable(config: PromoteConfig, tracking_uri: str | None) -> None:
    """Checks before a model is trained whether a pipeline can promote it. Raises `ConfigError` or
    `TrackingError`.
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


def _require_comparable(config: PromoteConfig, champion: Version, store: Store) -> None:
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
            "been trained on drawings that are held out here, and would score too high; give "
            "--other-store if you know that it was not, or another --alias"
        )


def _decide(
    config: PromoteConfig,
    challenger: Challenger,
    predictions: Predictions,
    champion: Version | None,
    held_out: HeldOut,
    base: PromoteResult,
) -> PromoteResult:
    """Judges the challenger alone, or against the champion."""
    name, opened = challenger.model.name, challenger.model.opened
    score = judge(predictions, config.seed).scores["map_at_3"]
    base = replace(base, score=score, precision=challenger.model.precision, champion=champion)
    if champion is None:
        by_chance = chance_map_at_3(predictions)
        decision, reason = decide_alone(name, score, by_chance, config.alias)
        return replace(base, decision=decision, reason=reason)
    remember_version(challenger.uri, champion, opened)
    model = _opened(config, champion.reference, challenger.uri, held_out.pack.fingerprint, opened)
    there = config.updated({"tracking_uri": challenger.uri})
    theirs, _ = cached_or_predicted(there, model, held_out)
    pair = Candidate(champion.reference, theirs), Candidate(name, predictions)
    comparison = compare(*pair, config.seed)
    decision, reason = decide(comparison, config.margin, config.alias)
    return replace(base, decision=decision, reason=reason, comparison=comparison)
