"""The ingest stage: `prepare` finds everything that can be wrong with the request before work
starts; then the store is what was asked for already, or `make_store` makes it.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.connect import check_certificates
from quickdraw_core.errors import ConfigError, InputError, StoreError, StoreUnreachableError
from quickdraw_core.ingest.build_manifest import fault_of
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.receipts import INGEST_VERSION
from quickdraw_core.ingest.result import IngestResult, LeftOutError, result_of
from quickdraw_core.ingest.target import FRESH_NAME, alone, check_target, is_begun_anew
from quickdraw_core.sources.files import Stamp
from quickdraw_core.sources.find import FoundFiles, find_readable
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of, options_of
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.store.holdout import HoldoutRule
from quickdraw_core.store.manifest import (
    MANIFEST_NAME,
    PREVIOUS_NAME,
    README_NAME,
    Manifest,
    card_fault,
    readme_fault,
)
from quickdraw_core.store.store import keep_store, open_manifest, open_store


def ingest(config: IngestConfig) -> IngestResult:
    """Brings `config.store` to what `config` asks for; does nothing if it is so already.

    The class of a file is left out if the file cannot be read, or if too many of its rows are
    rejected: the others are ingested, and `LeftOutError` names it. With `config.strict` the first
    such file ends the ingest. After any other error the earlier store can still be read.

    Raises `InputError` (source), `StoreError` (target), `BusyError` (another ingest is at work
    there) or `ConfigError` before work starts; later `UnreadableError` (strict, or no file is
    left), and `ClusterError` if Dask is lost.
    """
    prepared = prepare(config, Opened())
    result = prepared.finished()
    return prepared.run() if result is None else result


def prepare(config: IngestConfig, opened: Opened) -> "PreparedIngest":
    """Lists the sources and opens the store. Raises what `ingest` raises before work starts."""
    check_certificates(config.tls)
    sources = find_readable(config.source, config.classes)
    if sources.bad and (config.strict or not sources.files):
        raise sources.bad[0].error
    check_target(config.store)
    prepared = PreparedIngest(config, sources, opened)
    prepared.previous()
    return prepared


@dataclass(frozen=True)
class PreparedIngest:
    """An ingest that can begin. sources: the files to read, and those that cannot be."""

    config: IngestConfig
    sources: FoundFiles
    opened: Opened

    def key(self) -> str:
        """Of the sources' fingerprints, the options and the address of the store."""
        sources = [(source.address, source.word, source.stamp) for source in self.sources.files]
        options = options_of(self.config, "source", "store", "dask", "tls", "workers")
        return key_of("ingest", sources, self._reasons(), options, self.config.store.absolute())

    def finished(self) -> IngestResult | None:
        """The result, if manifest and checksums say that the store is what is asked for now."""
        manifest = self.previous()
        if manifest is None or self.sources.bad or not self._is_current(manifest):
            return None
        if self._fault(manifest) or self._may_write_card(manifest):
            return None
        return self._unchanged(manifest)

    def unfinished(self) -> Outlook:
        """Why the store is not what is asked for, and whether windows of it are kept."""
        manifest = self.previous()
        if manifest is None:
            return self._without_store()
        if changed := self._changed(manifest):
            return Outlook(Action.CONTINUE, f"{changed}; windows that stay the same are kept")
        if not self._is_whole():
            why = "files of the store are missing or damaged; the whole ones are kept"
            return Outlook(Action.CONTINUE, why)
        return Outlook(Action.CONTINUE, self._fault(manifest) or "a source cannot be read")

    def run(self) -> IngestResult:
        """Brings the store to what is asked for. Raises what `ingest` raises."""
        with alone(self.config.store):
            manifest = self.previous()  # as another ingest may have left it meanwhile
            if manifest is None or not self._is_current(manifest):
                result = self._made(manifest)
            elif fault := self._fault(manifest):
                raise InputError(fault)
            else:
                result = self._unchanged(manifest)
                if self._may_write_card(manifest):
                    written, problem = self._write_card(manifest)
                    result = replace(result, card_written=written, card_problem=problem)
        if result.left_out:
            raise LeftOutError(result)
        return result

    def previous(self) -> Manifest | None:
        """The manifest that the ingest continues from, as it is now: the store's, or that of
        before an ingest that was killed. None: there is no store, or a new one is made.

        Raises `StoreError` if it is damaged, `ConfigError` for another holdout rule.
        """
        store = self.config.store
        if self.config.fresh or is_begun_anew(store):
            return None
        for name in (MANIFEST_NAME, PREVIOUS_NAME):
            if storage_of(store).is_file(name):
                manifest = open_manifest(store, self.opened, name)
                _check_rule(self.config, manifest.holdout)
                return manifest
        return None

    def _is_current(self, manifest: Manifest) -> bool:
        """Whether the store is of these sources and options, and all its files are whole."""
        return not self._changed(manifest) and self._is_whole()

    def _without_store(self) -> Outlook:
        """Of a store that is not there, or that is begun anew."""
        if self.config.fresh:
            return Outlook(Action.ANEW, "starts over, as asked for")
        if is_begun_anew(self.config.store):
            why = "an ingest that started over has not ended; its finished windows are kept"
            return Outlook(Action.CONTINUE, why)
        if "receipts" in (storage_of(self.config.store).top() or ()):
            why = "an ingest has not ended; its finished windows are kept"
            return Outlook(Action.CONTINUE, why)
        return Outlook(Action.ANEW, f"there is no store {self.config.store} yet")

    def _changed(self, manifest: Manifest) -> str:
        """Which options and sources are others than those of a store; empty if none are."""
        now, before = self._options(), manifest.options
        changes = [
            f"{name} is {now.get(name)}, was {before.get(name)}"
            for name in sorted(now.keys() | before.keys())
            if now.get(name) != before.get(name)
        ]
        recorded = {
            s.location: (s.word, Stamp(s.size_bytes, s.mtime_ns, s.head_tail_sha256))
            for s in manifest.sources
        }
        current = {file.address: (file.word, file.stamp) for file in self.sources.files}
        both = recorded.keys() & current.keys()
        counts = {
            "new": len(current.keys() - both),
            "changed": sum(recorded[address] != current[address] for address in both),
            "no longer there or readable": len(recorded.keys() - both),
        }
        files = [f"{count:,} {what}" for what, count in counts.items() if count]
        return ", ".join(changes + [f"of the files, {', '.join(files)}"] * bool(files))

    def _is_whole(self) -> bool:
        """Compares the checksums of all files, once for each manifest."""

        def compare() -> bool:
            try:
                open_store(self.config.store, self.opened).verify()
            except StoreUnreachableError:
                raise  # what cannot be read now may well be whole
            except (StoreError, OSError):
                return False
            return True

        store = self.config.store
        version = storage_of(store).version(MANIFEST_NAME)
        return self.opened.once(("ingest", "whole", store.absolute()), compare, version)

    def _made(self, previous: Manifest | None) -> IngestResult:
        # Dask and the compiled readers, which nothing but the work needs.
        from quickdraw_core.ingest.make_store import make_store

        made = make_store(self.config, self.sources, self._options(), previous)
        keep_store(self.config.store, made.manifest, self.opened)
        result = self._result(made.manifest, made.reused, False, made.failures)
        return replace(result, card_problem=made.card_problem)

    def _unchanged(self, manifest: Manifest) -> IngestResult:
        return self._result(manifest, len(manifest.files), True, {})

    def _result(
        self, manifest: Manifest, reused: int, skipped: bool, failures: dict[str, str]
    ) -> IngestResult:
        left_out, unread = self._reasons() | failures, tuple(self.sources.unread)
        return result_of(self.config.store, manifest, reused, skipped, left_out, unread)

    def _reasons(self) -> dict[str, str]:
        return {file.address: str(file.error) for file in self.sources.bad}

    def _options(self) -> dict[str, Any]:
        """The options that decide the store's content."""
        names = ("rows", "seed", "test_per_class", "max_test_share", "validation_share", "salt")
        values = {name: getattr(self.config, name) for name in names}
        return {"ingest_version": INGEST_VERSION} | values

    def _may_write_card(self, manifest: Manifest) -> bool:
        """Whether the dataset card is missing or of other drawings, as in stores of earlier
        versions, and is not kept from being written.
        """
        store = self.config.store
        if card_fault(storage_of(store), manifest) is None:
            return False
        return not isinstance(store, Path) or os.access(store, os.W_OK)

    def _write_card(self, manifest: Manifest) -> tuple[tuple[str, ...], str | None]:
        """Writes the card of a store that is left as it is. Returns the names of the files that
        were written, and why not all of them, or None.
        """
        from quickdraw_core.dataset_card.card_files import card_files

        storage, written = storage_of(self.config.store), list[str]()
        try:
            files = card_files(manifest, storage, stored=storage.read(MANIFEST_NAME))
            problem = readme_fault(storage)
            if problem is not None:
                del files[README_NAME]
            for name, data in files.items():
                storage.write(name, data)
                written.append(name)
        except (StoreError, OSError) as error:  # the drawings can be used without it
            problem = str(error)
        return tuple(written), problem

    def _fault(self, manifest: Manifest) -> str | None:
        """Why a store cannot be used: too many rows of a class were rejected, or it was cut."""
        quarantine = str(self.config.store / "quarantine")
        faults = (fault_of(source, self.config, quarantine) for source in manifest.sources)
        return next(filter(None, faults), None)


def _check_rule(config: IngestConfig, rule: HoldoutRule) -> None:
    """Refuses another holdout rule than the store's: drawings would change sides."""
    for name in ("salt", "validation_share"):
        stored, asked = getattr(rule, name), getattr(config, name)
        if asked != stored:
            raise ConfigError(
                f"the store {config.store} was made with {name} {stored}, asked for is {asked}: "
                "drawings would change sides; use --fresh to start over"
            )


def _begun_at(config: IngestConfig, opened: Opened) -> float | None:
    """When an ingest with --fresh has last begun. It leaves a file in a store that can be read;
    otherwise it deletes what was there before.
    """
    storage, names = storage_of(config.store), (MANIFEST_NAME, PREVIOUS_NAME)
    written = [FRESH_NAME] if is_begun_anew(config.store) else names
    times = [time for time in map(storage.modified, written) if time is not None]
    return min(times, default=None)


INGEST_STAGE = Stage("ingest", prepare, _begun_at)
