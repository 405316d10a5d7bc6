"""Looks what is there, plans what goes, removes it."""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from quickdraw_core.errors import ConfigError, QuickdrawError, WriteError, and_more
from quickdraw_core.progress import progress
from quickdraw_core.retention.caches import (
    find_bundles,
    find_indices,
    find_leftovers,
    find_packs,
    find_results,
)
from quickdraw_core.retention.config import CleanConfig
from quickdraw_core.retention.plan import Kind, Rules, Thing, Verdict, plan
from quickdraw_core.retention.remove import WORK, Outcome, name_of_deleted, remove
from quickdraw_core.retention.runs import FoundRun, find_runs, resolved, things_of
from quickdraw_core.system.locks import held_folder
from quickdraw_core.tracking.address import resolve_tracking_uri
from quickdraw_core.tracking.deleted_runs import deleted_runs
from quickdraw_core.tracking.registered_runs import RegisteredRun, registered_runs
from quickdraw_core.tracking.runs import is_missing
from quickdraw_core.training.run_folder import RunFolder

_LOCK = ".clean.lock"


@dataclass(frozen=True)
class Needs:
    """What runs elsewhere still need, as their orchestrator says.

    names: that they use for models: paths, run ids, references. results: keys of kept results.
    """

    names: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CleanResult:
    """What became of each thing. problems: what could not be asked or removed, a line each."""

    outcomes: tuple[Outcome, ...]
    dry_run: bool
    problems: tuple[str, ...]

    @property
    def removed_bytes(self) -> int:
        """Weight of what was removed, or would be."""
        return sum(outcome.thing.size_bytes for outcome in self.outcomes if outcome.removed)


@dataclass
class _Models:
    """What MLflow says at each address. unknown: addresses that do not answer → why."""

    of_runs: dict[tuple[str, str], list[RegisteredRun]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def champions(self) -> set[str]:
        """Digests of the weights that an alias is on."""
        versions = (version for versions in self.of_runs.values() for version in versions)
        return {v.weights_sha256 for v in versions if v.aliases and v.weights_sha256}


def clean(config: CleanConfig, needs: Needs | None = None) -> CleanResult:
    """Removes what nothing needs and was not used for as long as asked; says what stays and why.

    needs: of the orchestrator's runs. Raises `ConfigError` if the folder of runs is a run's, and
    `BusyError` if another command cleans there. What cannot be removed, and an MLflow that does
    not answer (whose runs all stay), is a problem of the result.
    """
    needs = needs or Needs()
    if RunFolder.is_there(config.runs):
        raise ConfigError(f"{config.runs} is a run; give the folder that holds runs")
    with _alone(config), progress(WORK, None, "things") as bar:
        bar.note("looking what is there")
        things, problems = _survey(config, needs)
        rules = Rules(config.keep, config.older_than_seconds)
        verdicts = plan(things, rules, _now(), frozenset(resolved(needs.names)))
        bar.expect(len(verdicts))
        bar.note("")
        outcomes = []
        for verdict in verdicts:
            outcomes.append(_outcome(verdict, config.dry_run))
            bar.advance(1)
    problems += [outcome.problem for outcome in outcomes if outcome.problem]
    return CleanResult(tuple(outcomes), config.dry_run, tuple(problems))


def _now() -> float:
    return time.time()


def require_cleaned(result: CleanResult) -> None:
    """Raises `WriteError` if something could not be asked or removed."""
    if result.problems:
        more = and_more(len(result.problems) - 1)
        raise WriteError(f"not all could be cleaned: {result.problems[0]}{more}")


def _alone(config: CleanConfig) -> AbstractContextManager[None]:
    if config.dry_run or not config.runs.is_dir():
        return nullcontext()
    return held_folder(config.runs, WORK, _LOCK)


def _outcome(verdict: Verdict, dry_run: bool) -> Outcome:
    if dry_run or not verdict.goes:
        return Outcome(verdict.thing, verdict.goes, verdict.reason)
    return remove(verdict)


def _survey(config: CleanConfig, needs: Needs) -> tuple[list[Thing], list[str]]:
    """All things, with what needs them, and what MLflow does not say."""
    runs = find_runs(config.runs)
    uris = sorted({resolve_tracking_uri(config.tracking_uri), *(run.uri for run in runs)})
    models = _ask(uris, {run.uri for run in runs})
    things = [
        *things_of(runs, models.of_runs, models.unknown),
        *find_packs(_stores(config, runs), runs),
        *find_bundles(models.champions),
        *find_indices(),
        *find_results(config.results, needs.results),
        *find_leftovers(config.runs),
    ]
    for uri in uris:
        if uri not in models.unknown:
            try:
                things += _deleted(uri, models)
            except QuickdrawError as error:
                models.unknown[uri] = str(error)
    if models.unknown and any(thing.kind is Kind.BUNDLE for thing in things):
        why = f"perhaps a champion's: {next(iter(models.unknown.values()))}"
        things = [_kept_bundle(thing, why) for thing in things]
    return things, list(models.unknown.values())


def _ask(uris: Iterable[str], recorded: Collection[str]) -> _Models:
    """recorded: the addresses that runs here were tracked at: each of those has had a database."""
    models = _Models()
    for uri in uris:
        if uri in recorded and is_missing(uri):
            models.unknown[uri] = (
                f"there is no database {uri.removeprefix('sqlite:///')}, which runs here name; "
                "bring it back, or remove by hand what nobody needs"
            )
            continue
        try:
            found = registered_runs(uri)
        except QuickdrawError as error:
            models.unknown[uri] = str(error)
            continue
        for version in found:
            models.of_runs.setdefault((uri, version.run_id), []).append(version)
    return models


def _stores(config: CleanConfig, runs: Collection[FoundRun]) -> set[Path]:
    """The stores whose packs are looked at: those that are folders here."""
    named = {store.absolute() for store in config.stores}
    trained_on = {Path(name) for run in runs for name in run.stores if "://" not in name}
    return {store for store in named | trained_on if store.is_dir()}


def _deleted(uri: str, models: _Models) -> Iterator[Thing]:
    """The runs that were deleted in MLflow."""
    runs = deleted_runs(uri)
    deleted = {run.run_id for run in runs}
    for run in runs:
        needed = run.hindrance
        if run.parent and run.parent not in deleted:
            needed = f"beneath run {run.parent}, which is not deleted"
        if versions := models.of_runs.get((uri, run.run_id)):
            needed = f"{versions[0].described} comes from it"
        name = name_of_deleted(uri, run.run_id)
        known_as = frozenset({run.run_id})
        yield Thing(
            *(Kind.DELETED_RUN, name, run.size_bytes, run.deleted, needed), known_as=known_as
        )


def _kept_bundle(thing: Thing, why: str) -> Thing:
    is_of_unknown = thing.kind is Kind.BUNDLE and not thing.needed
    return replace(thing, needed=why) if is_of_unknown else thing
