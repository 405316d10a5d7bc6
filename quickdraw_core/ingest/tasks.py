"""What Dask runs: counting the rows of a source, and windows → a Parquet file and a receipt each.

A task gets small facts and returns small facts; the rows go from file to file. A window is not
read again if its receipt is there, made of the same input, and its file is whole.
"""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from quickdraw_core.errors import WriteError
from quickdraw_core.formats.rows import Rejected, Rows
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.receipts import Receipt, receipt_key, write_receipt
from quickdraw_core.ingest.target import Target
from quickdraw_core.reading.first_read import found_windows
from quickdraw_core.reading.row_index import (
    RowIndex,
    cached_index,
    index_rows,
    keep_index,
    require_rows,
)
from quickdraw_core.reading.row_reader import (
    WindowGroup,
    parse_window,
    read_windows,
    require_unchanged,
    window_groups,
)
from quickdraw_core.reading.windows import RowSelection, Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.holdout import mix64
from quickdraw_core.store.manifest import FileRecord, count_reasons
from quickdraw_core.store.schema import part_path, quarantine_path, table_of, write_part
from quickdraw_core.system.files import cause_of

JOB_BYTES = 128 << 20
"""Of a file that is read for the first time, by one call: each costs Dask some milliseconds."""


@dataclass(frozen=True)
class IndexTask:
    """A source whose rows are to be counted, as far as `selection` needs it."""

    source: SourceFile
    selection: RowSelection


@dataclass(frozen=True)
class PlannedSource:
    """A source, and where its rows are."""

    source: SourceFile
    index: RowIndex


def plan_source(task: IndexTask) -> PlannedSource:
    """Counts the rows of a source, or takes the index from the cache.

    Raises `InputError` for a source without rows.
    """
    source, selection = task.source, task.selection
    index = index_rows(source, selection.rows if selection.kind == "head" else None)
    require_rows(source, index)
    return PlannedSource(source, index)


@dataclass(frozen=True)
class WindowTask(WindowGroup):
    """All that a worker needs for the windows of a group.

    duplicates: numbers of rows, from 0, whose key_id an earlier drawing has.
    """

    target: Target
    duplicates: frozenset[int] = frozenset()


def window_tasks(config: IngestConfig, target: Target, planned: PlannedSource) -> list[WindowTask]:
    """One task a window; one for all windows of a file that is read from its beginning only."""
    groups = window_groups(planned.source, planned.index, config.selection, config.seed)
    return [WindowTask(**vars(group), target=target) for group in groups]


def ingest_windows(task: WindowTask) -> list[Receipt]:
    """Reads, checks and stores the windows of a task; refused lines go to the quarantine.

    Raises `InputError` if the file changed since it was planned, `WriteError` if the store
    cannot be written.
    """
    receipts = {window: _find(task, window) for window in task.windows}
    missing = [window for window, receipt in receipts.items() if receipt is None]
    if missing:
        group = replace(task, windows=tuple(missing))
        for window, rows, rejected in read_windows(group, task.duplicates):
            receipts[window] = _store(task, window, rows, rejected)
    return [receipt for receipt in receipts.values() if receipt is not None]


@dataclass(frozen=True)
class FirstReadTask:
    """All that a worker needs for the windows behind `known`, of a file without an index."""

    source: SourceFile
    known: RowIndex
    target: Target


class FirstRead(NamedTuple):
    """The receipts of the windows that were read, and the index of the file as far as them."""

    receipts: list[Receipt]
    known: RowIndex


def ingest_first_read(task: FirstReadTask) -> FirstRead:
    """Does what `ingest_windows` does for the next windows of a file, `JOB_BYTES` of it or a few
    more, and finds where they end.

    A file that is read from its beginning only is read to its end. A complete index is kept. If
    one was kept before, nothing is read, since windows can then be read in any order. Raises what
    `ingest_windows` raises, and `InputError` for a file without a row.
    """
    kept = None if task.known.rows else cached_index(task.source)
    if kept is not None:
        return FirstRead([], kept)
    read = _read_on(task)
    while not read.known.complete and read.known.end - task.known.end < JOB_BYTES:
        more = _read_on(replace(task, known=read.known))
        read = FirstRead(read.receipts + more.receipts, more.known)
    require_rows(task.source, read.known)
    keep_index(task.source, read.known)
    return read


