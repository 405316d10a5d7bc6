"""What a stage left behind, noted so that a later one can tell whether all of it is still there.

`outputs.json`, written last, holds what was asked for, the stage's result and the SHA-256 of each
file. A stage that was stopped has none; one whose files were deleted or changed has one that no
longer holds.
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
    """Notes that `files` are all that was made for what was asked, and what came of it: a value
    that pydantic can write, such as a dataclass of plain values. Raises `OSError`.
    """
    noted = {
        "asked": asked,
        "files": {str(file.absolute()): _sha256_of(file) for file in files},
        "result": TypeAdapter(type(result)).dump_python(result, mode="json"),
    }
    write_atomic(folder / OUTPUTS_NAME, json.dumps(noted, indent=1) + "\n", sync=False)


def result_of_outputs(folder: Path, asked: str, kind: type[R]) -> R | None:
    """The result, of its kind, where a folder holds what was made for the same before, with no
    byte changed; else None.
    """
    try:
        noted = json.loads((folder / OUTPUTS_NAME).read_text(encoding="utf-8"))
        if noted["asked"] != asked or any(
            _sha256_of(Path(file)) != digest for file, digest in noted["files"].items()
        ):
            return None
        return TypeAdapter(kind).validate_python(noted["result"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
