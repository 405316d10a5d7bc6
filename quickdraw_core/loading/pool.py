"""A pool of threads that makes numbered items ahead of their use, and hands them out in order."""

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

THREAD_NAME = "quickdraw-loader"


class _Failure:
    """What a thread leaves in place of an item that it could not make."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def pooled(
    make: Callable[[int], T],
    numbers: range,
    threads: int,
    depth: int,
) -> Generator[T, None, None]:
    """Yields `make(number)` for all numbers, in order; the threads are up to `depth` ahead.
    Without threads, each item is made when it is asked for, by who asks.

    An exception of `make` is raised here, at its place. Closing the iterator ends the threads as
    soon as each is through with the item in its hands.
    """
    if not threads:
        yield from map(make, numbers)
        return
    # A thread takes the next number and leaves its item in the number's slot, which is free: a
    # number is given out only when the item `depth` before it was. So nobody polls, and the
    # only locks are those inside the queues, which are held without the interpreter's help.
    tasks: SimpleQueue[int | None] = SimpleQueue()
    slots: list[SimpleQueue[T | _Failure]] = [SimpleQueue() for _ in range(depth)]
    stop = threading.Event()

    def work() -> None:
        while (index := tasks.get()) is not None and not stop.is_set():
            try:
                slots[index % depth].put(make(numbers[index]))
            except BaseException as error:  # noqa: BLE001 — raised again by the consumer
                slots[index % depth].put(_Failure(error))

    count = max(0, -(-(numbers.stop - numbers.start) // numbers.step))
    for index in range(min(depth, count)):
        tasks.put(index)
    pool = [threading.Thread(target=work, name=THREAD_NAME, daemon=True) for _ in range(threads)]
    for thread in pool:
        thread.start()
    try:
        for index in range(count):
            item = slots[index % depth].get()
            if isinstance(item, _Failure):
                raise item.error
            if index + depth < count:
                tasks.put(index + depth)
            yield item
    finally:
        stop.set()
        for _ in pool:
            tasks.put(None)
        for thread in pool:
            thread.join()
