"""Columns of the store, and how a batch of rows becomes one file of it.

Binary columns hold a drawing's points because nested lists of `uint8` cost 5 to 8 times more to
write and read; DuckDB, Polars and pandas open them as plain bytes.
"""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.drawing import Int64Array
from quickdraw_core.formats.rows import NO_TIME, UNKNOWN_RECOGNIZED, Rows
from quickdraw_core.labels import spaced, underscored
from quickdraw_core.names import check_word
from quickdraw_core.storage.storage import Storage, WrittenFile

SCHEMA = pa.schema(
    [
        pa.field("key_id", pa.uint64(), nullable=False),
        pa.field("countrycode", pa.string()),
        pa.field("recognized", pa.bool_()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("x", pa.binary(), nullable=False),
        pa.field("y", pa.binary(), nullable=False),
        pa.field("stroke_lengths", pa.binary(), nullable=False),
    ]
)
"""`recognized` is null if the source does not say; the word is that of the folder."""

_ENCODINGS = {
    "key_id": "BYTE_STREAM_SPLIT",
    "timestamp": "BYTE_STREAM_SPLIT",
    "x": "DELTA_LENGTH_BYTE_ARRAY",
    "y": "DELTA_LENGTH_BYTE_ARRAY",
    "stroke_lengths": "DELTA_LENGTH_BYTE_ARRAY",
}
"""Chosen by size and time on real drawings: 4 % smaller than plain values, read twice as fast."""

_CODECS = {name: "none" if name in ("x", "y") else "zstd" for name in SCHEMA.names}
"""Coordinates are not compressed: their bytes have 7.9 bits of entropy, so zstd gains nothing, and
takes a third of the writing time.
"""

NO_WORD = "__HIVE_DEFAULT_PARTITION__"
"""The folder `word=…` of drawings without a word: this name means null in Hive partitioning."""


def part_name(word: str | None, first_row: int) -> str:
    """Name of a window's files below each folder of the store, without an ending:
    `word=hot_dog/part-000000000`. Raises `InputError` for what cannot be a word.
    """
    if word is not None:
        check_word(spaced(word))
    return f"word={NO_WORD if word is None else underscored(word)}/part-{first_row:09d}"


def part_path(word: str | None, first_row: int) -> str:
    """Path of a window's drawings inside the store."""
    return f"drawings/{part_name(word, first_row)}.parquet"


def quarantine_path(word: str | None, first_row: int) -> str:
    """Path of a window's rejected rows inside the store, one JSON object a line."""
    return f"quarantine/{part_name(word, first_row)}.jsonl"


def receipt_path(word: str | None, first_row: int) -> str:
    """Path of a window's receipt inside the store, which says that the window is done."""
    return f"receipts/{part_name(word, first_row)}.json"


def table_of(rows: Rows) -> pa.Table:
    """An Arrow table in `SCHEMA` of `rows`, in their order; points are not copied."""
    drawings = rows.drawings
    stroke_bytes = drawings.stroke_lengths.astype("<u2", copy=False).view(np.uint8)
    has_country = np.diff(rows.country_offsets) > 0
    has_time, is_said = rows.timestamps_us != NO_TIME, rows.recognized != UNKNOWN_RECOGNIZED
    # From buffers: `pa.array` would import pandas, which takes longer than a small ingest.
    columns: list[tuple[npt.NDArray[np.bool_] | None, list[npt.NDArray[Any]]]] = [
        (None, [rows.key_ids]),
        (has_country, _ragged(rows.country_offsets, rows.country_bytes)),
        (is_said, [_bits(rows.recognized == 1)]),
        (has_time, [rows.timestamps_us]),
        (None, _ragged(drawings.point_offsets, drawings.x)),
        (None, _ragged(drawings.point_offsets, drawings.y)),
        (None, _ragged(drawings.stroke_offsets * 2, stroke_bytes)),
    ]
    arrays = []
    for kind, (is_valid, buffers) in zip(SCHEMA.types, columns, strict=True):
        validity = None if is_valid is None or is_valid.all() else pa.py_buffer(_bits(is_valid))
        all_buffers = [validity, *map(pa.py_buffer, buffers)]
        arrays.append(pa.Array.from_buffers(kind, len(rows), all_buffers))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _ragged(offsets: Int64Array, values: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    """The buffers of a binary or string array over `values`, cut by `offsets`."""
    return [offsets.astype(np.int32), values]


def _bits(values: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Booleans as Arrow packs them."""
    return np.packbits(values, bitorder="little")


def write_part(table: pa.Table, storage: Storage, name: str) -> WrittenFile:
    """Writes `table` as a file of a store, whole or not at all.

    The bytes depend on the rows alone (no creation time, fixed settings), so a rerun of the
    same window makes the same file.
    """
    return storage.create(name, partial(_write_table, table))


def _write_table(table: pa.Table, stream: Any) -> None:
    pq.write_table(
        table,
        stream,
        compression=_CODECS,
        compression_level={name: 1 for name, codec in _CODECS.items() if codec == "zstd"},
        use_dictionary=["countrycode"],
        column_encoding=_ENCODINGS,
        write_statistics=["key_id"],
        store_schema=False,
    )
