"""Which backend serves a location: the local disk, an object store or a web server."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from quickdraw_core.errors import InputError
from quickdraw_core.sources.objects import ObjectFile, probe_object
from quickdraw_core.sources.stored import EDGE_BYTES, REQUEST_BYTES, FileProbe, tail_start
from quickdraw_core.storage.urls import OBJECT_SCHEMES, scheme_of
from quickdraw_core.system.direct_file import DirectFile


def probe_file(location: str) -> FileProbe:
    """Probes a file. Raises `InputError` if it is not there or cannot be read."""
    scheme = scheme_of(location)
    if not scheme:
        return _probe_local(location)
    if scheme in OBJECT_SCHEMES:
        return probe_object(location)
    from quickdraw_core.sources.web import probe_web  # its client takes long to import

    return probe_web(location)


def open_stored(location: str, buffered: bool, once: bool = False) -> BinaryIO:
    """The bytes as they are stored, to be closed by the caller; buffered: for many small reads;
    once: they need not stay in memory for another reader.

    Raises `InputError` if it cannot be opened.
    """
    scheme = scheme_of(location)
    if not scheme:
        with _local_errors(location):
            return cast(
                BinaryIO, DirectFile(location) if once else Path(location).open("rb", buffering=0)
            )
    if scheme not in OBJECT_SCHEMES:
        from quickdraw_core.sources.web import WebFile

        return cast(BinaryIO, WebFile(location))
    file = ObjectFile(location)
    return cast(BinaryIO, io.BufferedReader(file, REQUEST_BYTES) if buffered else file)


def _probe_local(path: str) -> FileProbe:
    with _local_errors(path), Path(path).open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        head = file.read(EDGE_BYTES)
        file.seek(tail_start(status.st_size))
        tail = file.read(EDGE_BYTES)
    return FileProbe(status.st_size, status.st_mtime_ns, "", True, head, tail)


@contextmanager
def _local_errors(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if not Path(path).is_symlink():
            raise InputError(
                f"cannot read {path}: {error.strerror}; is it still there?"
            ) from error
        raise InputError(
            f"{path} is a link to {Path(path).readlink()}, which is not there; mount or restore "
            "that, or remove the link"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
