"""`STORE/manifest.json`: what the store holds and how it came about; written last.

A store without it is unfinished. Its fingerprint names the content (files, words, holdout rule)
and not where or when it was made.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_serializer, field_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import StoreError
from quickdraw_core.files import write_aside
from quickdraw_core.labels import LabelMap
from quickdraw_core.store.holdout import HoldoutRule

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
PREVIOUS_NAME = "manifest.previous.json"
"""The manifest of before, while an ingest is at work or was killed at it."""


def count_reasons(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of rejected rows by reason, most frequent first."""
    total: dict[str, int] = {}
    for some in counts:
        for reason, count in some.items():
            total[reason] = total.get(reason, 0) + count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


class SourceRecord(Config):
    """One source file, as it was when it was read. `rows_read = rows_kept + rejected`."""

    location: str = Field(description="absolute path, or address without its query")
    word: str | None = Field(description="the class it holds; none: a test file without words")
    form: str = Field(description="csv, ndjson or binary, and raw where drawings were raw")
    size_bytes: int
    mtime_ns: int = Field(description="modification time, nanoseconds since 1970; 0: not known")
    head_tail_sha256: str = Field(description="SHA-256 of the first and the last 64 KiB")
    rows: int | None = Field(description="data rows in the file; none: not all were counted")
    rows_read: int
    rows_kept: int
    rejected: dict[str, int] = Field(description="rejected rows by reason")


class FileRecord(Config):
    """One Parquet file: one window of one source."""

    path: str = Field(description="relative to the store")
    word: str | None
    first_row: int = Field(description="data rows of the source before the window (skiprows)")
    rows_read: int
    rows: int = Field(description="drawings in the file: read less rejected")
    strokes: int
    points: int
    size_bytes: int
    sha256: str
    rejected: dict[str, int] = Field(description="rejected rows by reason")
    quarantine_sha256: str | None = Field(description="of the file of its rejected rows, if any")


class Manifest(Config):
    """The whole record. `rows_read = rows_kept + rows_rejected`, always."""

    model_config = Config.model_config | {"arbitrary_types_allowed": True}

    format_version: int
    options: dict[str, Any] = Field(description="the ingest options that decide the content")
    label_map: LabelMap | None = Field(description="none: drawings without words")
    holdout: HoldoutRule
    sources: list[SourceRecord]
    files: list[FileRecord]

    @field_validator("label_map", mode="before")
    @classmethod
    def _read_label_map(cls, value: Any) -> LabelMap | None:
        return LabelMap.from_json(value) if isinstance(value, dict) else value

    @field_serializer("label_map")
    def _write_label_map(self, value: LabelMap | None) -> dict[str, Any] | None:
        return value.to_json() if value is not None else None

    @property
    def rows_read(self) -> int:
        """Data rows that the windows covered."""
        return sum(file.rows_read for file in self.files)

    @property
    def rows_kept(self) -> int:
        """Drawings in the store."""
        return sum(file.rows for file in self.files)

    @property
    def rejected(self) -> dict[str, int]:
        """Rejected rows by reason, most frequent first."""
        return count_reasons(file.rejected for file in self.files)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over format, words, holdout rule and the files' checksums."""
        content = {
            "format_version": self.format_version,
            "labels": self.label_map.sha256 if self.label_map is not None else None,
            "holdout": self.holdout.model_dump(),
            "files": sorted((file.path, file.sha256) for file in self.files),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def write(self, store: Path) -> None:
        """Writes the manifest aside, syncs and renames it."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        write_aside(store / MANIFEST_NAME, text)
        (store / PREVIOUS_NAME).unlink(missing_ok=True)

    @staticmethod
    def set_aside(store: Path, keep: bool) -> None:
        """Makes a store count as unfinished; with `keep`, its last manifest stays to be read."""
        if keep and (store / MANIFEST_NAME).is_file():
            (store / MANIFEST_NAME).replace(store / PREVIOUS_NAME)
        if not keep:
            (store / MANIFEST_NAME).unlink(missing_ok=True)
            (store / PREVIOUS_NAME).unlink(missing_ok=True)

    @classmethod
    def read(cls, store: Path, name: str = MANIFEST_NAME) -> "Manifest":
        """Reads a store's manifest. Raises `StoreError`: missing, damaged, of another format."""
        path = store / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(_explain_missing(store)) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path}: {error}; ingest again with --fresh") from error
        version = value.get("format_version") if isinstance(value, dict) else None
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {version}, this program reads {FORMAT_VERSION}; "
                "ingest again with --fresh"
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise StoreError(
                f"{path} is damaged at {place}: {fault['msg']}; ingest again with --fresh"
            ) from error


def _explain_missing(store: Path) -> str:
    if not store.exists():
        found = f"{store} does not exist"
    elif (store / "drawings").is_dir():
        found = f"{store} holds drawings but no {MANIFEST_NAME}: its ingest did not finish"
    else:
        inside = sorted(p.name for p in store.iterdir())[:5] if store.is_dir() else ["a file"]
        found = f"{store} holds {', '.join(inside) or 'nothing'}"
    return f"no store there: {found}; make one with: quickdraw ingest SOURCE --store {store}"
