"""Writing files so that they are there whole, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from quickdraw_core.errors import ConfigError


@contextmanager
def opened_aside(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A file under a temporary name, to be written in the block, that is `path` after it.

    sync: the content is on the disk before it has its name, so that it outlives a power failure;
    what can be made again, and is checked when it is read, does without. Makes the folder where
    it is missing. Where the block raises, nothing is left behind and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_aside(path: Path, text: str, sync: bool = True) -> None:
    """Writes UTF-8 text to `path`, whole or not at all. Raises `OSError`."""
    with opened_aside(path, sync) as file:
        file.write(text.encode())


def cache_folder(name: str) -> Path:
    """A folder for what can be made again: in `QUICKDRAW_CACHE`, else in the user's cache folder.

    It may not be there. Raises `ConfigError` for a user without a home folder, as containers
    have.
    """
    if ours := os.environ.get("QUICKDRAW_CACHE"):
        return Path(ours) / name
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home folder to keep a cache in; set QUICKDRAW_CACHE to a folder"
        ) from error
    return Path(home) / "quickdraw" / name


def require_folder_of(path: Path) -> None:
    """Finds out before work whether a file can be put there. Raises `ConfigError`."""
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"no folder {path.parent} to write {path.name} to; make it first")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file to write")


def make_folder(path: Path) -> None:
    """Makes a folder where there is none. Raises `ConfigError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path}: {error.strerror}") from error
