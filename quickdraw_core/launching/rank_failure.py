"""Why a training's ranks failed: by the files in which torch's launcher notes their errors."""

import json
import re
import sys
from pathlib import Path

from quickdraw_core.errors import (
    DivergedError,
    OutOfMemoryError,
    QuickdrawError,
    TrainingError,
    WriteError,
)

ERRORS_NAME = "errors"
_ERROR_LINE = re.compile(r"(host \d+: )?\w+(\.\w+)*(Error|Exception)\b.*")
_KINDS = {kind.__name__: kind for kind in (DivergedError, OutOfMemoryError)}
"""Errors of a rank that a training passes on as what they are, by the name of their class."""


def failure_of(errors: Path, begun_ns: int, nodes: int, log: Path, logged: int) -> QuickdrawError:
    """The error of a training whose ranks were started at `begun_ns`.

    `WriteError` if a rank could not write, `OutOfMemoryError` if its memory did not suffice,
    `DivergedError` if the loss was no longer finite, else `TrainingError`. logged: size of the
    log before.
    """
    rank, name, reason = _first_error(errors, begun_ns, nodes)
    if name == WriteError.__name__:
        return WriteError(reason)
    cause = f"{rank}: {name}: {reason}" if rank else _error_in_log(log, logged)
    return _KINDS.get(name, TrainingError)(f"training failed: {cause}; see {log}")


def _first_error(errors: Path, begun_ns: int, nodes: int) -> tuple[str, str, str]:
    """The first error of all ranks and hosts by time: the others only report that a peer is gone.

    By the time that the file was written: what torch notes in it is in whole seconds. Returns
    the rank, the name of the error's class and its message; empty if no rank has noted one.
    """
    noted = [(sys.maxsize, "", "", "")]
    for path in errors.glob("**/error.json"):
        try:
            written_ns = path.stat().st_mtime_ns
            message = str(json.loads(path.read_text("utf-8", "replace"))["message"]["message"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if written_ns >= begun_ns:  # not of an attempt before this one, on another host
            host = path.relative_to(errors).parts[0].removeprefix("node-")
            of_host = f" of host {host}" if nodes > 1 else ""
            name, _, reason = message.partition(": ")  # as torch's `record` writes it
            noted.append((written_ns, f"rank {path.parent.name}{of_host}", name, reason))
    return min(noted)[1:]


def _error_in_log(log: Path, start: int) -> str:
    """What the log holds of an error that came before the ranks could note one."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    errors = (line for line in lines if _ERROR_LINE.match(line) and "ChildFailed" not in line)
    return next(errors, "the processes ended without saying why (killed, for one)")
