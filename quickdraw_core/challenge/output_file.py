"""An output file while it is written: a temporary file beside it, locked, removed on failure."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from quickdraw_core.errors import ConfigError, WriteError
from quickdraw_core.system.files import TargetFile, cause_of, write_errors
from quickdraw_core.system.locks import held, lock_of_file
from quickdraw_core.system.output_files import (
    copy_to_stream,
    is_stream,
    opened_stream,
    regular_file,
)


@contextmanager
def temporary_output(path: Path) -> Iterator[BinaryIO]:
    """An empty file under a fixed name beside `path`, to be written in the block. It is removed
    after the block unless `put_in_place` was called. For a stream (`output_files.is_stream`) it
    has no name.

    Overwrites what a killed run left under that name. Raises `ConfigError` if the file cannot be
    created, `BusyError` if another command writes it, `WriteError` if writing fails.
    """
    if is_stream(path):
        with ExitStack() as stack:
            try:  # kept open, so that a pipe keeps its reader during the work
                stack.enter_context(opened_stream(path))
            except WriteError as error:
                raise ConfigError(str(error)) from error
            yield cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
        return
    path = regular_file(path)
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.tmp")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock_of_file(path), str(path), "writing"))
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise ConfigError(
                f"cannot write {path.name} to the folder {path.parent}: {cause_of(cause)}"
            ) from error
        stack.callback(temporary.unlink, missing_ok=True)
        raw = TargetFile(descriptor, "r+b", path)
        yield cast(BinaryIO, stack.enter_context(io.BufferedRandom(raw)))


def put_in_place(file: BinaryIO, path: Path) -> None:
    """Gives a temporary output its name, once it is on the disk; copies it to a stream."""
    with write_errors(path):
        file.flush()
        if is_stream(path):
            copy_to_stream(file, path)
            return
        os.fsync(file.fileno())
        path = regular_file(path)
        path.with_name(f".{path.name}.tmp").replace(path)
