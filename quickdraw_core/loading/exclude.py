"""Drawings that are not trained on: a Parquet file with their `key_id`."""

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import UInt64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.config import SelectConfig


def excluded_sha256(select: SelectConfig) -> str | None:
    """SHA-256 of the file `select.exclude`: as recorded, else of the file as it is now; None if
    nothing is excluded. Raises `ConfigError` if the file cannot be read.
    """
    if select.exclude is None or select.exclude_sha256 is not None:
        return select.exclude_sha256
    try:
        status = select.exclude.stat()
        return _sha256_of(select.exclude, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise _unreadable(select.exclude, error) from error


def read_excluded(select: SelectConfig) -> UInt64Array:
    """The ids in the file `select.exclude`, ascending: uint64 [n].

    Raises `ConfigError` if it cannot be read, has no column `key_id` of whole numbers, or is not
    the one of `select.exclude_sha256`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from quickdraw_core.store.columns import numbers_of

    path = select.exclude
    assert path is not None
    digest = excluded_sha256(select.model_copy(update={"exclude_sha256": None}))
    if select.exclude_sha256 not in (None, digest):
        raise ConfigError(
            f"{path} is not the file that select.exclude_sha256 names: its SHA-256 is {digest}; "
            "give that file, or leave select.exclude_sha256 out"
        )
    try:
        with pq.ParquetFile(path) as file:
            if "key_id" not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise ConfigError(
                    f"{path} names no drawings: it has no column key_id, but {names}; give a file "
                    "that quickdraw audit wrote, or one with that column"
                )
            column = file.read(["key_id"])["key_id"]
        if column.null_count or not pa.types.is_integer(column.type):
            raise ConfigError(
                f"the column key_id of {path} must hold whole numbers without gaps; it is "
                f"{column.type} with {column.null_count:,} nulls"
            )
        key_ids = numbers_of(column.cast(pa.uint64()))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return np.unique(key_ids)


def is_in(key_ids: UInt64Array, ascending: UInt64Array) -> npt.NDArray[np.bool_]:
    """Whether each id, uint64 [N], is among others, uint64 [n], which are ascending: bool [N]."""
    if not len(ascending):
        return np.zeros(len(key_ids), bool)
    positions = np.minimum(np.searchsorted(ascending, key_ids), len(ascending) - 1)
    matches: npt.NDArray[np.bool_] = ascending[positions] == key_ids
    return matches


@lru_cache(maxsize=64)
def _sha256_of(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """mtime_ns, size_bytes: of the file now, so that another one is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ConfigError(
        f"cannot read the drawings to exclude in {path}: {reason}; give a Parquet file with a "
        "column key_id"
    )
