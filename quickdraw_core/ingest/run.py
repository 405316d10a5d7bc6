"""The ingest stage: sources → windows → Dask → store.

Everything that can be wrong with the request is found before any work starts. Each finished
window leaves a receipt, so that a run that ends early costs only what was not finished. The
manifest is written last; until then a new store counts as unfinished, and one that could be read
before is as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from quickdraw_core.errors import (
    ConfigError,
    InputError,
    QuickdrawError,
    StoreError,
    StoreUnreachableError,
)
from quickdraw_core.files import require_writable
from quickdraw_core.ingest.cluster import check_certificates, cluster
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.finish import build_manifest, fault_of
from quickdraw_core.ingest.receipts import INGEST_VERSION
from quickdraw_core.ingest.result import IngestResult, LeftOutError, result_of
from quickdraw_core.ingest.target import is_begun_anew, open_target, publish
from quickdraw_core.ingest.window_run import WindowRun
from quickdraw_core.locks import held, require_free
from quickdraw_core.progress import progress
from quickdraw_core.sources.files import SourceFile, Stamp
from quickdraw_core.sources.find import BadFile, FoundFiles, find_readable, find_sources
from quickdraw_core.store.holdout import HoldoutRule
from quickdraw_core.store.location import Location
from quickdraw_core.store.manifest import (
    MANIFEST_NAME,
    PREVIOUS_NAME,
    UNFINISHED,
    Manifest,
)
from quickdraw_core.store.place import PACKS, place_of
from quickdraw_core.store.store import Store


def ingest(config: IngestConfig) -> IngestResult:
    """Brings `config.store` to what `config` asks for; does nothing where it is so already.

    A file that cannot be read, or of whose rows too many are refused, costs its class: the others
    are ingested, and `LeftOutError` then says which are not. With `config.strict` the first one
    ends the ingest. Whatever is raised but that error leaves the store of before to be read.

    Raises `InputError` (source), `StoreError` (target), `BusyError` (another ingest is at work
    there) or `ConfigError` before work starts;
    later `UnreadableError` (strict, or no file is left), and `ClusterError` where Dask is lost.
    """
    found = check(config)
    with _alone(config.store):
        return _ingest(config, found)


@contextmanager
def _alone(store: Location) -> Iterator[None]:
    """A block in which no other ingest works on a store. There is no lock where its file cannot be
    written: a store that is only looked at, or one in an object store, for a user without a cache.
    """
    lock = _lock_of(store)
    try:
        if lock is not None:
            require_writable(lock.parent)
    except ConfigError:
        lock = None
    with held(lock, str(store), "ingest") if lock is not None else nullcontext():
        yield


def _lock_of(store: Location) -> Path | None:
    try:
        return place_of(store).lock
    except ConfigError:  # no home folder, and so no cache
        return None


def _ingest(config: IngestConfig, found: FoundFiles) -> IngestResult:
    sources, bad, unread = found
    previous = _previous(config)
    if previous is not None:
        _check_rule(config, previous.holdout)
    options = _options(config)
    if previous is not None and _is_current(previous, options, sources) and _is_intact(config):
        _require_readable(config, previous)
        reused = len(previous.files)
        return _finished(
            result_of(config.store, previous, reused, True, _reasons(bad), tuple(unread))
        )

    if isinstance(config.store, Path):
        require_writable(config.store)
    with cluster(config) as client:
        target = open_target(config.store, config.fresh)
        run = WindowRun(config, target, sources)
        with progress("ingest", None, "rows") as bar:
            run.run(client, bar)
    receipts = list(run.receipts.values())
    manifest = build_manifest(config, options, run.planned, receipts, previous)
    failed = [source.word for source in sources if source.address in run.failures]
    publish(target, manifest, receipts, left_out=[*failed, *(file.word for file in bad)])
    failures = _reasons(bad) | run.failures
    reused = len(run.reused)
    return _finished(result_of(config.store, manifest, reused, False, failures, tuple(unread)))


def _reasons(bad: list[BadFile]) -> dict[str, str]:
    return {file.address: str(file.error) for file in bad}


def _finished(result: IngestResult) -> IngestResult:
    if result.left_out:
        raise LeftOutError(result)
    return result


def is_finished(config: IngestConfig) -> bool:
    """Whether the store is what `config` asks for of the sources as they are now, by its
    manifest and the checksums of all its files.
    """
    try:
        sources, bad, _ = check(config)
        previous = _previous(config)
        current = previous is not None and _is_current(previous, _options(config), sources)
        return current and not bad and _is_intact(config)
    except (QuickdrawError, OSError):
        return False


def source_stamps(config: IngestConfig) -> list[tuple[str, str | None, Stamp]]:
    """Address, word and fingerprint of each source. Raises `InputError`."""
    return [(s.address, s.word, s.stamp) for s in find_sources(config.source, config.classes)]


def check(config: IngestConfig) -> FoundFiles:
    """Finds all that is wrong with the request, without work; returns the files to read, those
    that cannot be read, and what looks like one.
    """
    check_certificates(config)
    found = find_readable(config.source, config.classes)
    if found.bad and (config.strict or not found.files):
        raise found.bad[0].error
    _check_target(config.store)
    lock = _lock_of(config.store)
    if lock is not None:
        require_free(lock, str(config.store))
    return found


def _options(config: IngestConfig) -> dict[str, Any]:
    """The options that decide the store's content."""
    names = ("rows", "seed", "test_per_class", "max_test_share", "validation_share", "salt")
    return {"ingest_version": INGEST_VERSION} | {name: getattr(config, name) for name in names}


