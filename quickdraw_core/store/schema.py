"""Columns of the store, and how a batch of rows becomes one file of it.

Binary columns hold a drawing's points because nested lists of `uint8` cost 5 to 8 times more to
write and read; DuckDB, Polars and pandas open them as plain bytes.
"""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.formats.kaggle import ParsedRows
from quickdraw_core.labels import underscored

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
"""`recognized` is null where the source says neither True nor False; the word is the folder's."""


def part_path(word: str, first_row: int) -> str:
    """Path of a window's file inside the store: `drawings/word=hot_dog/part-000000000.parquet`."""
    return f"drawings/word={underscored(word)}/part-{first_row:09d}.parquet"


def table_of(rows: ParsedRows) -> pa.Table:
    """An Arrow table in `SCHEMA` of parsed rows, in their order."""
    return pa.table(
        [
            pa.array(rows.key_ids, pa.uint64()),
            pa.array(rows.countrycodes, pa.string()),
            pa.array(rows.recognized, pa.bool_()),
            pa.array(rows.timestamps_us, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            pa.array(rows.x, pa.binary()),
            pa.array(rows.y, pa.binary()),
            pa.array(rows.stroke_lengths, pa.binary()),
        ],
        schema=SCHEMA,
    )


def write_part(table: pa.Table, path: Path) -> None:
    """Writes `table` under a temporary name, syncs and renames it: whole, or not there.

    The bytes depend on the rows alone (no creation time, fixed settings), so a rerun of the
    same window makes the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=1,
            use_dictionary=["countrycode"],
            write_statistics=["key_id"],
            store_schema=False,
        )
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
