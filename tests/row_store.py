"""A store of given rows, written without an ingest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from file_tree import sha256_of

from quickdraw_core.dataset_card.card_files import card_files
from quickdraw_core.drawing import Stroke
from quickdraw_core.formats.rows import ParsedRows, Rows
from quickdraw_core.labels import LabelMap
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.holdout import DEFAULT_SALT, HoldoutRule
from quickdraw_core.store.manifest import FORMAT_VERSION, FileRecord, Manifest, SourceRecord
from quickdraw_core.store.schema import part_path, quarantine_path, table_of, write_part
from quickdraw_core.store.store import Store
from quickdraw_core.system.files import write_atomic


@dataclass(frozen=True)
class Row:
    """A row of a store; timestamp_us: microseconds since 1970 UTC."""

    key_id: int
    countrycode: str | None
    recognized: bool | None
    timestamp_us: int | None
    strokes: Sequence[Stroke]


def build_store(
    path: Path, windows: dict[str | None, list[list[Row]]], test_share: float = 0.3
) -> Store:
    """Writes a store of the given windows of each word as an ingest would, without receipts.

    One row was refused at the end of each window.
    """
    files, sources = [], []
    for word, some in windows.items():
        records = []
        for window in some:
            first_row = sum(record.rows_read for record in records)
            records.append(_write_window(path, word, first_row, window))
        files += records
        sources.append(_source(word, records))
    words = [word for word in windows if word is not None]
    rule = HoldoutRule(salt=DEFAULT_SALT, test_share=test_share, validation_share=0.2)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        options={"rows": "all", "salt": rule.salt, "validation_share": 0.2, "test_per_class": 1},
        label_map=LabelMap.of(words) if words else None,
        holdout=rule,
        sources=sources,
        files=sorted(files, key=lambda file: file.path),
    )
    manifest.write(path)
    for name, data in card_files(manifest, LocalStorage(path)).items():
        (path / name).write_bytes(data)
    return Store.open(path)


def _write_window(path: Path, word: str | None, first_row: int, window: list[Row]) -> FileRecord:
    parsed = ParsedRows()
    for row in window:
        xs, ys = zip(*row.strokes, strict=True)
        lengths = np.array([len(x) for x in xs], "<u2").tobytes()
        x, y = (b"".join(map(bytes, values)) for values in (xs, ys))
        parsed.extend(
            ParsedRows(
                [row.key_id], [row.countrycode], [row.recognized], [row.timestamp_us],
                [x], [y], [lengths],
            )
        )  # fmt: skip
    refused = {"line": first_row + len(window) + 1, "reason": "odd", "text": ""}
    quarantine = path / quarantine_path(word, first_row)
    write_atomic(quarantine, json.dumps(refused) + "\n", sync=False)
    relative = part_path(word, first_row)
    write_part(table_of(Rows.of(parsed)), LocalStorage(path), relative)
    return FileRecord(
        path=relative,
        word=word,
        first_row=first_row,
        rows_read=len(window) + 1,
        rows=len(window),
        strokes=sum(len(row.strokes) for row in window),
        points=sum(len(x) for row in window for x, _ in row.strokes),
        size_bytes=(path / relative).stat().st_size,
        sha256=sha256_of(path / relative),
        rejected={"odd": 1},
        quarantine_sha256=sha256_of(quarantine),
    )


def _source(word: str | None, records: list[FileRecord]) -> SourceRecord:
    read = sum(record.rows_read for record in records)
    return SourceRecord(
        location=f"/data/{word}.ndjson",
        word=word,
        form="ndjson",
        size_bytes=1_000,
        mtime_ns=0,
        head_tail_sha256="",
        rows=read,
        rows_read=read,
        rows_kept=sum(record.rows for record in records),
        rejected={"odd": len(records)},
    )
