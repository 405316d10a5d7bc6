"""A record of what a stage has written, so that a later call can tell whether it is still whole.

`outputs.json`, written last, holds what was asked for, the stage's result and the SHA-256 of each
file. A stage that was stopped leaves no record; if files are deleted or changed, it is not valid.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from quickdraw_core.system.files import write_atomic

OUTPUTS_NAME = "outputs.json"

R = TypeVar("R")


def note_outputs(folder: Path, asked: str, files: Iterable[Path], result: object) -> None:
    """Records the files that were made for what was asked, and the result: a value that pydantic
    can write, such as a dataclass of plain values. Raises `OSError`.
    """
    record = {
        "asked": asked,
        "files": {str(file.absolute()): _sha256_of(file) for file in files},
        "result": TypeAdapter(type(result)).dump_python(result, mode="json"),
    }
    write_atomic(folder / OUTPUTS_NAME, json.dumps(record, indent=1) + "\n", sync=False)


def result_of_outputs(folder: Path, asked: str, kind: type[R]) -> R | None:
    """The recorded result, if made for the same and its files are unchanged; else None."""
    try:
        record = json.loads((folder / OUTPUTS_NAME).read_text(encoding="utf-8"))
        if record["asked"] != asked or any(
            _sha256_of(Path(file)) != digest for file, digest in record["files"].items()
        ):
            return None
        return TypeAdapter(kind).validate_python(record["result"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
