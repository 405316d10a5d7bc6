"""A file that is being written: beside its place, by one process alone, gone whatever happens."""

import errno
import fcntl
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from quickdraw_core.errors import ConfigError, WriteError
from quickdraw_core.files import TargetFile, cause_of, naming
from quickdraw_core.output_files import copy_to_stream, is_stream, opened_stream, regular_file


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """An empty file under a fixed name beside `path`, to be written in the block, and removed
    after it unless `put_in_place` was called. For a stream (`output_files.is_stream`) it has none.

    What a killed run left under that name is written over. Raises `ConfigError` where the file
    cannot be made, or another process is writing it, `WriteError` where writing fails.
    """
    if is_stream(path):
        with ExitStack() as stack:
            try:  # held open, so that a pipe has its reader before the work, and keeps it
                stack.enter_context(opened_stream(path))
            except WriteError as error:
                raise ConfigError(str(error)) from error
            yield cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
        return
    path = regular_file(path)
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path.name} to the folder {path.parent}: {cause_of(error)}"
        ) from error
    with io.BufferedRandom(TargetFile(descriptor, "r+b", path)) as file:
        if not _lock(descriptor) or not _is_at(descriptor, temporary):
            raise ConfigError(
                f"another process is writing {path}; wait for its end, or give another name"
            )
        file.truncate(0)
        try:
            yield cast(BinaryIO, file)
        finally:
            if _is_at(descriptor, temporary):
                temporary.unlink()


def put_in_place(file: BinaryIO, path: Path) -> None:
    """Gives what was written aside its name, once it is on the disk; a stream, all of it."""
    with naming(path):
        file.flush()
        if is_stream(path):
            copy_to_stream(file, path)
            return
        os.fsync(file.fileno())
        path = regular_file(path)
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
