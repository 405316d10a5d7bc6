"""How often files are opened to be read, and folders listed, in this process."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_counted: list[Counter[str]] = []
"""The counters of the blocks at work: a hook of the interpreter stays for good."""


@contextmanager
def counted_openings() -> Iterator[Counter[str]]:
    """A block of which is counted, by absolute path, what Python opens or lists, on any thread."""
    _add_hook()
    counter: Counter[str] = Counter()
    _counted.append(counter)
    try:
        yield counter
    finally:
        _counted.remove(counter)


@cache
def _add_hook() -> None:
    sys.addaudithook(_count)


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if not _counted or event not in ("open", "os.listdir", "os.scandir"):
        return
    path, flags = arguments[0], arguments[2] if event == "open" else os.O_RDONLY
    if isinstance(path, str | bytes | os.PathLike) and flags & os.O_ACCMODE == os.O_RDONLY:
        for counter in _counted:
            counter[str(Path.cwd() / os.fsdecode(path))] += 1
