"""`scan`: the drawings of a source as a lazy `dask.dataframe`, for people who explore.

In: whatever the ingest reads. Out: a frame with one partition a window, whose rows are parsed
again each time that they are computed. Nothing is stored; to compute the same frame again and
again, use a store.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.tasks import IndexTask, PlannedSource, plan_source
from quickdraw_core.progress import progress
from quickdraw_core.reading.row_index import require_whole
from quickdraw_core.reading.row_reader import WindowGroup, read_windows, window_groups
from quickdraw_core.sources.find import find_sources
from quickdraw_core.store.schema import SCHEMA, table_of
from quickdraw_core.system.prefetch import on_threads
from quickdraw_core.system.threads import usable_cores

if TYPE_CHECKING:
    from dask.dataframe import DataFrame

WORD = "word"

COLUMNS = (WORD, *SCHEMA.names)
"""Columns of the frame: the word, then those of the store."""


def scan(
    source: str | Path | Sequence[str | Path],
    *,
    rows: str = "all",
    classes: Iterable[str] | None = None,
    seed: int = 0,
    columns: Sequence[str] | None = None,
    allow_cut: bool = False,
) -> "DataFrame":
    """The drawings of `source` as a lazy frame, one partition a window, in the file's order.

    source, rows, classes, seed, allow_cut: as in `IngestConfig`. columns: those wanted, of
    `COLUMNS`; what is not wanted is dropped window by window. Columns that are chosen later,
    `frame[["word"]]`, are dropped as early.

    The columns: word, category of all words read, missing if the source names none; key_id,
    uint64; countrycode, string; recognized, boolean; timestamp, datetime64[us, UTC]; x, y and
    stroke_lengths, Arrow's binary, see `strokes`. Missing is what the source does not say.

    Building the frame reads the sources once to find where their rows begin, or the row index
    in the cache. A compressed file is one partition whatever its size, since it can be read
    from its beginning only. Rows that cannot be read are left out silently, and duplicates are
    kept: an ingest counts both and writes them to the quarantine.

    Raises `ConfigError` and `InputError` as an ingest does; `InputError` on computing too, if
    a file changed since the frame was built.
    """
    dataframe = _dask_dataframe()
    names = _known_columns(COLUMNS if columns is None else columns)
    config = IngestConfig.parse(
        {"source": source, "rows": rows, "classes": classes, "seed": seed, "allow_cut": allow_cut}
    )
    planned = _plan(config)
    words = tuple(sorted({p.source.word for p in planned if p.source.word is not None}))
    groups = [
        group
        for p in planned
        for group in window_groups(p.source, p.index, config.selection, config.seed)
    ]
    meta = _frame(SCHEMA.empty_table(), None, words, names)
    frame: DataFrame = dataframe.from_map(
        _read_partition, groups, words=words, columns=names, meta=meta, label="scan"
    )
    return frame


def strokes(x: bytes, y: bytes, stroke_lengths: bytes) -> list[list[list[int]]]:
    """One row's three values as Kaggle's nested lists: `[[[x, …], [y, …]], …]`, one pair a stroke.

    For a whole frame: `[strokes(*row) for row in zip(part.x, part.y, part.stroke_lengths)]`
    inside a function for `frame.map_partitions`.
    """
    starts = range(0, len(stroke_lengths), 2)
    # Not by NumPy, which refuses the odd bytes that Dask makes up to learn what a function gives.
    ends = accumulate(int.from_bytes(stroke_lengths[i : i + 2], "little") for i in starts)
    return [[list(x[a:b]), list(y[a:b])] for a, b in pairwise([0, *ends])]


def _dask_dataframe() -> Any:
    try:
        import dask.dataframe
    except ImportError as error:
        raise ConfigError(
            f"scan needs dask.dataframe, which does not import: {error}; "
            "install it: pip install 'dask[dataframe]'"
        ) from error
    return dask.dataframe


def _known_columns(columns: Sequence[str]) -> list[str]:
    """`columns` as a list. Raises `ConfigError` for an unknown name, and for no name."""
    names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
    for name in names:
        if name not in COLUMNS:
            raise ConfigError(f"no column {name!r}: {nearest(name, COLUMNS)}")
    if not names:
        raise ConfigError(f"columns is empty; known: {', '.join(COLUMNS)}")
    return names


def _plan(config: IngestConfig) -> list[PlannedSource]:
    """All sources with their row index, from the cache or made on threads."""
    tasks = [
        IndexTask(source, config.selection)
        for source in find_sources(config.source, config.classes)
    ]
    plans = []
    with progress("scan", len(tasks), "files") as bar:
        for planned in on_threads(plan_source, tasks, usable_cores()):
            if not config.allow_cut:
                require_whole(planned.source, planned.index, ", or give allow_cut=True")
            plans.append(planned)
            bar.advance(1)
    return plans


def _read_partition(group: WindowGroup, *, words: Sequence[str], columns: Sequence[str]) -> Any:
    """The readable rows of a group as a pandas frame of `columns`; runs on a worker."""
    # One column at least: a table without any has no rows once it is joined to another.
    stored = [name for name in SCHEMA.names if name in columns] or ["key_id"]
    tables = [table_of(window.rows).select(stored) for window in read_windows(group)]
    return _frame(pa.concat_tables(tables), group.source.word, words, columns)


def _frame(table: pa.Table, word: str | None, words: Sequence[str], columns: Sequence[str]) -> Any:
    """A pandas frame of `columns`, of a table in the store's schema; points are not copied."""
    import pandas as pd

    dtypes = {
        pa.string(): pd.StringDtype("pyarrow"),
        pa.bool_(): pd.BooleanDtype(),
        pa.binary(): pd.ArrowDtype(pa.binary()),
    }
    stored = [name for name in columns if name != WORD]
    frame = table.select(stored).to_pandas(types_mapper=dtypes.get)
    if WORD in columns:
        codes = np.full(len(table), -1 if word is None else words.index(word), np.int16)
        category = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(words)))
        frame.insert(list(columns).index(WORD), WORD, category)
    return frame
