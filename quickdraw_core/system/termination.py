"""SIGTERM, which schedulers, containers and supervisors send first, as an end that tidies up."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TerminatedError(KeyboardInterrupt):
    """SIGTERM was received: whatever tidies up after Ctrl-C does so now."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """A block that SIGTERM ends as Ctrl-C does, by `TerminatedError`. A second one changes
    nothing: Slurm may send several. Whoever handles the signal already goes on doing so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process, received = os.getpid(), False

    def end(number: int, _: object) -> None:
        nonlocal received
        if os.getpid() != process:  # forked from this one, and started by it to be ended so
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not received:
            received = True
            raise TerminatedError

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
