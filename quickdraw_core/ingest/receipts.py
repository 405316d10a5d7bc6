"""`STORE/receipts/…/part-N.json`: a window that is done, and what it was made of.

A receipt is written last. It is valid if its key is that of the window (same file, same rows,
same options, same version of the ingest) and its Parquet file is whole. Then the window is not
read again, after a kill or when a store grows.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from pydantic import Field, ValidationError

from quickdraw_core.config import Config
from quickdraw_core.reading.windows import Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.manifest import FileRecord

INGEST_VERSION = 7
"""Raised when the same input and options give other bytes than before."""


class Receipt(Config):
    """What a finished window reports."""

    key: str = Field(description="SHA-256 of all that decides what the window's file holds")
    file: FileRecord
    smallest_hashes: tuple[int, ...] = Field(description="its smallest holdout hashes, sorted")
    reused: bool = Field(False, exclude=True, description="it was there before this run")
    staged: bool = Field(False, exclude=True, description="its files are in STORE/unfinished")


def receipt_key(
    source: SourceFile, window: Window, salt: int, smallest: int, duplicates: Iterable[int]
) -> str:
    """The key of a window's receipt. The folder that the source lies in is not part of it."""
    facts = {
        "version": INGEST_VERSION,
        "source": source.name,
        "stamp": asdict(source.stamp),
        "shape": asdict(source.format),
        "word": source.word,
        "window": list(window),
        "salt": salt,
        "smallest": smallest,
        "duplicates": list(duplicates),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def find_receipt(storage: Storage, path: str, key: str) -> Receipt | None:
    """The receipt at a path, if it has this key and its Parquet file is whole."""
    try:
        receipt = Receipt.model_validate_json(storage.read(path))
        if receipt.key != key or not _is_whole(storage, receipt.file):
            return None
        return receipt.model_copy(update={"reused": True})
    except (OSError, ValidationError):
        return None


def _is_whole(storage: Storage, file: FileRecord) -> bool:
    rejected = file.quarantine_sha256
    if rejected is not None and storage.sha256(file.quarantine_path) != rejected:
        return False
    return storage.sha256(file.path) == file.sha256


def write_receipt(storage: Storage, receipt: Receipt) -> None:
    """Writes a receipt, whole or not at all."""
    storage.write(receipt.file.receipt_path, receipt.model_dump_json().encode(), sync=False)
