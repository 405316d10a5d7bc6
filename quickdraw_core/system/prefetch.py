"""Threads that make items ahead of their use, and hand them out in order."""

import threading
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import TypeVar

from quickdraw_core.system.threads import usable_cores

T = TypeVar("T")
R = TypeVar("R")

THREAD_NAME = "quickdraw-prefetch"

_MOST_THREADS = 8
"""Of `on_threads` by default: each holds one file in memory; more would wait for the disk."""


class _End:
    """What a thread leaves in place of an item that there is not: why, or None at the end."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetched(
    function: Callable[[T], R], items: Iterable[T], threads: int, depth: int
) -> Generator[R]:
    """Yields `function(item)` for all items, in order; the threads are up to `depth` ahead.
    Without threads, each result is made when it is asked for, by who asks.

    One thread at a time takes an item, so an iterator may do work of its own. An exception is
    raised here, at its place. Closing the generator ends the threads as soon as each is through
    with the item in its hands.
    """
    if not threads:
        yield from map(function, items)
        return
    # A thread that has a permit takes the next item and leaves its result in the item's slot. The
    # slot is free, since there is a permit for it only when the item `depth` before was handed
    # out. So nobody polls.
    permits: SimpleQueue[bool] = SimpleQueue()
    slots: list[SimpleQueue[R | _End]] = [SimpleQueue() for _ in range(depth)]
    stopped, taking, taken = threading.Event(), threading.Lock(), 0
    remaining = iter(items)

    def work() -> None:
        nonlocal taken
        while permits.get() and not stopped.is_set():
            with taking:
                slot = slots[taken % depth]
                taken += 1
                try:
                    item = next(remaining)
                except BaseException as error:  # noqa: BLE001 — raised again by the consumer
                    slot.put(_End(None if isinstance(error, StopIteration) else error))
                    continue
            try:
                slot.put(function(item))
            except BaseException as error:  # noqa: BLE001 — as above
                slot.put(_End(error))

    pool = [threading.Thread(target=work, name=THREAD_NAME, daemon=True) for _ in range(threads)]
    for thread in pool:
        thread.start()
    for _ in range(depth):
        permits.put(True)
    given = 0
    try:
        while not isinstance(result := slots[given % depth].get(), _End):
            given += 1
            permits.put(True)
            yield result
        if result.error is not None:
            raise result.error
    finally:
        stopped.set()
        for _ in pool:
            permits.put(False)
        for thread in pool:
            thread.join()


def on_threads(
    function: Callable[[T], R], items: Iterable[T], threads: int | None = None
) -> Generator[R]:
    """Yields `function(item)` for all items, in order, from a thread a core or so many.

    Worth it if `function` spends its time in Arrow, numpy or hashlib, which release the
    interpreter's lock.
    """
    count = threads or min(_MOST_THREADS, usable_cores())
    return prefetched(function, items, count, 2 * count)
