"""`STORE/manifest.json`: what the store holds and how it came about; written last.

A store without it is unfinished. Its fingerprint names the content (files, words, holdout rule)
and not where or when it was made.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_serializer, field_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import InputError, StoreError
from quickdraw_core.labels import LabelMap
from quickdraw_core.names import check_relative, check_word
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location
from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.holdout import HoldoutRule
from quickdraw_core.store.schema import quarantine_path, receipt_path
from quickdraw_core.system.files import cause_of, is_cause

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
PREVIOUS_NAME = "manifest.previous.json"
"""The previous manifest, while the windows of a new one are renamed."""
CROISSANT_NAME, README_NAME = "croissant.json", "README.md"
CARD_MARK = "Parquet files that `quickdraw ingest` wrote"
"""Words of each `README.md` that is a dataset card's."""
"""The dataset card, made by `dataset_card/`, for programs and for people. Not fingerprinted."""
UNFINISHED = "unfinished"
"""The folder of a store with windows that are not part of it: of an ingest that has not finished,
and of classes that were left out.
"""


def count_reasons(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of rejected rows by reason, most frequent first."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


class SourceRecord(Config):
    """One source file, as it was when it was read. `rows_read = rows_kept + rejected`."""

    location: str = Field(description="absolute path, or address without its query")
    word: str | None = Field(description="the class it holds; none: a test file without words")
    form: str = Field(description="csv, ndjson or binary; raw if its drawings were raw")
    size_bytes: int
    mtime_ns: int = Field(description="modification time, nanoseconds since 1970; 0: not known")
    head_tail_sha256: str = Field(description="SHA-256 of the first and the last 64 KiB")
    rows: int | None = Field(description="data rows in the file; none: not all were counted")
    rows_read: int
    rows_kept: int
    rejected: dict[str, int] = Field(description="rejected rows by reason")
    examples: dict[str, str] = Field(
        default_factory=dict,
        description="a rejected row for each reason: its line and what it has",
    )
    cut: str = Field("", description="what the file ends in the middle of; empty: it is whole")


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
    examples: dict[str, str] = Field(
        default_factory=dict,
        description="a rejected row for each reason: its line and what it has",
    )
    quarantine_sha256: str | None = Field(description="of the file of its rejected rows, if any")

    @field_validator("path", "word")
    @classmethod
    def _stays_in_the_store(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Both name files of the store, and manifests and receipts may come from anywhere."""
        try:
            if value is not None:
                check_relative(value) if info.field_name == "path" else check_word(value)
        except InputError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def quarantine_path(self) -> str:
        """Path of the file of its rejected rows, relative to the store."""
        return quarantine_path(self.word, self.first_row)

    @property
    def receipt_path(self) -> str:
        """Path of its receipt, relative to the store."""
        return receipt_path(self.word, self.first_row)

    @property
    def window_paths(self) -> list[str]:
        """Paths of all files of its window, relative to the store."""
        rejected = [self.quarantine_path] if self.quarantine_sha256 is not None else []
        return [self.path, self.receipt_path, *rejected]


class Manifest(Config):
    """The record of a store. `rows_read = rows_kept + rejected`, always."""

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

    def as_bytes(self) -> bytes:
        """The content of the file."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        return text.encode()

    def write(self, store: Location, name: str = MANIFEST_NAME) -> None:
        """Writes the manifest, whole or not at all."""
        storage_of(store).write(name, self.as_bytes())

    @staticmethod
    def set_aside(store: Location, keep: bool) -> None:
        """Makes a store count as unfinished. keep: its last manifest can still be read."""
        storage = storage_of(store)
        if keep and storage.is_file(MANIFEST_NAME):
            storage.replace(MANIFEST_NAME, PREVIOUS_NAME)
        if not keep:
            storage.remove(MANIFEST_NAME)
            storage.remove(PREVIOUS_NAME)

    @classmethod
    def read(cls, store: Location, name: str = MANIFEST_NAME) -> "Manifest":
        """Reads a store's manifest. Raises `StoreError`: missing, damaged, of another format."""
        storage = storage_of(store)
        path = storage.address(name)
        try:
            value = json.loads(storage.read(name).decode())
        except FileNotFoundError as error:
            raise StoreError(_explain_missing(storage)) from error
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and is_cause(error):  # nothing is wrong with the file
                raise StoreError(f"cannot read {path}: {cause_of(error)}") from error
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
            field = ".".join(str(part) for part in fault["loc"])
            raise StoreError(
                f"{path} is damaged at {field}: {fault['msg']}; ingest again with --fresh"
            ) from error


def card_fault(storage: Storage, manifest: Manifest) -> str | None:
    """What is wrong with a store's dataset card; None if both files are there and are of this
    content. Raises `StoreError` if the store cannot be reached.
    """
    missing = [name for name in (README_NAME, CROISSANT_NAME) if not storage.is_file(name)]
    if missing:
        return f"{storage} has no {' and no '.join(missing)}"
    try:
        value = json.loads(storage.read(CROISSANT_NAME).decode())
        described = value.get("identifier") if isinstance(value, dict) else None
    except ValueError:
        described = None
    if described == manifest.fingerprint:
        return None
    return f"{storage.address(CROISSANT_NAME)} describes other drawings than the manifest's"


def readme_fault(storage: Storage) -> str | None:
    """Why a store's `README.md` is not to be replaced: it is not a dataset card's. None if it is,
    or is not there. Raises what `Storage.read` does.
    """
    if not storage.is_file(README_NAME) or CARD_MARK.encode() in storage.read(README_NAME):
        return None
    return (
        f"{storage.address(README_NAME)} is not a dataset card of this program, and stays; move "
        "it away, and the next ingest writes the card's"
    )


def _explain_missing(storage: Storage) -> str:
    inside = storage.top()
    if inside is None:
        finding = f"{storage} does not exist"
    elif "drawings" in inside:
        finding = f"{storage} holds drawings but no {MANIFEST_NAME}: its ingest did not finish"
    else:
        finding = f"{storage} holds {', '.join(sorted(inside)[:5]) or 'nothing'}"
    return f"no store there: {finding}; make one with: quickdraw ingest SOURCE --store {storage}"
