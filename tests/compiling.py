"""Processor seconds that numba compiled in this process, or loaded what it had compiled before."""

import threading
import time

from numba.core import event


class Compiling(event.Listener):  # type: ignore[misc]
    """seconds: so far."""

    def __init__(self) -> None:
        self.seconds, self._adding = 0.0, threading.Lock()
        self._here = threading.local()  # one thread waits for the lock while another compiles

    def on_start(self, _event: event.Event) -> None:
        """Begins to count, at the outermost function of this thread."""
        depth = getattr(self._here, "depth", 0)
        if not depth:
            self._here.begun = time.thread_time()
        self._here.depth = depth + 1

    def on_end(self, _event: event.Event) -> None:
        """Ends it."""
        self._here.depth -= 1
        if not self._here.depth:
            with self._adding:
                self.seconds += time.thread_time() - self._here.begun


COMPILING = Compiling()
event.register("numba:compiler_lock", COMPILING)