def _read_on(task: FirstReadTask) -> FirstRead:
    """The next window of a file; all others too if it is read from its beginning only."""
    source, known, target = task.source, task.known, task.target
    receipts: list[Receipt] = []
    for window, pieces, index in found_windows(source, known):
        size_bytes = index.end - known.end
        window_task = WindowTask(source, (window,), known.end, known.rows, size_bytes, target)
        known = index
        if not window.nrows:
            break
        receipt = _find(window_task, window)
        if receipt is None:
            rows = parse_window(source, window, pieces)
            require_unchanged(source)
            receipt = _store(window_task, *rows)
        receipts.append(receipt)
        if not source.sequential:
            break
    if not receipts or source.sequential or known.end == source.stamp.size_bytes:
        known = replace(known, complete=True)  # the last window ended where the file does
    return FirstRead(receipts, known)


def _find(task: WindowTask, window: Window) -> Receipt | None:
    return task.target.find(task.source.word, window.skiprows, _key(task, window))


def _key(task: WindowTask, window: Window) -> str:
    duplicates = sorted(d for d in task.duplicates if 0 <= d - window.skiprows < window.nrows)
    return receipt_key(task.source, window, task.target.salt, task.target.smallest, duplicates)


def _store(task: WindowTask, window: Window, rows: Rows, rejected: list[Rejected]) -> Receipt:
    """Writes drawings, quarantine and, last, the receipt."""
    try:
        return _write(task, window, rows, rejected)
    except OSError as error:
        fault = str(error)
        if not isinstance(error, WriteError):
            fault = f"cannot write to {task.target.store}: {cause_of(error)}"
        raise WriteError(f"{fault}; finished windows are kept") from error


def _write(task: WindowTask, window: Window, rows: Rows, rejected: list[Rejected]) -> Receipt:
    word = task.source.word
    storage, path = task.target.storage(task.target.staged), part_path(word, window.skiprows)
    written = write_part(table_of(rows), storage, path)
    quarantine_sha256 = _write_quarantine(storage, task, window, rejected)
    record = FileRecord(
        path=path,
        word=word,
        first_row=window.skiprows,
        rows_read=window.nrows,
        rows=len(rows),
        strokes=len(rows.drawings.stroke_lengths),
        points=len(rows.drawings.x),
        size_bytes=written.size_bytes,
        sha256=written.sha256,
        rejected=count_reasons({row.reason: 1} for row in rejected),
        examples=_examples(rejected),
        quarantine_sha256=quarantine_sha256,
    )
    receipt = Receipt(
        key=_key(task, window),
        file=record,
        smallest_hashes=_smallest_hashes(rows, task.target),
        staged=task.target.staged,
    )
    write_receipt(storage, receipt)
    return receipt


def _examples(rejected: list[Rejected]) -> dict[str, str]:
    """Of each reason, the line that was refused first and what it has."""
    return {row.reason: f"line {row.line:,}: {row.found}" for row in reversed(rejected)}


def _write_quarantine(
    storage: Storage, task: WindowTask, window: Window, rejected: list[Rejected]
) -> str | None:
    """Writes the refused lines, one JSON object each; returns the file's SHA-256."""
    name = quarantine_path(task.source.word, window.skiprows)
    if not rejected:
        storage.remove(name)
        return None
    records = [{"source": task.source.name, **asdict(row)} for row in rejected]
    data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
    storage.write(name, data)
    return sha256(data).hexdigest()


def rejected_rows(storage: Storage, file: FileRecord) -> list[int]:
    """The line numbers of a file's refused lines, from the quarantine."""
    if file.quarantine_sha256 is None:
        return []
    lines = storage.read(file.quarantine_path).split(b"\n")
    return [json.loads(line)["line"] for line in lines if line]


def _smallest_hashes(rows: Rows, target: Target) -> tuple[int, ...]:
    """What the choice of the test share needs of this window: a few numbers, not its rows."""
    hashes = mix64(rows.key_ids ^ np.uint64(target.salt))
    if len(hashes) > target.smallest:
        hashes = np.partition(hashes, target.smallest)[: target.smallest]
    return tuple(np.sort(hashes).tolist())
