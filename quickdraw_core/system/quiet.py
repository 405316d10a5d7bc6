"""Silence for one thread: libraries that print while they work, beside threads that report."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def quiet_thread() -> Iterator[None]:
    """A block in which nothing that this thread prints is seen; other threads print as before.

    `contextlib.redirect_stderr` would swallow their lines too. Blocks of several threads must not
    overlap: each puts back the streams that it found.
    """
    found = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _of_others(sys.stdout), _of_others(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = found


def _of_others(stream: TextIO | None) -> Any:
    return None if stream is None else _OfOthers(stream)  # closed, by `2>&-`


class _OfOthers:
    """A stream that hands on what other threads than the one that made it write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._silenced = stream, threading.get_ident()

    def write(self, text: str) -> int:
        """Writes or drops a text; returns its length."""
        if threading.get_ident() == self._silenced:
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
