"""Processor seconds that numba compiled in this process, or loaded what it had compiled before."""

import time

from numba.core import event


class Compiling(event.Listener):  # type: ignore[misc]
    """seconds: so far."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._begun = 0.0, 0, 0.0

    def on_start(self, _event: event.Event) -> None:
        """Begins to count, at the outermost function."""
        self._begun = self._begun if self._depth else time.thread_time()
        self._depth += 1

    def on_end(self, _event: event.Event) -> None:
        """Ends it."""
        self._depth -= 1
        self.seconds += 0 if self._depth else time.thread_time() - self._begun


COMPILING = Compiling()
event.register("numba:compiler_lock", COMPILING)
