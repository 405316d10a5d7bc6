"""The ingest stage's configuration."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from quickdraw_core.cluster.config import DaskTls, check_address, check_tls_has_a_use
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.reading.windows import RowSelection
from quickdraw_core.storage.location import Location
from quickdraw_core.store.holdout import DEFAULT_SALT


class IngestConfig(Config):
    """What to read, which rows, where to, and how much is held out."""

    source: tuple[str, ...] = Field(
        description="folders, globs, files or addresses (s3://, gs://, https://) to read"
    )
    store: Location = Field(
        Path("store"),
        description="folder or address (s3://, gs://) of the store to make or bring up to date",
    )
    classes: tuple[str, ...] | None = Field(None, description="words to read; default: all files")
    rows: str = Field("all", description="rows a class: all, head:N or spread:WxR")
    seed: int = Field(0, ge=0, lt=1 << 63, description="places the windows of spread")
    test_per_class: int = Field(
        100, ge=0, description="drawings a class to hold out as test, at least; 0: none"
    )
    max_test_share: float = Field(
        0.3, gt=0, lt=0.9, description="no larger share of the drawings is held out as test"
    )
    validation_share: float = Field(
        0.05, ge=0, lt=0.5, description="share of the drawings held out as validation"
    )
    salt: int = Field(DEFAULT_SALT, ge=0, lt=1 << 64, description="salt of the holdout rule")
    max_rejected: float = Field(
        0.01, ge=0, le=1, description="share of a file's rows that may be unreadable"
    )
    allow_cut: bool = Field(
        False, description="keep the whole rows of files that end in the middle of a row"
    )
    dask: str = Field(
        "local",
        description="local (threads), processes, or a scheduler: tcp://host:8786, or "
        "tls://host:8786 with tls.ca_file, tls.certificate and tls.key",
    )
    tls: DaskTls | None = Field(
        None,
        description="certificates for a tls:// scheduler; default: those of Dask's own options",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="local threads or processes; default: one process a core, or one and a half "
        "threads (of little data one)",
    )
    fresh: bool = Field(False, description="make a new store, with new holdout shares")
    strict: bool = Field(
        False, description="stop at the first file that cannot be read, instead of leaving it out"
    )

    @field_validator("source", mode="before")
    @classmethod
    def _one_source_is_a_list(cls, value: Any) -> Any:
        values = [value] if isinstance(value, str | Path) else value
        if not isinstance(values, list | tuple) or not values:
            raise ValueError("must name at least one folder, file, glob or address")
        return tuple(str(v) if isinstance(v, Path) else v for v in values)

    @field_validator("rows")
    @classmethod
    def _rows_have_a_form(cls, value: str) -> str:
        try:
            RowSelection.parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("dask")
    @classmethod
    def _dask_has_a_form(cls, value: str) -> str:
        check_address(value, "local", "processes")
        return value

    @field_validator("tls")
    @classmethod
    def _tls_has_a_use(cls, value: DaskTls | None, before: ValidationInfo) -> DaskTls | None:
        dask = before.data.get("dask", "tls://")  # absent if it was refused itself
        check_tls_has_a_use(value, dask)
        return value

    @property
    def selection(self) -> RowSelection:
        """`rows`, parsed."""
        return RowSelection.parse(self.rows)
