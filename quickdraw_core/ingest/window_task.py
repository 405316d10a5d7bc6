"""One window of one file → one Parquet file, and a receipt: the unit that Dask runs.

The task gets small facts and returns small facts; the rows go from file to file.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from quickdraw_core.errors import InputError
from quickdraw_core.formats.kaggle import (
    TRAIN_COLUMNS,
    Header,
    ParsedRows,
    Rejected,
    parse_lines,
)
from quickdraw_core.ingest.row_index import read_window
from quickdraw_core.ingest.windows import Window
from quickdraw_core.labels import underscored
from quickdraw_core.store.holdout import UInt64Array, mix64
from quickdraw_core.store.manifest import FileRecord
from quickdraw_core.store.schema import part_path, table_of, write_part
from quickdraw_core.store.store import sha256_of


@dataclass(frozen=True)
class WindowTask:
    """All that a worker needs. `offset` is the byte where data row `offset_row` begins."""

    store: Path
    source: Path
    source_size_bytes: int
    word: str
    window: Window
    offset: int
    offset_row: int
    salt: int
    smallest: int


@dataclass(frozen=True)
class Receipt:
    """What a finished window reports: its file, and its smallest holdout hashes, sorted."""

    file: FileRecord
    smallest_hashes: tuple[int, ...]


def ingest_window(task: WindowTask) -> Receipt:
    """Reads, checks and stores one window; refused lines go to the quarantine.

    Raises `InputError` where the file changed since it was planned.
    """
    if task.source.stat().st_size != task.source_size_bytes:
        raise InputError(
            f"{task.source} changed while it was read: {task.source.stat().st_size} bytes, "
            f"{task.source_size_bytes} before; ingest again once it is complete"
        )
    with task.source.open("rb") as file:
        header = Header.parse(file.readline(), TRAIN_COLUMNS, task.source)
    lines = list(read_window(task.source, task.offset, task.offset_row, task.window))
    if len(lines) != task.window.nrows:
        raise InputError(
            f"{task.source} ended {task.window.nrows - len(lines)} rows early: it was cut short "
            "while it was read; ingest again once it is complete"
        )
    rows, rejected = parse_lines(lines, header, task.window.skiprows + 2, task.word)
    relative = part_path(task.word, task.window.skiprows)
    path = task.store / relative
    write_part(table_of(rows), path)
    _write_quarantine(task, rejected)
    record = FileRecord(
        path=relative,
        word=task.word,
        first_row=task.window.skiprows,
        rows_read=len(lines),
        rows=len(rows),
        strokes=sum(map(len, rows.stroke_lengths)) // 2,
        points=sum(map(len, rows.x)),
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        rejected=_count(rejected),
    )
    return Receipt(record, _smallest_hashes(rows, task))


def quarantine_path(word: str, first_row: int) -> str:
    """Path of a window's refused lines inside the store, one JSON object a line."""
    return f"quarantine/word={underscored(word)}/part-{first_row:09d}.jsonl"


def _write_quarantine(task: WindowTask, rejected: list[Rejected]) -> None:
    path = task.store / quarantine_path(task.word, task.window.skiprows)
    if not rejected:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rejected:
            record = {"source": task.source.name, **asdict(row)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    temporary.replace(path)


def _count(rejected: list[Rejected]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rejected:
        counts[row.reason] = counts.get(row.reason, 0) + 1
    return dict(sorted(counts.items()))


def _smallest_hashes(rows: ParsedRows, task: WindowTask) -> tuple[int, ...]:
    """What the choice of the test share needs of this window: a few numbers, not its rows."""
    key_ids: UInt64Array = np.array(rows.key_ids, np.uint64)
    hashes = np.sort(mix64(key_ids ^ np.uint64(task.salt)))
    return tuple(int(value) for value in hashes[: task.smallest])
