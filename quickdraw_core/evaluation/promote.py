"""The gate: a model becomes the champion only where it is better by more than the noise.

Challenger and champion are judged on the same held-out drawings of one store. The alias moves
where the whole 95 % interval of the difference in MAP@3 lies above the margin; the reason, in
words and numbers, is written to the challenger's run and version either way.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    TrackingError,
    UnreachableError,
)
from quickdraw_core.evaluation.config import JudgedConfig
from quickdraw_core.evaluation.differences import Named, chance, compare
from quickdraw_core.evaluation.ensemble import Ensemble
from quickdraw_core.evaluation.held_out import held_out_rows, judged_on, require_same_store
from quickdraw_core.evaluation.judgement import judge
from quickdraw_core.evaluation.model import TrainedModel, best_of_run, load_model
from quickdraw_core.evaluation.predictions import Predictions
from quickdraw_core.evaluation.promotion import (
    Decision,
    PromoteResult,
    decide,
    decide_alone,
)
from quickdraw_core.evaluation.publish import tell_run, tracking_uri_of
from quickdraw_core.evaluation.reuse import predictions_of
from quickdraw_core.files import write_aside
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import NO_TRACKING, resolve_tracking_uri
from quickdraw_core.tracking.card import RunCard
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.journal import file_record, tags_record
from quickdraw_core.tracking.registry import (
    Version,
    alias_holder,
    check_alias,
    check_name,
    describe,
    is_registered,
    move_alias,
    pinned,
    register,
)
from quickdraw_core.tracking.runs import run_page
from quickdraw_core.training.loop import BEST_ARTIFACT

FILE_NAME = "promotion.json"
ARTIFACT = f"promotion/{FILE_NAME}"
TAG = "promotion"
REASON_TAG = "promotion.reason"
_TRIES = 3


class PromoteConfig(JudgedConfig):
    """Which model is to become the champion, on what it is judged, and by how much."""

    model: str | None = Field(
        None,
        description="checkpoint file, run folder, MLflow run id or registered model; a pipeline "
        "fills it in",
    )
    name: Annotated[str, AfterValidator(check_name)] = Field(
        "quickdraw", description="registered model in MLflow"
    )
    alias: Annotated[str, AfterValidator(check_alias)] = Field(
        "champion", description="alias in MLflow's registry that the best version holds"
    )
    margin: float = Field(
        0.0, ge=0, lt=1, description="MAP@3 by which the challenger must be better, beyond noise"
    )
    dry_run: bool = Field(False, description="decide and say so, and write nothing")


@dataclass(frozen=True)
class Challenger:
    """A model with the run that it is registered from."""

    reference: str
    model: TrainedModel
    uri: str
    run_id: str

    @property
    def weights_sha256(self) -> str:
        """The digest that tells versions apart."""
        return self.model.checkpoint.weights_sha256


def promote(config: PromoteConfig) -> PromoteResult:
    """Judges a model against the champion, and moves the alias where it is better.

    Raises `ConfigError`, `CheckpointError` (no such model, of other words or another store, not
    its run's best) or `StoreError` before work; `EvaluationError` where a process that predicts
    is lost; `TrackingError` where MLflow is away, or the alias does not hold still.
    """
    store, challenger = check(config)
    pack = open_pack(store)
    held_out_rows(config, pack)
    predictions: Predictions | None = None
    for _ in range(_TRIES):
        champion = alias_holder(challenger.uri, config.name, config.alias)
        if champion is not None and champion.weights_sha256 == challenger.weights_sha256:
            return _same(config, challenger, champion)
        if champion is not None:
            require_judged_here(config, champion, store)
        if predictions is None:
            predictions, _ = predictions_of(config, challenger.reference, challenger.model, pack)
        result = _decide(config, challenger, predictions, champion, pack)
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
        reason = f"not promoted: {moved} while {challenger.model.name} was judged against it"
        _written(config, challenger, replace(result, decision=Decision.KEPT, reason=reason))
    raise UnreachableError(
        f"{moved} {_TRIES} times while {challenger.model.name} was judged against it; run the "
        "same again"
    )


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


def check(config: PromoteConfig) -> tuple[Store, Challenger]:
    """Opens store and model, and makes sure that the model can be registered."""
    if config.model is None:
        raise ConfigError("no model to promote: give a checkpoint, a run folder or a run id")
    store = Store.open(config.store)
    reference = config.model
    if is_registered(reference):
        reference = pinned(resolve_tracking_uri(config.tracking_uri), reference)
    models = Ensemble((_loaded(config, reference, config.tracking_uri),))
    require_same_store(config, models, store)
    models = judged_on(models, store.manifest.fingerprint)
    (model,) = models.members
    uri = tracking_uri_of(config.tracking_uri, models)
    if uri == NO_TRACKING:
        raise TrackingError(
            f"tracking is off, but a {config.alias} is kept in MLflow's registry; give "
            "--tracking-uri"
        )
    return store, Challenger(reference, model, uri, _run_of(model, uri))


def _loaded(config: PromoteConfig, reference: str, tracking_uri: str | None) -> TrainedModel:
    return load_model(reference, tracking_uri, tta=config.tta, precision=config.precision)


def _run_of(model: TrainedModel, uri: str) -> str:
    """The run whose best checkpoint the model is. Raises `CheckpointError` where it has none."""
    run_id, run_dir = model.checkpoint.mlflow_run_id, model.run_dir
    card = RunCard.read(run_dir) if run_dir is not None else None
    if run_dir is not None and card is not None and card.uri == uri:
        deliver_rest(run_dir)  # a server that was away at the end of the training
        card = RunCard.read(run_dir)
        run_id = card.run_id if card is not None and card.run_id else run_id
    if not run_id:
        raise CheckpointError(
            f"the model {model.name} has no run in MLflow at {uri} to be registered from; see "
            "that MLflow is there, and train with tracking"
        )
    if model.path is None:  # it was fetched from its run
        return run_id
    best = best_of_run(uri, run_id).weights_sha256
    if best != model.checkpoint.weights_sha256:
        raise CheckpointError(
            f"{model.path} has weights {model.checkpoint.weights_sha256[:12]}, but the best "
            f"checkpoint of its run {run_id} has {best[:12]}, which is what a registered model "
            "is; promote the run"
        )
    return run_id


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
    pack: Pack,
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
        decision, reason = decide_alone(name, result.score, chance(predictions), config.alias)
        return replace(result, decision=decision, reason=reason)
    loaded = Ensemble((_loaded(config, champion.reference, challenger.uri),))
    (model,) = judged_on(loaded, pack.fingerprint).members
    there = config.updated({"tracking_uri": challenger.uri})
    theirs, _ = predictions_of(there, champion.reference, model, pack)
    comparison = compare(Named(champion.reference, theirs), Named(name, predictions), config.seed)
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
        write_aside(path, text)
        records = [tags, file_record(path, ARTIFACT)]
        return tell_run(run_dir, challenger.uri, challenger.run_id, records)[1]


def _moved(config: PromoteConfig, uri: str, to: Version, judged: Version | None) -> bool:
    """Gives the alias to a version, unless it is no longer with whom that was judged against."""
    return move_alias(uri, config.name, config.alias, to, judged)
