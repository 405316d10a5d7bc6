"""Whether a folder is the same one here and on workers: a token written here is read by each of
them, and the other way round.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.workers import Worker
from quickdraw_core.errors import ClusterError, ConfigError, first_line
from quickdraw_core.system.files import write_atomic

_PREFIX = ".shared-"
_TOKEN_NAME = f"{_PREFIX}token"
_SEEN_SECONDS = 10.0
"""How long a network's file system may take to show a new file on another host."""
_POLL_SECONDS = 0.1


def check_shared(client: Any, workers: Sequence[Worker], folder: Path, remedy: str) -> None:
    """Raises `ConfigError` if this host and the workers do not share a folder, which is there.

    remedy: what to do then, for the message. `WriteError` if nothing can be written there.
    """
    token = secrets.token_hex(8)
    ours = folder / f"{_PREFIX}{token}"
    try:
        write_atomic(ours, token, sync=False)
        addresses = [worker.address for worker in workers]
        answers = client.run(_answer, str(folder), token, workers=addresses, on_error="return")
        for worker in workers:
            answer = answers.get(worker.address)
            if isinstance(answer, str) and _read_within(folder / answer, token):
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


@contextmanager
def shared_token(folder: Path) -> Iterator[str]:
    """A block in which a folder, which is there and this command's alone, holds a token: work that
    is given it begins with `require_token`. Raises `WriteError`.
    """
    token, path = secrets.token_hex(8), folder / _TOKEN_NAME
    write_atomic(path, token, sync=False)
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


def require_token(folder: Path, token: str, remedy: str) -> None:
    """Raises `ClusterError` if a folder here is not the one that `shared_token` is at work in."""
    if not _read_within(folder / _TOKEN_NAME, token):
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
    while _read(ours) != token:
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(_POLL_SECONDS)
    name = f"{ours.name}-{secrets.token_hex(8)}"
    write_atomic(Path(folder) / name, token, sync=False)
    return name


def _read_within(path: Path, token: str) -> bool:
    """Whether a file with a token comes here."""
    deadline = time.monotonic() + _SEEN_SECONDS
    while _read(path) != token:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except OSError:
        return None
