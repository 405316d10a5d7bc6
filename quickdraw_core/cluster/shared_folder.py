"""Whether a folder is the same one here and on workers: a token written here is read by each of
them, and the other way round.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.workers import Worker, ask, require_answer
from quickdraw_core.errors import ClusterError, ConfigError, first_line
from quickdraw_core.system.files import write_atomic

_PREFIX = ".shared-"
_SEEN_SECONDS = 10.0
"""How long a network's file system may take to show a new file on another host."""
_POLL_SECONDS = 0.1
_OLD_SECONDS = 3600.0
"""From when on a token is of a command that was killed. Clocks of hosts differ."""


def check_shared(client: Any, workers: Sequence[Worker], folder: Path, remedy: str) -> None:
    """Raises `ConfigError` if this host and the workers do not share a folder, which is there.

    remedy: what to do then, for the message. `WriteError` if nothing can be written there;
    `ClusterError` if a worker does not answer. Removes what killed commands have left there.
    """
    _remove_old(folder)
    token = secrets.token_hex(8)
    ours = folder / f"{_PREFIX}{token}"
    try:
        write_atomic(ours, token, sync=False)
        addresses = [worker.address for worker in workers]
        seconds = 2 * _SEEN_SECONDS
        answers = ask(client, addresses, _answer, str(folder), token, seconds=seconds)
        for worker in workers:
            if worker.address not in answers:
                require_answer(worker, None)
            answer = answers[worker.address]
            if isinstance(answer, str) and _within(partial(_holds, folder / answer, token)):
                continue
            reason = f"this host does not see what the Dask worker on {worker.host} writes there"
            if answer is None:
                reason = f"the Dask worker on {worker.host} does not see what this host writes"
            elif isinstance(answer, Exception):
                reason = f"the Dask worker on {worker.host} cannot use it ({first_line(answer)})"
            raise ConfigError(f"{folder} is not shared: {reason}; {remedy}")
    finally:
        for path in folder.glob(f"{ours.name}*"):
            path.unlink(missing_ok=True)


def require_shown(folder: Path, is_shown: Callable[[], bool], remedy: str) -> None:
    """Raises `ClusterError` if a folder here is not that of the command that gave out this work.

    is_shown: whether something is there that only that command has written; asked for a while.
    remedy: what to do then, for the message.
    """
    if not _within(is_shown):
        raise ClusterError(
            f"{folder} is not shared: {socket.gethostname()} does not see what the host of the "
            f"command writes there; {remedy}"
        )


async def _answer(folder: str, token: str) -> str | None:
    """On a worker: reads a token, and writes it to a file of its own, whose name it returns.
    None if the token does not come.
    """
    ours = Path(folder) / f"{_PREFIX}{token}"
    deadline = time.monotonic() + _SEEN_SECONDS
    while not _holds(ours, token):
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(_POLL_SECONDS)
    name = f"{ours.name}-{secrets.token_hex(8)}"
    write_atomic(Path(folder) / name, token, sync=False)
    return name


def _remove_old(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another command removes it, too
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                path.unlink()


def _within(is_shown: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SEEN_SECONDS
    while not is_shown():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text("utf-8") == token
    except OSError:
        return False
