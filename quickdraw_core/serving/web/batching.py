"""Concurrent requests → batches: computed together on threads, answered one by one.

A batch starts as soon as a thread is free and no request that could join it is still being read;
for those it waits a few milliseconds. So a request alone waits for nothing, and under load
batches grow by themselves while the threads are busy. What may wait is bounded: one more is
refused at once (docs/decisions/0035).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar, TypeVarTuple

from quickdraw_core.serving.web.answers import Refused, unavailable
from quickdraw_core.serving.web.config import Batching

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

ALONE_SECONDS = 0.003
"""An item that takes less may hold up the loop, if there is no other."""
BUSY = "too many drawings are waiting for a guess; try again in a second"
STOPPING = "the server is being stopped"


class _Daemons:
    """Threads for which the end of the process does not wait."""

    def __init__(self, threads: int, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads = threads
        for number in range(threads):
            Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def submit(self, task: Callable[[], object]) -> None:
        """Has a thread call it, which must not raise."""
        self._tasks.put(task)

    def close(self) -> None:
        """Ends the threads after what they have been given."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            del task


def _tell(
    loop: asyncio.AbstractEventLoop, function: Callable[[*Ts], object], *values: *Ts
) -> None:
    """Has the loop call a function, unless it has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *values)


class Workers:
    """Threads that call functions for an event loop: `most` at once with those that wait.

    busy: the sentence for one more.
    """

    def __init__(self, threads: int, name: str, most: int, busy: str) -> None:
        self._threads = _Daemons(threads, name)
        self._most, self._busy = most, busy
        self._count, self._is_closed = 0, False
        self._answers: set[asyncio.Future[Any]] = set()

    def require_room(self) -> None:
        """Raises `Refused` (503) if as much is being done and waits as may."""
        if self._is_closed:
            raise unavailable(STOPPING)
        if self._count >= self._most:
            raise unavailable(self._busy)

    async def run(self, function: Callable[[*Ts], R], *values: *Ts) -> R:
        """What the function returns or raises; `Refused` (503) if there is no room.

        If it is cancelled, the function is not begun; one that runs keeps its thread and its
        room until it ends.
        """
        self.require_room()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._answers.add(answer)
        self._count += 1

        def work() -> None:
            if answer.done():
                _tell(loop, self._end, answer, None, None)
                return
            try:
                result = function(*values)
            except Exception as error:  # noqa: BLE001 — given to whoever waits for it
                _tell(loop, self._end, answer, None, error)
            else:
                _tell(loop, self._end, answer, result, None)

        self._threads.submit(work)
        return await answer

    def _end(self, answer: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
        self._count -= 1
        self._answers.discard(answer)
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def close(self) -> None:
        """Refuses what is not done yet, and waits for nothing."""
        self._is_closed = True
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(unavailable(STOPPING))
        self._threads.close()


class _Waiting(NamedTuple, Generic[T, R]):
    item: T
    answer: "asyncio.Future[R]"


class Batcher(Generic[T, R]):
    """Gathers what is submitted. All of it is called from the thread of one event loop.

    compute: a batch's items → their results, in order; called on `threads` threads at once.
    `observe` is called with the number of items of each batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[T]], Sequence[R]],
        config: Batching,
        threads: int = 1,
    ) -> None:
        self._compute, self._config = compute, config
        self.observe: Callable[[int], object] = lambda count: None
        self._pool = _Daemons(threads, "guess")
        self._running: set[asyncio.Future[R]] = set()
        self._is_closed = False
        self._threads = self._idle = threads
        self._seconds_each = 0.0
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._arriving = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_scheduled = False

    @property
    def waiting(self) -> int:
        """How many items are in no batch yet."""
        return len(self._waiting)

    def require_room(self) -> None:
        """Raises `Refused` (503) if as many wait as may, or if the wait would be too long at the
        speed of late: before more is read or computed. What fits into one batch may wait.
        """
        if self._is_closed:
            raise unavailable(STOPPING)
        waiting = len(self._waiting)
        seconds = waiting * self._seconds_each / self._threads
        is_long = waiting >= self._config.drawings and seconds > self._config.wait_ms / 1000
        if is_long or waiting >= self._config.waiting:
            raise unavailable(BUSY)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """A block that reads a request which may be submitted: a batch waits for it a little."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._schedule()

    async def submit(self, item: T) -> R:
        """The result of an item. Raises what `compute` raised for this item alone, and `Refused`
        (503) if there is no room. If it is cancelled, the item is left out, unless its batch runs.
        """
        self.require_room()
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, answer))
        self._schedule()
        return await answer

    def close(self) -> None:
        """Refuses what has no result yet, and waits for nothing."""
        self._is_closed = True
        for answer in [*(waiting.answer for waiting in self._waiting), *self._running]:
            if not answer.done():
                answer.set_exception(unavailable(STOPPING))
        self._waiting.clear()
        self._pool.close()

    def _schedule(self) -> None:
        """Looks for a batch to start once all requests that the loop has at hand are read."""
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._start_ready)

    def _start_ready(self) -> None:
        self._is_scheduled = False
        while self._waiting and self._idle:
            is_full = len(self._waiting) >= self._config.drawings
            if self._arriving and not is_full and self._config.gather_ms:
                self._start_later()
                return
            self._start()

    def _start_later(self) -> None:
        if self._timer is None:
            delay = self._config.gather_ms / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, self._start_waited)

    def _start_waited(self) -> None:
        self._timer = None
        if self._waiting and self._idle:
            self._start()

    def _is_alone(self) -> bool:
        """Whether the only item there is can be computed at once by the loop's own thread: to
        wake another one and to be woken by it takes about as long as a small network.
        """
        nothing_else = len(self._waiting) == 1 and self._idle == self._threads
        return nothing_else and 0 < self._seconds_each < ALONE_SECONDS

    def _start(self) -> None:
        """Has a thread compute the items that have waited longest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        is_alone = self._is_alone()
        batch: list[_Waiting[T, R]] = []
        while self._waiting and len(batch) < self._config.drawings:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # given up: too late, or the client is gone
                batch.append(waiting)
        if not batch:
            return
        self._idle -= 1
        self.observe(len(batch))
        if is_alone:
            self._answer(batch, *self._results(batch))
        else:
            self._running.update(waiting.answer for waiting in batch)
            loop = asyncio.get_running_loop()
            self._pool.submit(lambda: self._run(batch, loop))

    def _run(self, batch: list[_Waiting[T, R]], loop: asyncio.AbstractEventLoop) -> None:
        """On a thread."""
        _tell(loop, self._answer, batch, *self._results(batch))

    def _results(self, batch: list[_Waiting[T, R]]) -> tuple[Sequence[R | Exception], float]:
        """Of each item, and the seconds that each took."""
        began = time.perf_counter()
        results = _each(self._compute, [waiting.item for waiting in batch])
        return results, (time.perf_counter() - began) / len(batch)

    def _answer(
        self, batch: list[_Waiting[T, R]], results: Sequence[R | Exception], seconds_each: float
    ) -> None:
        self._idle += 1
        # Of the last ten batches or so.
        self._seconds_each += (seconds_each - self._seconds_each) / 10
        self._schedule()
        for waiting, result in zip(batch, results, strict=True):
            self._running.discard(waiting.answer)
            if waiting.answer.done():
                continue
            if isinstance(result, Exception):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result)


def _each(
    compute: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]
) -> Sequence[R | Exception]:
    """A result or an error for each item: if they fail together, each is tried alone."""
    try:
        return compute(items)
    except Refused as error:  # of all of them, such as that there is no model
        return [error] * len(items)
    except Exception as error:  # noqa: BLE001 — given to whoever waits for it
        if len(items) == 1:
            return [error]
    return [result for item in items for result in _each(compute, [item])]
