"""All windows of all sources, read on Dask: what is planned, what is done, which files failed.

In: the files to read. Out: the receipts of those that can be used, without two drawings of the
same key_id, and why the others cannot be used.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from quickdraw_core.errors import (
    InputError,
    QuickdrawError,
    StoreError,
    UnreadableError,
    WriteError,
)
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.ingest.build_manifest import ALLOW_CUT_ADVICE, fault_of, source_record
from quickdraw_core.ingest.cluster import Failure, Job, run_jobs
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.receipts import Receipt
from quickdraw_core.ingest.result import explain
from quickdraw_core.ingest.target import Target
from quickdraw_core.ingest.tasks import (
    FirstRead,
    FirstReadTask,
    IndexTask,
    PlannedSource,
    WindowTask,
    ingest_first_read,
    ingest_windows,
    plan_source,
    rejected_rows,
    window_tasks,
)
from quickdraw_core.progress import Bar
from quickdraw_core.reading.first_read import unread
from quickdraw_core.reading.row_index import require_whole
from quickdraw_core.reading.windows import WINDOW_BYTES, Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.store.duplicates import DuplicateSearch, find_duplicates
from quickdraw_core.store.manifest import UNFINISHED
from quickdraw_core.store.schema import part_path

_FILES_A_THREAD = 2
"""So many files behind one keep the threads at work while it is read by one of them."""


class ExpectedRows:
    """Estimates the rows of all sources from those known so far."""

    def __init__(self, sources: list[SourceFile]) -> None:
        self._total_bytes = sum(source.stamp.size_bytes for source in sources)
        self._known: dict[str, tuple[int, int]] = {}

    def note(self, source: SourceFile, rows: int, size_bytes: int) -> None:
        """So many rows are wanted of the first bytes of a source; replaces what was noted."""
        self._known[source.address] = rows, size_bytes

    @property
    def rows(self) -> int:
        """Rows expected of all sources together; exact once all are known as a whole."""
        rows = sum(rows for rows, _ in self._known.values())
        size_bytes = sum(size_bytes for _, size_bytes in self._known.values())
        return round(rows * self._total_bytes / max(1, size_bytes))


class WindowRun:
    """The state of one run over the windows.

    planned, receipts: of the files that can be used, receipts by the path of their part;
    failures: why others cannot, by their address; reused: parts that were there before.
    """

    def __init__(self, config: IngestConfig, target: Target, sources: list[SourceFile]) -> None:
        self.config, self.target, self.sources = config, target, sources
        self.planned: list[PlannedSource] = []
        self.receipts: dict[str, Receipt] = {}
        self.failures: dict[str, str] = {}
        self.reused: set[str] = set()

    def run(self, client: Any, bar: Bar) -> None:
        """Reads everything. A file is left out if it cannot be read, or if too many of its rows
        are rejected.

        Raises `UnreadableError` if no file is left, or at the first one if the ingest is
        strict; `StoreError` and `ClusterError` at once.
        """
        self._read_all(client, bar)
        self._leave_out_faulty()
        bar.note("looking for duplicates")
        refusing = self._refuse_duplicates(client)
        while self._leave_out_faulty():
            # Rows that had repeated rows of these files are no longer duplicates.
            self._read_again(client, self._tasks_of(dict.fromkeys(refusing & {*self.receipts})))
            refusing = self._refuse_duplicates(client)
        self.reused &= {*self.receipts}
        bar.note("")

    def _read_all(self, client: Any, bar: Bar) -> None:
        """Plans each source and reads its windows right after, while its pages are warm."""
        jobs = self._first_jobs(client)
        expected = ExpectedRows(self.sources)
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
            if self.config.strict:
                self._check_rejected(p for p in self.planned if p.source == source)
        self.planned.sort(key=lambda p: p.source.word or "")

    def _first_jobs(self, client: Any) -> deque[Job]:
        """One a source. If all rows are wanted, they are counted while they are read, window after
        window. Large files that too few others follow to keep all threads at work are counted
        before they are read.
        """
        wanted = self.config.selection
        spread_out = len(self.sources) - _FILES_A_THREAD * max(1, sum(client.nthreads().values()))
        jobs: deque[Job] = deque()
        for number, source in enumerate(self.sources):
            count_first = source.stamp.size_bytes > WINDOW_BYTES and number >= spread_out
            if wanted.kind == "all" and not count_first:
                jobs.append(self._read_on(PlannedSource(source, unread(source))))
            else:
                jobs.append(Job(plan_source, IndexTask(source, wanted)))
        return jobs

    def _read_on(self, planned: PlannedSource) -> Job:
        return Job(ingest_first_read, FirstReadTask(planned.source, planned.index, self.target))

    def _plan(self, planned: PlannedSource, jobs: deque[Job], expected: ExpectedRows) -> None:
        """Puts what is to be done next for a source in front of all other jobs."""
        source, index, size_bytes = planned.source, planned.index, planned.source.stamp.size_bytes
        if not self.config.allow_cut:
            try:
                require_whole(source, index, ALLOW_CUT_ADVICE)
            except InputError as error:
                expected.note(source, index.rows, size_bytes)
                self._fail(source, error)
                return
        if self.config.selection.kind == "all" and not index.complete:
            jobs.appendleft(self._read_on(planned))
            expected.note(source, index.rows, min(index.end, size_bytes))
            return
        self.planned.append(planned)
        tasks = window_tasks(self.config, self.target, planned)
        windows = [window for task in tasks for window in task.windows]
        if part_path(source.word, windows[-1].skiprows) not in self.receipts:
            jobs.extendleft(Job(ingest_windows, task) for task in reversed(tasks))
        expected.note(source, sum(window.nrows for window in windows), size_bytes)

    def _done(self, receipts: list[Receipt], bar: Bar) -> None:
        for receipt in receipts:
            self.receipts[receipt.file.path] = receipt
            self.reused |= {receipt.file.path} if receipt.reused else set()
            bar.advance(receipt.file.rows_read)

    def _fail(self, source: SourceFile, error: QuickdrawError) -> None:
        if isinstance(error, StoreError | WriteError):
            raise error  # the disk is full, say: no other window fares better
        if self.config.strict:
            raise UnreadableError(f"{error}; what was there before is unchanged") from error
        self.failures.setdefault(source.address, str(error))

    def _check_rejected(self, planned: Iterable[PlannedSource]) -> None:
        """Notes the files that are done and of which too many rows were rejected."""
        for each in planned:
            source = each.source
            tasks = window_tasks(self.config, self.target, each)
            paths = [part_path(source.word, w.skiprows) for task in tasks for w in task.windows]
            if self.receipts.keys() >= {*paths}:
                files = [self.receipts[path].file for path in paths]
                quarantine = self._quarantine(published=not self.config.strict)
                fault = fault_of(source_record(each, files), self.config, quarantine)
                if fault is not None:
                    self._fail(source, UnreadableError(fault))

    def _quarantine(self, published: bool) -> str:
        """Where the rejected rows of a file that is left out are. published: once the others are
        in the store; else if the ingest fails.
        """
        staged = published or self.target.staged
        return str(
            (self.config.store / UNFINISHED if staged else self.config.store) / "quarantine"
        )

    def _leave_out_faulty(self) -> bool:
        """Drops the files that cannot be used; returns whether there were any."""
        self._check_rejected(self.planned)
        failed = {s.word for s in self.sources if s.address in self.failures}
        dropped = [path for path, r in self.receipts.items() if r.file.word in failed]
        for path in dropped:
            del self.receipts[path]
        self.planned = [p for p in self.planned if p.source.word not in failed]
        if not self.planned:
            # Nothing is published, so rejected rows stay where they were written.
            published, written = (
                self._quarantine(published=True),
                self._quarantine(published=False),
            )
            reasons = explain(self.failures).replace(published, written)
            raise UnreadableError(f"no file can be used: {reasons}")
        return bool(dropped)

    def _refuse_duplicates(self, client: Any) -> set[str]:
        """Reads windows again that hold a key_id of an earlier drawing; returns their paths."""
        receipts = [self.receipts[path] for path in sorted(self.receipts)]
        paths = {self.target.path_of(receipt): receipt.file.path for receipt in receipts}
        kept = sum(receipt.file.rows for receipt in receipts)
        search = DuplicateSearch(self.target.store, tuple(paths), kept)
        ((_, duplicates),) = run_jobs(client, deque([Job(find_duplicates, search)]))
        rows = {paths[path]: positions for path, positions in duplicates.items()}
        self._read_again(client, self._tasks_of(rows))
        return {*rows}

    def _read_again(self, client: Any, tasks: Iterable[WindowTask]) -> None:
        for job, result in run_jobs(client, deque(Job(ingest_windows, task) for task in tasks)):
            if isinstance(result, Failure):
                self._fail(job.argument.source, result.error)
            else:
                self.receipts |= {receipt.file.path: receipt for receipt in result}

    def _tasks_of(self, rows: dict[str, list[int] | None]) -> Iterator[WindowTask]:
        """The tasks of some windows again, with those of their rows that are to be rejected."""
        for planned in self.planned if rows else ():
            for task in window_tasks(self.config, self.target, planned):
                for window in task.windows:
                    path = part_path(task.source.word, window.skiprows)
                    if path in rows:
                        refused = self._rows_of_source(task, window, rows[path] or [])
                        yield replace(task, windows=(window,), duplicates=refused)

    def _rows_of_source(
        self, task: WindowTask, window: Window, positions: list[int]
    ) -> frozenset[int]:
        """The rows of the source that are at some positions in a file of the store."""
        receipt = self.receipts[part_path(task.source.word, window.skiprows)]
        first_line = reader_for(task.source.format, task.source.word).first_line
        lines = rejected_rows(self.target.storage(receipt.staged), receipt.file)
        rejected = {line - first_line for line in lines}
        kept = [n for n in range(window.skiprows, sum(window)) if n not in rejected]
        return frozenset(kept[position] for position in positions)
