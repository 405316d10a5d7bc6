"""Atomic writes: a file is there whole, or as it was before."""

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from quickdraw_core.errors import ConfigError, WriteError

CAUSES = {
    errno.ENOSPC: "no space left on the device; make room, or write to another folder",
    errno.EDQUOT: "the disk quota is used up; make room, or write to another folder",
    errno.EFBIG: "it would be larger than files may be here; raise the limit (ulimit -f)",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; end some programs",
    errno.EROFS: "the file system is read-only; write to another folder",
    errno.EACCES: "permission denied; give a folder that this user may use",
    errno.EPERM: "not permitted; give a folder that this user may use",
    errno.EIO: "the device fails (input/output error); check the disk",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ENOTDIR: "a part of its path is a file, not a folder; give another folder",
    errno.ELOOP: "its symlinks lead in a circle; give another folder",
}
"""Why a file cannot be written, and what to do."""


def cause_of(error: OSError) -> str:
    """Why a file cannot be opened or written, and what to do, for the end of a message."""
    return CAUSES.get(error.errno or 0) or error.strerror or str(error)


def is_cause(error: OSError) -> bool:
    """Whether an error is of the machine (space, limits, permissions), not of the program."""
    return error.errno in CAUSES


@contextmanager
def open_atomic(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A file with a temporary name, to be written in the block, which is renamed to `path`.

    sync: the content is on the disk before the file is renamed, so that it outlives a power
    failure. Not needed for what can be made again and is checked when it is read. Makes the
    folder if it is missing. If the block raises, `path` is as it was and nothing else is left.
    Raises `WriteError`, an `OSError`, that names the file and the cause.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = TargetFile(temporary, "wb", path)
    try:
        with write_errors(path, raw):
            with io.BufferedWriter(raw) as file:
                yield cast(BinaryIO, file)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class TargetFile(io.FileIO):
    """A file whose write errors name the file that it is to become.

    error: the last of them. Libraries that write into the file may raise others instead.
    """

    def __init__(self, file: Path | int, mode: str, target: Path) -> None:
        super().__init__(file, mode)
        self._target, self.error = target, cast(WriteError | None, None)

    def write(self, data: Any) -> int:
        """As of a file. Raises `WriteError`."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = _failure(self._target, error)
            raise self.error from error


def _failure(path: Path, error: OSError) -> WriteError:
    return WriteError(f"cannot write {path}: {cause_of(error)}")


@contextmanager
def write_errors(path: Path, raw: TargetFile | None = None) -> Iterator[None]:
    """A block in which an error of writing `path` is a `WriteError` that names it.

    raw: the file that the block writes to.
    """
    try:
        yield
    except (WriteError, BrokenPipeError):
        raise
    except Exception as error:
        if raw is not None and raw.error is not None:
            raise raw.error from error
        # An error that names a file is about that file, which the block may have read.
        if isinstance(error, OSError) and (raw is None or error.filename is None):
            raise _failure(path, error) from error
        raise


def write_atomic(path: Path, text: str, sync: bool = True) -> None:
    """Writes UTF-8 text as `open_atomic` does. Raises `WriteError`."""
    with open_atomic(path, sync) as file:
        file.write(text.encode())


def cache_folder(name: str) -> Path:
    """A folder for what can be made again: in `QUICKDRAW_CACHE`, else in the user's cache folder.

    It may not exist. Raises `ConfigError` for a user without a home folder, as in containers.
    """
    if folder := os.environ.get("QUICKDRAW_CACHE"):
        return Path(folder) / name
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home folder to keep a cache in; set QUICKDRAW_CACHE to a folder"
        ) from error
    return Path(home) / "quickdraw" / name


def require_writable(folder: Path) -> None:
    """Raises `ConfigError` if a folder cannot be written to, or made. Makes nothing."""
    existing = folder.absolute()
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
    except OSError as error:
        raise ConfigError(f"cannot write to the folder {folder}: {cause_of(error)}") from error
    if not existing.is_dir():
        raise ConfigError(f"cannot make the folder {folder}: {existing} is a file")
    if not may_write(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        cause = CAUSES[errno.EROFS if read_only else errno.EACCES]
        raise ConfigError(f"cannot write to the folder {folder}: {cause}")


def may_write(path: Path, mode: int = os.W_OK) -> bool:
    """Whether this process may write to what is at a path."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
