"""Files that options name: regular ones, symlinks, pipes, devices and standard output (`-`)."""

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from quickdraw_core.errors import ConfigError, WriteError
from quickdraw_core.system.files import (
    CAUSES,
    cause_of,
    may_write,
    open_atomic,
    require_writable,
    write_errors,
)

STDOUT = Path("-")
"""What such an option takes for standard output."""

_READER_SECONDS = 10.0
"""How long a pipe may be without a reader."""


@contextmanager
def opened_output(path: Path) -> Iterator[BinaryIO]:
    """The file that an option names, to be written in the block, whole or not at all.

    `-` is standard output. A pipe or a device gets the content once the block has ended; of a
    symlink the file that it names is written. Raises `WriteError`, or `BrokenPipeError` if the
    reader of a pipe is gone.
    """
    if not is_stream(path):
        with open_atomic(regular_file(path), sync=False) as file:
            yield file
        return
    with tempfile.TemporaryFile() as spooled:
        yield cast(BinaryIO, spooled)
        copy_to_stream(cast(BinaryIO, spooled), path)


def write_output(path: Path, text: str) -> None:
    """Writes UTF-8 text to the file that an option names, as `opened_output` does."""
    with opened_output(path) as file:
        file.write(text.encode())


def is_stream(path: Path) -> bool:
    """Whether a path names no regular file: `-`, a pipe, a device, or the file that standard
    output or error goes to (`/dev/stdout > file`), which is not to be replaced either.
    """
    if path == STDOUT or standard_stream(path) is not None:
        return True
    try:
        return not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode))
    except OSError:
        return False


def standard_stream(path: Path) -> Any:
    """`sys.stdout` or `sys.stderr` if a path names what it goes to, else None."""
    if path == STDOUT:
        return sys.stdout
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if os.path.samestat(os.fstat(number), path.stat()):
                return stream
        except OSError:
            continue
    return None


def regular_file(path: Path) -> Path:
    """The file that is written for a path that is no stream: at the end of its symlinks."""
    return path.resolve() if path.is_symlink() else path


@contextmanager
def opened_stream(path: Path) -> Iterator[BinaryIO]:
    """A path of which `is_stream` is true, opened for writing in the block.

    Raises `WriteError`, also for a pipe that nobody opens for reading within ten seconds.
    """
    if (standard := standard_stream(path)) is not None:
        standard.flush()
        yield standard.buffer
        standard.buffer.flush()
        return
    with write_errors(path), _special_file(path) as file:
        yield file


def _special_file(path: Path) -> BinaryIO:
    deadline = time.monotonic() + _READER_SECONDS
    while True:
        try:
            number = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO or not path.is_fifo():
                raise
            if time.monotonic() > deadline:
                raise WriteError(
                    f"nobody reads from the pipe {path}; start its reader before this command"
                ) from error
            time.sleep(0.05)
        else:
            os.set_blocking(number, True)
            return open(number, "wb")  # noqa: PTH123 — a number is no path


def copy_to_stream(file: BinaryIO, path: Path) -> None:
    """Writes a whole file to a stream. Raises `WriteError`, or `BrokenPipeError`: no reader."""
    file.seek(0)
    with opened_stream(path) as stream, write_errors(path):
        shutil.copyfileobj(file, stream)


def require_output(path: Path, folder_is_made: bool = False) -> None:
    """Finds out before work whether the file that an option names can be written. Raises
    `ConfigError`.

    folder_is_made: its folder need not be there yet.
    """
    if path == STDOUT and standard_stream(path) is None:
        raise ConfigError("cannot write to -: standard output is closed; give the name of a file")
    if is_stream(path):
        if standard_stream(path) is None and not may_write(path):
            raise ConfigError(f"cannot write to {path}: {CAUSES[errno.EACCES]}")
        return
    try:
        file = regular_file(path)
        if not folder_is_made and not file.absolute().parent.is_dir():
            raise ConfigError(f"no folder {file.parent} to write {file.name} to; make it first")
        if file.is_dir():
            raise ConfigError(f"{path} is a folder; give the name of a file to write")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symlinks, to `resolve`
        cause = cause_of(error) if isinstance(error, OSError) else CAUSES[errno.ELOOP]
        raise ConfigError(f"cannot write {path}: {cause}") from error
    require_writable(file.parent)