def _check_target(store: Location) -> None:
    """Refuses a folder that holds something other than a store, which would be mixed up."""
    try:
        inside = place_of(store).top() or ()
    except NotADirectoryError:
        raise StoreError(f"{store} is a file; give a folder for the store") from None
    ours = {MANIFEST_NAME, PREVIOUS_NAME, "drawings", "quarantine", "receipts", UNFINISHED, PACKS}
    strangers = [name for name in inside if name not in ours and name[0] != "."]
    if strangers:
        raise StoreError(
            f"{store} is no store: it holds {', '.join(sorted(strangers)[:3])}; "
            "give a new or empty folder"
        )


def _previous(config: IngestConfig) -> Manifest | None:
    """The manifest that this ingest goes on from: the store's, or that of before an ingest that
    was killed. None: there is none, or the store is made anew.
    """
    if config.fresh or is_begun_anew(config.store):
        return None
    for name in (MANIFEST_NAME, PREVIOUS_NAME):
        if place_of(config.store).is_file(name):
            return Manifest.read(config.store, name)
    return None


def _is_intact(config: IngestConfig) -> bool:
    try:
        Store.open(config.store).verify()
    except StoreUnreachableError:
        raise  # what cannot be read now may well be whole
    except (StoreError, OSError):
        return False
    return True


def _check_rule(config: IngestConfig, rule: HoldoutRule) -> None:
    """Refuses another holdout rule than the store's: drawings would change sides."""
    for name in ("salt", "validation_share"):
        stored, asked = getattr(rule, name), getattr(config, name)
        if asked != stored:
            raise ConfigError(
                f"the store {config.store} was made with {name} {stored}, asked for is {asked}: "
                "drawings would change sides; use --fresh to start over"
            )


def _require_readable(config: IngestConfig, manifest: Manifest) -> None:
    """Refuses a store that holds a class of whose rows more were refused than `config` allows, or
    whose file was cut short.
    """
    for source in manifest.sources:
        fault = fault_of(source, config, str(config.store / "quarantine"))
        if fault is not None:
            raise InputError(fault)


def _is_current(previous: Manifest, options: dict[str, Any], sources: list[SourceFile]) -> bool:
    recorded = {
        (s.location, s.word, Stamp(s.size_bytes, s.mtime_ns, s.head_tail_sha256))
        for s in previous.sources
    }
    found = {(source.address, source.word, source.stamp) for source in sources}
    return previous.options == options and recorded == found
