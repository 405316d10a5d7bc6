"""The ingest stage: sources → windows → Dask → store.

Everything that can be wrong with the request is found before any work starts. The manifest is
written last; until then the store counts as unfinished.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from quickdraw_core.errors import ConfigError, InputError, StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.row_index import STRIDE, index_rows
from quickdraw_core.ingest.window_task import Receipt, WindowTask, ingest_window, quarantine_path
from quickdraw_core.ingest.windows import select_windows
from quickdraw_core.labels import LabelMap
from quickdraw_core.progress import progress
from quickdraw_core.sources.folder import SourceFile, find_sources
from quickdraw_core.store.holdout import HoldoutRule, choose_test_share
from quickdraw_core.store.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    PREVIOUS_NAME,
    Manifest,
    SourceRecord,
)
from quickdraw_core.store.store import Store

INGEST_VERSION = 1
"""Raised when the same input and options give other bytes than before."""

_TASKS_IN_FLIGHT_PER_WORKER = 3


@dataclass(frozen=True)
class IngestResult:
    """What a finished ingest says of itself. `skipped`: everything was there already."""

    store: Path
    fingerprint: str
    classes: int
    rows_read: int
    rows_kept: int
    rejected: dict[str, int]
    test_share: float
    skipped: bool


def ingest(config: IngestConfig) -> IngestResult:
    """Brings `config.store` to what `config` asks for; does nothing where it is so already.

    Raises `InputError` (source), `StoreError` (target) or `ConfigError` before work starts.
    """
    sources = check(config)
    previous = None if config.fresh else _previous(config.store)
    if previous is not None:
        _check_rule(config, previous.holdout)
    options = _options(config)
    if previous is not None and _is_current(previous, options, sources) and _is_intact(config):
        return _result(config.store, previous, skipped=True)

    tasks, records = _plan(config, sources)
    if not tasks:
        raise InputError(f"the {len(sources)} CSV files of {config.source} hold no data row")
    receipts = list(_run(config, tasks))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        options=options,
        label_map=LabelMap.of(source.word for source in sources),
        holdout=previous.holdout if previous else _holdout(config, receipts),
        sources=records,
        files=sorted((receipt.file for receipt in receipts), key=lambda f: f.path),
    )
    _check_kept(manifest)
    _remove_strangers(config.store, manifest)
    manifest.write(config.store)
    return _result(config.store, manifest, skipped=False)


def check(config: IngestConfig) -> list[SourceFile]:
    """Finds all that is wrong with the request, without work; returns the files to read."""
    sources = find_sources(config.source, config.classes)
    _check_target(config.store)
    return sources


def _options(config: IngestConfig) -> dict[str, Any]:
    """The options that decide the store's content."""
    names = ("rows", "seed", "test_per_class", "max_test_share", "validation_share", "salt")
    return {"ingest_version": INGEST_VERSION} | {name: getattr(config, name) for name in names}


def _check_target(store: Path) -> None:
    """Refuses a folder that holds something other than a store, which would be mixed up."""
    if store.exists() and not store.is_dir():
        raise StoreError(f"{store} is a file; give a folder for the store")
    if store.is_dir():
        ours = {MANIFEST_NAME, PREVIOUS_NAME, "drawings", "quarantine", "pack"}
        strangers = [p.name for p in store.iterdir() if p.name not in ours and p.name[0] != "."]
        if strangers:
            raise StoreError(
                f"{store} is no store: it holds {', '.join(sorted(strangers)[:3])}; "
                "give a new or empty folder"
            )


def _previous(store: Path) -> Manifest | None:
    """The manifest of the store as it is, or as it was before an ingest that did not finish."""
    for name in (MANIFEST_NAME, PREVIOUS_NAME):
        if (store / name).is_file():
            return Manifest.read(store, name)
    return None


def _is_intact(config: IngestConfig) -> bool:
    try:
        Store.open(config.store).verify()
    except StoreError:
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


def _is_current(previous: Manifest, options: dict[str, Any], sources: list[SourceFile]) -> bool:
    recorded = {(s.path, s.word, s.size_bytes, s.mtime_ns) for s in previous.sources}
    found = {(str(s.path), s.word, s.size_bytes, s.mtime_ns) for s in sources}
    return previous.options == options and recorded == found


