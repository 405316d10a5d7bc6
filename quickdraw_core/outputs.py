"""What a stage left behind, noted so that a later one can tell whether all of it is still there.

`outputs.json`, written last, holds what was asked for and the SHA-256 of each file. A stage that
was stopped has none; one whose files were deleted or changed has one that no longer holds.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from quickdraw_core.files import write_aside

OUTPUTS_NAME = "outputs.json"


def note_outputs(folder: Path, asked: str, files: Iterable[Path]) -> None:
    """Notes that `files` are all that was made for what was asked. Raises `OSError`."""
    noted = {str(file.absolute()): _sha256_of(file) for file in files}
    text = json.dumps({"asked": asked, "files": noted}, indent=1) + "\n"
    write_aside(folder / OUTPUTS_NAME, text, sync=False)


def outputs_hold(folder: Path, asked: str) -> bool:
    """Whether a folder holds what was made for the same before, with no byte changed."""
    try:
        noted = json.loads((folder / OUTPUTS_NAME).read_text(encoding="utf-8"))
        return noted["asked"] == asked and all(
            _sha256_of(Path(file)) == digest for file, digest in noted["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
