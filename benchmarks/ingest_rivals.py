"""What a user would pick instead of this project's ingest: one function a way, one process a run.

    python benchmarks/ingest_rivals.py NAME SOURCE_FOLDER OUT_FOLDER THREADS

In: a folder of Kaggle CSVs. Out: Parquet, zstd level 1, one folder a word, with each drawing as
numbers (as text where the table says so). Each function imports only its own library, so that a
run's seconds and memory are its own. Needs `pip install duckdb polars pandas orjson`.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def ours(source: Path, out: Path, threads: int) -> None:
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.ingest.ingest import ingest

    del threads  # as it comes: it finds the cores itself
    ingest(IngestConfig.parse({"source": source, "store": out, "test_per_class": 100}))


def duckdb(source: Path, out: Path, threads: int) -> None:
    """`read_csv` with all types given, the drawing cast through JSON."""
    _duckdb(source, out, threads, "drawing::JSON::UTINYINT[][][]", "")


def duckdb_at_best(source: Path, out: Path, threads: int) -> None:
    """The fastest of seven ways that were tried: `from_json_strict`, any order, smaller groups."""
    drawing = """from_json_strict(drawing, '[[["UTINYINT"]]]')"""
    _duckdb(
        source, out, threads, drawing, ", ROW_GROUP_SIZE 65536", preserve_insertion_order=False
    )


def _duckdb(
    source: Path, out: Path, threads: int, drawing: str, options: str, **settings: bool
) -> None:
    import duckdb as database

    connection = database.connect(config={"threads": threads, **settings})
    connection.execute(
        f"""
        COPY (
            SELECT countrycode, {drawing} AS drawing, key_id, recognized, timestamp, word
            FROM read_csv($files, header = true, auto_detect = false, delim = ',', quote = '"',
                escape = '"', columns = {{'countrycode': 'VARCHAR', 'drawing': 'VARCHAR',
                'key_id': 'UBIGINT', 'recognized': 'BOOLEAN', 'timestamp': 'TIMESTAMP',
                'word': 'VARCHAR'}})
        ) TO $out (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1,
            PARTITION_BY (word){options})
        """,
        {"files": f"{source}/*.csv", "out": str(out)},
    )


def polars(source: Path, out: Path, threads: int) -> None:
    """`scan_csv`, `json_decode` and a partitioned sink, on the streaming engine."""

    def decoded(pl: Any, drawing: Any) -> Any:
        return drawing.str.json_decode(pl.List(pl.List(pl.List(pl.UInt8))))

    _polars(source, out, threads, decoded)


def polars_at_best(source: Path, out: Path, threads: int) -> None:
    """The fastest of four ways that were tried: split into axes, and these into numbers."""

    def split(pl: Any, drawing: Any) -> Any:
        bare = drawing.str.strip_prefix("[[[").str.strip_suffix("]]]")
        axes = bare.str.replace_all("]], [[", "], [", literal=True).str.split("], [")
        return axes.list.eval(pl.element().str.split(", ").cast(pl.List(pl.UInt8)))

    _polars(source, out, threads, split)


def _polars(source: Path, out: Path, threads: int, parse: Callable[[Any, Any], Any]) -> None:
    import os

    os.environ["POLARS_MAX_THREADS"] = str(threads)  # read when polars is imported
    import polars as pl

    schema = {
        "countrycode": pl.String,
        "drawing": pl.String,
        "key_id": pl.UInt64,
        "recognized": pl.String,  # it takes true and false, but not True and False
        "timestamp": pl.String,
        "word": pl.String,
    }
    frame = pl.scan_csv(f"{source}/*.csv", schema=schema).with_columns(
        parse(pl, pl.col("drawing")),
        pl.col("recognized") == "True",
        pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us"),
    )
    frame.sink_parquet(
        pl.PartitionBy(out, key="word"),
        compression="zstd",
        compression_level=1,
        maintain_order=False,
        mkdir=True,
        engine="streaming",
    )


def pandas(source: Path, out: Path, threads: int) -> None:
    """`read_csv` in chunks, `json.loads` a row, nested Arrow lists. One process, one thread."""
    _pandas(source, out, json.loads)


def pandas_orjson(source: Path, out: Path, threads: int) -> None:
    """The same with `orjson.loads`."""
    import orjson

    _pandas(source, out, orjson.loads)


def _pandas(source: Path, out: Path, loads: Callable[[str], Any]) -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"countrycode": "str", "drawing": "str", "key_id": "uint64", "word": "str"}
    nested = pa.list_(pa.list_(pa.list_(pa.uint8())))
    for path in sorted(source.glob("*.csv")):
        target = out / f"word={path.stem}"
        target.mkdir(parents=True)
        chunks = pd.read_csv(
            path,
            dtype=types,
            parse_dates=["timestamp"],
            keep_default_na=False,
            chunksize=50_000,
        )
        writer = None
        for chunk in chunks:
            columns = {name: pa.array(chunk[name]) for name in chunk if name != "drawing"}
            columns["drawing"] = pa.array([loads(d) for d in chunk["drawing"]], nested)
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(
                target / "part.parquet", table.schema, compression="zstd", compression_level=1
            )
            writer.write_table(table)
        if writer is not None:
            writer.close()


def dask(source: Path, out: Path, threads: int) -> None:
    """`dd.read_csv → to_parquet` on one process a core. The drawing stays text."""
    from dask import dataframe
    from distributed import Client

    types = {"countrycode": "str", "drawing": "str", "key_id": "uint64", "word": "str"}
    with Client(n_workers=threads, threads_per_worker=1, dashboard_address=None):
        frame = dataframe.read_csv(
            f"{source}/*.csv",
            blocksize="64MB",
            dtype=types,
            parse_dates=["timestamp"],
            keep_default_na=False,
        )
        frame.to_parquet(
            str(out),
            partition_on=["word"],
            write_index=False,
            compression="zstd",
            compression_level=1,
        )


@dataclass(frozen=True)
class Rival:
    """A row of the table. `share`: of the subset's bytes, for what would take too long."""

    label: str
    run: Callable[[Path, Path, int], None]
    share: float = 1.0


OURS = "ours"

RIVALS = {
    OURS: Rival("this project", ours),
    "duckdb": Rival("DuckDB, `drawing::JSON::UTINYINT[][][]`", duckdb),
    "duckdb-best": Rival("DuckDB, `from_json_strict`, any order, small groups", duckdb_at_best),
    "polars": Rival("Polars, `str.json_decode`", polars),
    "polars-best": Rival("Polars, `str.split` twice and a cast", polars_at_best),
    "pandas": Rival("pandas + `json.loads`", pandas, share=0.25),
    "pandas-orjson": Rival("pandas + `orjson.loads`", pandas_orjson, share=0.25),
    "dask": Rival("Dask `read_csv → to_parquet`, drawings left as text", dask),
}


if __name__ == "__main__":
    RIVALS[sys.argv[1]].run(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
