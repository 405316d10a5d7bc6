"""What files and folders weigh, when they were last used, and who is at work in them."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from quickdraw_core.errors import BusyError
from quickdraw_core.system.locks import FOLDER_LOCK, holder_of, require_free
from quickdraw_core.tracking.journal import JOURNAL_NAME

_LOCKS = (f"{FOLDER_LOCK}*", f"*/{FOLDER_LOCK}*")


class Weight(NamedTuple):
    """Bytes of the files, and when the newest of them was written, seconds since 1970."""

    size_bytes: int
    written: float


def weigh(path: Path, reads_count: bool = False) -> Weight:
    """The weight of a file, or of all files in a folder; what vanishes meanwhile weighs nothing.

    reads_count: a file counts as written when it was read, as far as the file system notes that.
    Locks do not count: to look whether one is free makes nothing new.
    """
    size, newest = 0, 0.0
    for status in _statuses(path):
        size += status.st_size
        read = status.st_atime if reads_count else 0.0
        newest = max(newest, status.st_mtime, read)
    if not newest:  # an empty folder
        with suppress(OSError):
            newest = path.stat().st_mtime
    return Weight(size, newest)


def last_used(run: Path) -> float:
    """When a run folder was last written to, or one of its checkpoints read, as far as the file
    system notes that. Seconds since 1970.
    """
    # Not the pointers beside them: whoever looks for the last checkpoint reads those.
    read = (weigh(path, reads_count=True).written for path in run.glob("checkpoints/step-*.pt"))
    return max([weigh(run).written, *read])


def _statuses(path: Path) -> Iterator[os.stat_result]:
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except NotADirectoryError:
            yield folder.lstat()
            continue
        except OSError:
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif not _is_lock(entry.name):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                        yield status


def _is_lock(name: str) -> bool:
    return name.startswith(FOLDER_LOCK) or name == f"{JOURNAL_NAME}.lock"


def at_work_in(folder: Path, but: str = "") -> str | None:
    """Who is at work in a run folder or a sweep's, on any host that shares it; None: nobody.

    but: the name of a lock that this process holds.
    """
    for pattern in _LOCKS:
        for lock in sorted(folder.glob(pattern)):
            holder = holder_of(lock) if lock != folder / but else None
            if holder is not None:
                return f"at work: {holder}"
    try:
        require_free(folder / f"{JOURNAL_NAME}.lock", str(folder))
    except BusyError:
        return "at work: its numbers are sent to MLflow"
    return None
