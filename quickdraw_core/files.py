"""Writing files so that they are there whole, or not at all."""

import os
import secrets
from pathlib import Path


def write_aside(path: Path, text: str, sync: bool = True) -> None:
    """Writes UTF-8 text under a temporary name and renames it to `path`.

    sync: the text is on the disk before it has its name, so that it outlives a power failure;
    what can be made again, and is checked when it is read, does without. Makes the folder where
    it is missing. Raises `OSError` and leaves nothing behind where the text cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
