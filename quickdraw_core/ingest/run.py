"""The ingest stage: sources → windows → Dask → store.

Everything that can be wrong with the request is found before any work starts. Each finished
window leaves a receipt, so that a run that ends early costs only what was not finished. The
manifest is written last; until then the store counts as unfinished.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from quickdraw_core.errors import (
    ConfigError,
    InputError,
    QuickdrawError,
    StoreError,
    StoreUnreachableError,
)
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.ingest.cluster import Failure, Job, check_certificates, cluster, run_jobs
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.expectation import Expectation
from quickdraw_core.ingest.finish import (
    ALLOW_CUT_ADVICE,
    build_manifest,
    remove_strangers,
    require_readable,
)
from quickdraw_core.ingest.first_read import unread
from quickdraw_core.ingest.plan import (
    IndexTask,
    PlannedSource,
    first_read_task,
    plan_source,
    window_tasks,
)
from quickdraw_core.ingest.receipts import INGEST_VERSION, Receipt
from quickdraw_core.ingest.row_index import require_whole
from quickdraw_core.ingest.window_task import (
    FirstRead,
    WindowTask,
    ingest_first_read,
    ingest_windows,
    rejected_rows,
)
from quickdraw_core.ingest.windows import WINDOW_BYTES, Window
from quickdraw_core.progress import Bar, progress
from quickdraw_core.sources.files import SourceFile, Stamp
from quickdraw_core.sources.find import find_sources
from quickdraw_core.sources.stored import name_of
from quickdraw_core.store.duplicates import DuplicateSearch, find_duplicates
from quickdraw_core.store.holdout import HoldoutRule
from quickdraw_core.store.location import Location
from quickdraw_core.store.manifest import MANIFEST_NAME, PREVIOUS_NAME, FileRecord, Manifest
from quickdraw_core.store.place import PACKS, place_of
from quickdraw_core.store.schema import part_path
from quickdraw_core.store.store import Store

_SHOWN = 3
"""Faulty files that an error message names; the rest is counted."""

_FILES_A_THREAD = 2
"""So many files behind one keep the threads at work while it is read by one of them."""


@dataclass(frozen=True)
class IngestResult:
    """What a finished ingest says of itself. `skipped`: everything was there already.

    windows_reused: windows of the store that an earlier run had finished; rejected_by_source:
    rejected rows by the name of their file; cut: names of files that end in the middle of a row.
    """

    store: Location
    fingerprint: str
    classes: int
    rows_read: int
    rows_kept: int
    rejected: dict[str, int]
    rejected_by_source: dict[str, int]
    cut: tuple[str, ...]
    windows: int
    windows_reused: int
    test_share: float
    skipped: bool


def ingest(config: IngestConfig) -> IngestResult:
    """Brings `config.store` to what `config` asks for; does nothing where it is so already.

    Raises `InputError` (source), `StoreError` (target) or `ConfigError` before work starts;
    later `InputError` for files that turn out unreadable, once all others are done, and
    `ClusterError` where Dask is lost.
    """
    sources = check(config)
    previous = None if config.fresh else _previous(config.store)
    if previous is not None:
        _check_rule(config, previous.holdout)
    options = _options(config)
    if previous is not None and _is_current(previous, options, sources) and _is_intact(config):
        require_readable(previous.sources, config)
        return _result(config.store, previous, len(previous.files), skipped=True)

    planned, receipts, reused = _run(config, sources)
    manifest = build_manifest(config, options, planned, receipts, previous)
    require_readable(manifest.sources, config)
    remove_strangers(config.store, manifest)
    manifest.write(config.store)
    return _result(config.store, manifest, reused, skipped=False)


def is_finished(config: IngestConfig) -> bool:
    """Whether the store is what `config` asks for of the sources as they are now, by its
    manifest and the checksums of all its files.
    """
    try:
        previous = _previous(config.store)
        current = previous is not None and _is_current(previous, _options(config), check(config))
        return current and _is_intact(config)
    except (QuickdrawError, OSError):
        return False


def source_stamps(config: IngestConfig) -> list[tuple[str, str | None, Stamp]]:
    """Address, word and fingerprint of each source. Raises `InputError`."""
    return [(s.address, s.word, s.stamp) for s in find_sources(config.source, config.classes)]


def check(config: IngestConfig) -> list[SourceFile]:
    """Finds all that is wrong with the request, without work; returns the files to read."""
    check_certificates(config)
    sources = find_sources(config.source, config.classes)
    _check_target(config.store)
    return sources


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
    ours = {MANIFEST_NAME, PREVIOUS_NAME, "drawings", "quarantine", "receipts", PACKS}
    strangers = [name for name in inside if name not in ours and name[0] != "."]
    if strangers:
        raise StoreError(
            f"{store} is no store: it holds {', '.join(sorted(strangers)[:3])}; "
            "give a new or empty folder"
        )


def _previous(store: Location) -> Manifest | None:
    """The manifest of the store as it is, or as it was before an ingest that did not finish."""
    for name in (MANIFEST_NAME, PREVIOUS_NAME):
        if place_of(store).is_file(name):
            return Manifest.read(store, name)
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


def _is_current(previous: Manifest, options: dict[str, Any], sources: list[SourceFile]) -> bool:
    recorded = {
        (s.location, s.word, Stamp(s.size_bytes, s.mtime_ns, s.head_tail_sha256))
        for s in previous.sources
    }
    found = {(source.address, source.word, source.stamp) for source in sources}
    return previous.options == options and recorded == found


def _run(
    config: IngestConfig, sources: list[SourceFile]
) -> tuple[list[PlannedSource], list[Receipt], int]:
    """All windows of all sources, and how many of them were there already."""
    with cluster(config) as client:
        # From here on the old manifest no longer says what is there. It is kept aside, since its
        # holdout rule must outlive a run that is killed.
        Manifest.set_aside(config.store, keep=not config.fresh)
        if config.fresh:
            place_of(config.store).remove_tree("receipts")
        run = _WindowRun(config, sources)
        with progress("ingest", None, "rows") as bar:
            run.ingest(client, bar)
            run.reject_duplicates(client, bar)
    return run.planned, list(run.receipts.values()), run.reused


class _WindowRun:
    """The state of one run over the windows: what is planned, what is done, what failed."""

    def __init__(self, config: IngestConfig, sources: list[SourceFile]) -> None:
        self.config, self.sources = config, sources
        self.planned: list[PlannedSource] = []
        self.receipts: dict[str, Receipt] = {}
        self.failures: dict[str, QuickdrawError] = {}
        self.reused = 0

    def ingest(self, client: Any, bar: Bar) -> None:
        """Plans each source and reads its windows right after, while its pages are warm.

        A file that cannot be read costs that file; `InputError` names it once the rest is done.
        """
        jobs = self._first_jobs(client)
        expected = Expectation(self.sources)
        for job, result in run_jobs(client, jobs):
            source = job.argument.source
            if isinstance(result, Failure):
                self._fail(source, result.error)
            elif isinstance(result, PlannedSource):
                self._plan(result, jobs, expected)
            elif isinstance(result, FirstRead):
                self._done(result.receipts, bar)
                self._plan(PlannedSource(source, result.known), jobs, expected)
            else:
                self._done(result, bar)
            bar.expect(expected.rows)
        if self.failures:
            raise InputError(_explain(self.failures))
        self.planned.sort(key=lambda p: p.source.word or "")

    def _first_jobs(self, client: Any) -> deque[Job]:
        """One a source. Rows are counted while they are read, window after window, where all are
        wanted; but not of large files that too few others follow to keep all threads at work.
        """
        wanted = self.config.selection
        spread_out = len(self.sources) - _FILES_A_THREAD * max(1, sum(client.nthreads().values()))
        jobs: deque[Job] = deque()
        for place, source in enumerate(self.sources):
            count_first = source.stamp.size_bytes > WINDOW_BYTES and place >= spread_out
            if wanted.kind == "all" and not count_first:
                jobs.append(self._read_on(PlannedSource(source, unread(source))))
            else:
                jobs.append(Job(plan_source, IndexTask(source, wanted)))
        return jobs

    def _read_on(self, found: PlannedSource) -> Job:
        return Job(ingest_first_read, first_read_task(self.config, found))

    def _plan(self, found: PlannedSource, jobs: deque[Job], expected: Expectation) -> None:
        """Puts what is to be done next for a source in front of all other jobs."""
        index, size_bytes = found.index, found.source.stamp.size_bytes
        if not self.config.allow_cut:
            try:
                require_whole(found.source, index, ALLOW_CUT_ADVICE)
            except InputError as error:
                expected.of(found.source, index.rows, size_bytes)
                self._fail(found.source, error)
                return
        if self.config.selection.kind == "all" and not index.complete:
            jobs.appendleft(self._read_on(found))
            expected.of(found.source, index.rows, min(index.end, size_bytes))
            return
        self.planned.append(found)
        tasks = window_tasks(self.config, found)
        windows = [window for task in tasks for window in task.windows]
        if part_path(found.source.word, windows[-1].skiprows) not in self.receipts:
            jobs.extendleft(Job(ingest_windows, task) for task in reversed(tasks))
        expected.of(found.source, sum(window.nrows for window in windows), size_bytes)

    def reject_duplicates(self, client: Any, bar: Bar) -> None:
        """Reads the windows again in which a key_id stands that an earlier drawing has."""
        bar.note("looking for duplicates")
        files = sorted((r.file for r in self.receipts.values()), key=lambda f: f.path)
        paths, kept = tuple(file.path for file in files), sum(file.rows for file in files)
        search = DuplicateSearch(self.config.store.absolute(), paths, kept)
        ((_, found),) = run_jobs(client, deque([Job(find_duplicates, search)]))
        again = self._with_duplicates(found) if found else []
        for job, result in run_jobs(client, deque(Job(ingest_windows, task) for task in again)):
            if isinstance(result, Failure):
                self._fail(job.argument.source, result.error)
            else:
                self._done(result, None)
        bar.note("")
        if self.failures:
            raise InputError(_explain(self.failures))

    def _done(self, receipts: list[Receipt], bar: Bar | None) -> None:
        for receipt in receipts:
            self.receipts[receipt.file.path] = receipt
            if bar is not None:
                self.reused += receipt.reused
                bar.advance(receipt.file.rows_read)

    def _fail(self, source: SourceFile, error: QuickdrawError) -> None:
        if isinstance(error, StoreError):
            raise error  # the disk is full, say: no other window fares better
        self.failures[source.address] = error

    def _with_duplicates(self, rows: dict[str, list[int]]) -> Iterator[WindowTask]:
        """The tasks of some files again, told which of their rows (places in them) to refuse."""
        for planned in self.planned:
            for task in window_tasks(self.config, planned):
                for window in task.windows:
                    path = part_path(task.source.word, window.skiprows)
                    if path in rows:
                        numbers = self._kept_rows(task, window, self.receipts[path].file)
                        refused = frozenset(numbers[place] for place in rows[path])
                        yield replace(task, windows=(window,), duplicates=refused)

    def _kept_rows(self, task: WindowTask, window: Window, file: FileRecord) -> list[int]:
        """Which rows of the source stand in a file of the store, in its order."""
        first_line = reader_for(task.source.shape, task.source.word).first_line
        refused = {line - first_line for line in rejected_rows(self.config.store, file)}
        return [n for n in range(window.skiprows, sum(window)) if n not in refused]


def _explain(failures: dict[str, QuickdrawError]) -> str:
    texts = [str(error) for error in failures.values()]
    more = f"; and {len(texts) - _SHOWN} more files" if len(texts) > _SHOWN else ""
    kept = "; all other files are done and need no second reading"
    return "; ".join(texts[:_SHOWN]) + more + kept


def _result(store: Location, manifest: Manifest, reused: int, skipped: bool) -> IngestResult:
    return IngestResult(
        store=store,
        fingerprint=manifest.fingerprint,
        classes=len(manifest.label_map) if manifest.label_map is not None else 0,
        rows_read=manifest.rows_read,
        rows_kept=manifest.rows_kept,
        rejected=manifest.rejected,
        rejected_by_source={
            name_of(source.location): sum(source.rejected.values())
            for source in manifest.sources
            if source.rejected
        },
        cut=tuple(name_of(source.location) for source in manifest.sources if source.cut),
        windows=len(manifest.files),
        windows_reused=reused,
        test_share=manifest.holdout.test_share,
        skipped=skipped,
    )
