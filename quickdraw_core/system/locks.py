"""What a command writes to is its own until it ends: a second command is refused, or waits.

A lock is the kernel's (`flock`), on a small file beside what it stands for, which names the
holder. It is released at the moment the holder dies, `kill -9` included, so that no file needs to
be deleted by hand. All hosts that share the file system see it, if that has locks (NFS has, from
version 3 on); if it has none, it is up to the user. Processes that the holder starts work within
its lock: they take none.

`filelock` does not keep these promises: it refuses a lock file of another user in /tmp, which is
where the users of a host share its GPUs; falls back to a file that outlives a crash if the file
system has no locks; and can neither lock a folder nor ask without taking the lock.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from quickdraw_core.errors import BusyError
from quickdraw_core.system.files import write_errors

FOLDER_LOCK = ".lock"
"""Name of the lock of a folder, inside of it."""

POLL_SECONDS = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
"""EBADF: NFS locks only what is open for writing, which no folder can be."""


def lock_of_file(path: Path) -> Path:
    """The lock of a file, beside it."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def held_folder(folder: Path, work: str, name: str = FOLDER_LOCK) -> Iterator[None]:
    """A block during which a folder is this command's alone; makes the folder if it is missing.

    work: what is done there, in a word, for the command that is refused. Raises `BusyError` if
    another command holds it, `WriteError` if nothing can be written there.
    """
    with held(folder / name, str(folder), work):
        yield


@contextmanager
def held(lock: Path, target: str, work: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """As `held_folder`, by the file of the lock; target: what it stands for, for messages.

    wait_seconds: how long to wait for another command before `BusyError` is raised.
    """
    made = not lock.parent.exists()
    with write_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(lock, target, wait_seconds)
    try:
        with write_errors(lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _holder(work), 0)
        yield
    finally:
        # Deleted while it is held: a process that waits for it sees that it is no longer there. If
        # the folder was renamed meanwhile, what has that name now is another command's.
        if _is_at(descriptor, lock):
            lock.unlink(missing_ok=True)
        os.close(descriptor)
        if made:
            with suppress(OSError):  # it holds something by now
                lock.parent.rmdir()


def require_free(lock: Path, target: str) -> None:
    """Raises `BusyError` if another command holds a lock; changes nothing."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return
    try:
        if _is_held(descriptor):
            raise _busy(descriptor, target)
    except OSError:
        return
    finally:
        os.close(descriptor)


def require_free_folder(folder: Path) -> None:
    """Raises `BusyError` if another command holds a folder; changes nothing."""
    require_free(folder / FOLDER_LOCK, str(folder))


def holder_of(lock: Path) -> str | None:
    """Who works under a lock, in words; None if nobody does. Changes nothing.

    If the file system has no locks, its file may be of a command that was killed; that is not
    known, and the answer is who the file names.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        is_held = _is_held(descriptor)
    except OSError:
        is_held = True
    try:
        return _named(descriptor) if is_held else None
    finally:
        os.close(descriptor)


def has_locks(lock: Path) -> bool:
    """Whether the file system of a lock has locks; also True if the lock's file is not there."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return True
    try:
        _is_held(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file or folder for this process alone, until it is closed: True if it did,
    False if another process holds it, None if the file system has no locks.
    """
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_held(descriptor):
                return False
            time.sleep(POLL_SECONDS)  # another process only asks whether it is held
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            raise
        else:
            return True


def _take(lock: Path, target: str, wait_seconds: float) -> int:
    """The descriptor of a lock file that is locked, as far as the file system can."""
    deadline = time.monotonic() + wait_seconds
    while True:
        with ExitStack() as stack:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            is_locked = try_lock(descriptor)
            # Its holder may have deleted it since it was opened: the next one is another file.
            if is_locked is None or (is_locked and _is_at(descriptor, lock)):
                stack.pop_all()
                return descriptor
            if is_locked is False and time.monotonic() >= deadline:
                raise _busy(descriptor, target)
        time.sleep(POLL_SECONDS)


def _is_held(descriptor: int) -> bool:
    """Whether a process works under a lock; one that only asks, as `require_free`, shares it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(work: str) -> bytes:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    who = {"work": work, "process": os.getpid(), "host": socket.gethostname(), "since": since}
    return (json.dumps(who) + "\n").encode()


def _busy(descriptor: int, target: str) -> BusyError:
    return BusyError(
        f"another command is at work on {target}: {_named(descriptor)}; wait for its end, or give "
        "another place"
    )


def _named(descriptor: int) -> str:
    """The holder that a lock's file names."""
    try:
        who = json.loads(os.pread(descriptor, 4096, 0))
        return f"{who['work']}, process {who['process']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just been taken
        return "one that has only just begun"