def _plan(
    config: IngestConfig, sources: list[SourceFile]
) -> tuple[list[WindowTask], list[SourceRecord]]:
    """Counts the rows of each source and lays out its windows."""
    tasks, records = [], []
    with progress("plan", len(sources), "files") as bar:
        for source in sources:
            index = index_rows(source.path)
            for window in select_windows(config.selection, index.rows, source.word, config.seed):
                block = window.skiprows // STRIDE
                task = WindowTask(
                    store=config.store.absolute(),
                    source=source.path,
                    source_size_bytes=source.size_bytes,
                    word=source.word,
                    window=window,
                    offset=index.offsets[block],
                    offset_row=block * STRIDE,
                    salt=config.salt,
                    smallest=config.test_per_class,
                )
                tasks.append(task)
            records.append(
                SourceRecord(
                    path=str(source.path),
                    word=source.word,
                    size_bytes=source.size_bytes,
                    mtime_ns=source.mtime_ns,
                    rows=index.rows,
                )
            )
            bar.advance(1)
    return tasks, records


def _run(config: IngestConfig, tasks: list[WindowTask]) -> Iterator[Receipt]:
    """Runs the windows on Dask; yields receipts as they come."""
    rows = sum(task.window.nrows for task in tasks)
    with progress("ingest", rows, "rows") as bar, _client(config) as client:
        # From here on the old manifest no longer says what is there. It is kept aside, since its
        # holdout rule must outlive a run that is killed.
        Manifest.set_aside(config.store, keep=not config.fresh)
        workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        for receipt in _bounded_map(client, tasks, workers * _TASKS_IN_FLIGHT_PER_WORKER):
            bar.advance(receipt.file.rows_read)
            yield receipt


def _bounded_map(client: Any, tasks: Iterable[WindowTask], in_flight: int) -> Iterator[Receipt]:
    """Submits at most `in_flight` windows at a time, so that the scheduler's memory is bounded."""
    from distributed import as_completed

    waiting = iter(tasks)

    def submit(task: WindowTask) -> Any:
        return client.submit(ingest_window, task, pure=False, retries=1)

    running = as_completed([submit(task) for task in islice(waiting, in_flight)])
    for future in running:
        yield future.result()
        future.release()
        following = next(waiting, None)
        if following is not None:
            running.add(submit(following))


def _client(config: IngestConfig) -> Any:
    """A Dask client: on processes of its own, or on the cluster at `config.dask`."""
    import dask
    from distributed import Client

    dask.config.set({"logging.distributed": "error"})
    if config.dask != "local":
        try:
            return Client(config.dask, timeout="10s")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler answers at {config.dask}: {error}; "
                "start one, or use --dask local"
            ) from error
    # Processes, because the tolerant parser holds the interpreter lock.
    return Client(
        n_workers=config.workers or os.cpu_count() or 1,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.ERROR,
    )


def _holdout(config: IngestConfig, receipts: list[Receipt]) -> HoldoutRule:
    """The rule of a new store: shares such that every class has its test drawings."""
    by_word: dict[str, list[int]] = {}
    for receipt in receipts:
        by_word.setdefault(receipt.file.word, []).extend(receipt.smallest_hashes)
    wanted = config.test_per_class
    nth = [sorted(h)[wanted - 1] if len(h) >= wanted else None for h in by_word.values()]
    return HoldoutRule(
        salt=config.salt,
        test_share=choose_test_share(nth, config.max_test_share),
        validation_share=config.validation_share,
    )


def _check_kept(manifest: Manifest) -> None:
    """Refuses a source none of whose rows could be read: it is not what it was taken for."""
    kept: dict[str, int] = {}
    for file in manifest.files:
        kept[file.word] = kept.get(file.word, 0) + file.rows
    for source in manifest.sources:
        if not kept.get(source.word):
            reasons = ", ".join(
                f"{reason} ({count})"
                for file in manifest.files
                if file.word == source.word
                for reason, count in file.rejected.items()
            )
            raise InputError(
                f"{source.path} gave no drawing: {source.rows} rows, "
                f"{reasons or 'none to read'}; repair the file or leave the class out"
            )


def _remove_strangers(store: Path, manifest: Manifest) -> None:
    """Deletes files of earlier ingests that the new manifest does not name."""
    named = {file.path for file in manifest.files}
    named |= {quarantine_path(f.word, f.first_row) for f in manifest.files if f.rejected}
    for pattern in ("drawings/word=*/part-*.parquet", "quarantine/word=*/part-*.jsonl"):
        for path in store.glob(pattern):
            if path.relative_to(store).as_posix() not in named:
                path.unlink()
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()


def _result(store: Path, manifest: Manifest, skipped: bool) -> IngestResult:
    return IngestResult(
        store=store,
        fingerprint=manifest.fingerprint,
        classes=len(manifest.label_map),
        rows_read=manifest.rows_read,
        rows_kept=manifest.rows_kept,
        rejected=manifest.rejected,
        test_share=manifest.holdout.test_share,
        skipped=skipped,
    )
