"""A file that is being written: beside its place, by one process alone, gone whatever happens."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from quickdraw_core.errors import ConfigError


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """An empty file under a fixed name beside `path`, to be written in the block, and removed
    after it unless `put_in_place` was called.

    What a killed run left under that name is written over. Raises `ConfigError` where the file
    cannot be made, or another process is writing it.
    """
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path.name} to the folder {path.parent}: {error.strerror}; "
            "give another place"
        ) from error
    with os.fdopen(descriptor, "r+b") as file:
        if not _lock(descriptor) or not _is_at(descriptor, temporary):
            raise ConfigError(
                f"another process is writing {path}; wait for its end, or give another name"
            )
        file.truncate(0)
        try:
            yield file
        finally:
            if _is_at(descriptor, temporary):
                temporary.unlink()


def put_in_place(file: BinaryIO, path: Path) -> None:
    """Gives what was written aside its name, once it is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    path.with_name(f".{path.name}.tmp").replace(path)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some network file systems have no locks: there, it is up to the user.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a path still names the open file: another run may have moved it, or made anew."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
