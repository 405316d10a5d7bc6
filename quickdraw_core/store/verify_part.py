"""Whether one part of a store, the files of one window, is what the manifest says.

A part has up to three files: drawings, rejected rows, receipt. A fault in one does not keep the
others from being checked. Bytes with a wrong checksum are not parsed: they could make a reader
ask for any amount of memory.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from quickdraw_core.drawing import Int64Array, UInt64Array
from quickdraw_core.errors import StoreError, StoreUnreachableError
from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.columns import Lengths, numbers_of
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.manifest import FileRecord, Manifest
from quickdraw_core.store.schema import SCHEMA, part_path
from quickdraw_core.store.verify_pack import PackedPart

_AGAIN = "ingest again to restore it"
_FRESH = "ingest again with --fresh"  # receipts vouch for a file that was made wrongly
_NO_RECEIPT = "delete it: the window will be read again when an ingest needs it"


@dataclass(frozen=True)
class Part:
    """What is checked. form: of the source; pack: where its drawings are in the pack."""

    storage: Storage
    manifest: Manifest
    file: FileRecord
    form: str
    pack: PackedPart | None


@dataclass
class PartCheck:
    """The result of a check. readable: its drawings could be read; rows: how many; splits: how
    many of them are on each side of the holdout, int64 [3]; unlike_pack: the array of the pack
    that holds other values; lacks_receipt: a later ingest may have to read the window again.
    """

    file: FileRecord
    problems: list[str] = field(default_factory=list)
    readable: bool = False
    rows: int = 0
    splits: Int64Array = field(default_factory=lambda: np.zeros(len(Split), np.int64))
    bytes_read: int = 0
    lacks_receipt: bool = False
    unlike_pack: str | None = None


def check_part(part: Part) -> PartCheck:
    """Reads all files of a part. Raises only `StoreUnreachableError`; faults are problems."""
    check = PartCheck(part.file)
    if part.file.path != part_path(part.file.word, part.file.first_row):
        return check  # not a path to read; the manifest's own check names it
    hashes = None
    with _noting_problems(check):
        hashes = _check_drawings(part, check)
    with _noting_problems(check):
        _check_quarantine(part, check)
    with _noting_problems(check):
        check.lacks_receipt = not _check_receipt(part, hashes)
    return check


@contextmanager
def _noting_problems(check: PartCheck) -> Iterator[None]:
    try:
        yield
    except StoreUnreachableError:
        raise  # what cannot be read now is not faulty
    except StoreError as error:
        check.problems.append(str(error))


def _check_drawings(part: Part, check: PartCheck) -> UInt64Array:
    """Reads the Parquet file; returns the holdout hashes of its drawings."""
    path, rule = part.storage.address(part.file.path), part.manifest.holdout
    table = _read_table(path, part)
    check.bytes_read += part.file.size_bytes
    check.readable, check.rows = True, len(table)
    faults = list(_content_faults(table, part.file))
    check.problems += [f"{path} {fault}; {_FRESH}" for fault in faults]
    key_ids = numbers_of(table["key_id"])
    check.splits = np.bincount(rule.split(key_ids), minlength=len(Split))
    if part.pack is not None and not faults:
        check.unlike_pack = part.pack.difference(table)
    return rule.hashes(key_ids)


def _read_table(path: str, part: Part) -> pa.Table:
    """All columns of a file whose bytes are the manifest's. Raises `StoreError`."""
    data = _read_drawings(part.storage, part.file)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if not file.schema_arrow.equals(SCHEMA):
            raise StoreError(f"{path} {_schema_fault(file.schema_arrow)}; {_FRESH}")
        table = file.read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise StoreError(f"{path} is not a Parquet file of a store: {text}; {_FRESH}") from error
    return table


def _read(storage: Storage, name: str) -> bytes:
    path = storage.address(name)
    try:
        return storage.read(name)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; {_AGAIN}") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; {_AGAIN}") from error


def _read_drawings(storage: Storage, file: FileRecord) -> bytes:
    path, data = storage.address(file.path), _read(storage, file.path)
    if len(data) != file.size_bytes:
        raise StoreError(
            f"{path} has {len(data):,} bytes, the manifest says {file.size_bytes:,}; {_AGAIN}"
        )
    _require_digest(path, data, file.sha256)
    return data


def _require_digest(path: str, data: bytes, expected: str | None) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise StoreError(
            f"{path} is damaged: its SHA-256 is {digest[:12]}…, the manifest says "
            f"{str(expected)[:12]}…; {_AGAIN}"
        )


def _schema_fault(schema: pa.Schema) -> str:
    names = SCHEMA.names
    if schema.names != names:
        return f"has the columns {', '.join(schema.names)}, not {', '.join(names)}"
    name = next(name for name in names if not schema.field(name).equals(SCHEMA.field(name)))
    return f"has the column {_type(schema.field(name))}, not {_type(SCHEMA.field(name))}"


def _type(column: pa.Field) -> str:
    return f"{column.name} ({column.type}{', may be null' if column.nullable else ''})"


def _content_faults(table: pa.Table, file: FileRecord) -> Iterator[str]:
    """Drawings that cannot exist, and differences from the manifest's record."""
    if len(table) != file.rows:
        yield f"holds {len(table):,} drawings, the manifest says {file.rows:,}"
    sizes = {name: numbers_of(pc.binary_length(table[name])) for name in ("x", "y")}
    yield from _rows(sizes["x"] != sizes["y"], "x and y of different lengths")
    try:
        lengths = Lengths.of(table["stroke_lengths"])
    except ValueError as error:
        yield f"has {error}"
        return
    yield from _rows(lengths.strokes == 0, "no stroke")
    yield from _rows(lengths.points != sizes["x"], "strokes of other lengths than its points")
    empty = np.searchsorted(lengths.offsets, np.flatnonzero(lengths.of_strokes == 0), "right") - 1
    yield from _rows(np.bincount(empty, minlength=len(table)) > 0, "a stroke without points")
    for what, count, expected in (
        ("strokes", len(lengths.of_strokes), file.strokes),
        ("points", int(sizes["x"].sum()), file.points),
    ):
        if count != expected:
            yield f"holds {count:,} {what}, the manifest says {expected:,}"


def _rows(faulty: npt.NDArray[np.bool_], what: str) -> Iterator[str]:
    if faulty.any():
        count, first = int(faulty.sum()), int(faulty.argmax())
        yield f"has {count:,} drawing{'s' * (count > 1)} with {what}, the first in row {first:,}"


def _check_quarantine(part: Part, check: PartCheck) -> None:
    """The file of rejected rows: its bytes, counts by reason, and that they are the window's."""
    file = part.file
    if file.quarantine_sha256 is None:
        return
    name = file.quarantine_path
    path = part.storage.address(name)
    data = _read(part.storage, name)
    _require_digest(path, data, file.quarantine_sha256)
    check.bytes_read += len(data)
    try:
        counts, lines = _read_quarantine(data)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} holds a line of another form ({error}); {_FRESH}") from error
    if counts != file.rejected:
        raise StoreError(
            f"{path} has {_counted(counts)}, the manifest says {_counted(file.rejected)}; {_FRESH}"
        )
    first_line = file.first_row + (2 if part.form.startswith("csv") else 1)
    if lines and not first_line <= lines[0] <= lines[-1] < first_line + file.rows_read:
        raise StoreError(
            f"{path} has lines {lines[0]:,} to {lines[-1]:,}, its window is lines {first_line:,} "
            f"to {first_line + file.rows_read - 1:,}; {_FRESH}"
        )


def _read_quarantine(data: bytes) -> tuple[dict[str, int], list[int]]:
    """Rejected rows by reason, and their line numbers. Raises `ValueError` if these decrease."""
    counts: dict[str, int] = {}
    lines: list[int] = []
    for text in io.BytesIO(data):
        record = json.loads(text)
        counts[record["reason"]] = counts.get(record["reason"], 0) + 1
        lines.append(int(record["line"]))
        if lines[-2:-1] >= lines[-1:]:
            raise ValueError(f"line {lines[-1]:,} after line {lines[-2]:,}")
    return counts, lines


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {n:,}" for reason, n in sorted(counts.items())) or "nothing"


class _Receipt(BaseModel):
    """The part of a receipt, which the ingest writes, that has to agree with the store."""

    key: str
    file: dict[str, Any]
    smallest_hashes: list[int]


def _check_receipt(part: Part, hashes: UInt64Array | None) -> bool:
    """Whether there is a receipt. Raises `StoreError` if it disagrees with the manifest."""
    name = part.file.receipt_path
    path = part.storage.address(name)
    try:
        receipt = _Receipt.model_validate_json(part.storage.read(name))
    except FileNotFoundError:
        return False
    except (OSError, ValidationError):
        raise StoreError(f"{path} is a receipt that cannot be read; {_NO_RECEIPT}") from None
    expected, recorded = part.file.model_dump(mode="json"), receipt.file
    for name in expected | recorded:
        if expected.get(name) != recorded.get(name):
            raise StoreError(
                f"{path} has {name} {recorded.get(name)!r}, the manifest says "
                f"{expected.get(name)!r}; {_NO_RECEIPT}"
            )
    if not re.fullmatch(r"[0-9a-f]{64}", receipt.key):
        raise StoreError(f"{path} has a key that is not a SHA-256; {_NO_RECEIPT}")
    count = part.manifest.options.get("test_per_class")
    if hashes is not None and receipt.smallest_hashes != np.sort(hashes)[:count].tolist():
        raise StoreError(
            f"{path} has other hashes than the smallest of its drawings; {_NO_RECEIPT}"
        )
    return True
