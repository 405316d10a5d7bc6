"""A command as a sub-process of a Dask worker, followed from here: its lines and its end.

It is a Dask task, which holds a thread of the worker and the resources that it asks for. It never
outlives who waits for it:

- This process ends, by `kill -9` too, or leaves the block: the scheduler releases the task. The
  worker cannot stop a function at work; the function sees that its task is cancelled, and ends
  the process.
- The worker ends: the kernel ends the process with it.
- The worker is cut off: it loses its scheduler after some 30 s, closes, and ends the process.
- The worker is started again at the same address, and Dask gives it the task anew: it has another
  id than the one that was asked for, and starts nothing.

Lines come as events by way of the scheduler, so that no ports but Dask's own need be open.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from quickdraw_core.cluster.patience import LOST, require_scheduler
from quickdraw_core.cluster.workers import PROCESS_KEY, Worker, host_of
from quickdraw_core.errors import ClusterError, first_line
from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.parent_death import sub_process

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 2.0
_END_SECONDS = 40.0
"""How long to wait for a process to end: it has 30 s for it, and then is killed."""
_READ_BYTES = 1 << 18
_LONGEST_LINE = 1 << 16
_AT_WORK = ("executing", "long-running")
_SERVING = ("running", "paused")


class WorkerProcess:
    """A sub-process of a worker, as it is seen from here. host: where it was started; None
    before.
    """

    def __init__(
        self,
        client: Any,
        command: Sequence[str],
        worker: Worker | None,
        environment: Mapping[str, str],
        resources: Mapping[str, float],
    ) -> None:
        self._client, self._worker = client, worker
        self._key = f"{PROCESS_KEY}-{secrets.token_hex(8)}"
        self._events: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._code: int | None = None
        self._address = worker.address if worker is not None else None
        self.host: str | None = None
        client.subscribe_topic(self._key, lambda event: self._events.put(event[1]))
        self._future = client.submit(
            run_here,
            list(command),
            dict(environment),
            worker and worker.id,
            key=self._key,
            pure=False,
            resources=dict(resources) or None,
            workers=[worker.address] if worker is not None else None,
            allow_other_workers=False,
        )

    def poll(self, on_lines: Callable[[list[str]], object] = lambda lines: None) -> int | None:
        """Passes on the lines that came since the last call; returns the exit code, None if it
        has not ended. As of any sub-process, a code below 0 is that of a signal.

        Raises `ClusterError` if it was lost, with its worker or with the scheduler.
        """
        self._take(on_lines)
        if self._code is None and self._is_done():
            self._take(on_lines)  # what has come since
            if self._code is None:  # an event was lost
                self._code = self._returned()
        return self._code

    def cancel(self) -> None:
        """Has it ended, without waiting for that."""
        with suppress(Exception):  # without a scheduler the worker ends it by itself
            self._future.cancel(force=True)

    def wait_for_end(self, seconds: float) -> None:
        """Waits until it has ended after `cancel`, or is lost."""
        deadline = time.monotonic() + seconds
        self._take(lambda lines: None)
        # What has not begun never will, and reports no end.
        while self._code is None and self.host is not None and time.monotonic() < deadline:
            try:
                self._note(self._events.get(timeout=_POLL_SECONDS))
            except Empty:
                with suppress(ClusterError):
                    if self._client.status == "running" and self._has_worker():
                        continue
                break
        self._drop_topic()

    def _take(self, on_lines: Callable[[list[str]], object]) -> None:
        while self._code is None and not self._events.empty():
            event = self._events.get()
            if event.get("lines"):
                on_lines(event["lines"])
            self._note(event)

    def _note(self, event: Mapping[str, Any]) -> None:
        self.host = event.get("host", self.host)
        self._address = event.get("address", self._address)
        self._code = event.get("code")

    def _returned(self) -> int | None:
        """The code that the task returned; None if it does not come now."""
        try:
            return int(self._future.result(timeout=_LOOK_SECONDS))
        except TimeoutError:
            return None
        except Exception as error:  # of all kinds that Dask loses a result by
            raise ClusterError(f"{LOST} ({first_line(error)})") from error

    def _drop_topic(self) -> None:
        """Has the scheduler forget the events, which it would keep as long as it runs: of this
        process, and of those whose clients were killed.
        """
        key, prefix = self._key, PROCESS_KEY

        def drop(dask_scheduler: Any) -> None:  # by value: it may not have this package
            # Dask only empties a topic, and that by its own methods for workers and clients alone.
            topics, clients = dask_scheduler._broker._topics, dask_scheduler.clients.keys()
            of_killed = [
                name
                for name, topic in topics.items()
                if name.startswith(prefix) and clients.isdisjoint(topic.subscribers)
            ]
            for name in (key, *of_killed):
                topics.pop(name, None)

        if self._client.status == "running":
            with suppress(Exception):  # of a scheduler that goes, or is of another version
                self._client.run_on_scheduler(drop)

    def _is_done(self) -> bool:
        """Whether the task has returned. Raises `ClusterError` if it never will."""
        where = self.host or (self._worker.host if self._worker is not None else "a worker")
        status = self._future.status
        require_scheduler(self._client)
        if status == "error":
            reason = first_line(self._future.exception())
            raise ClusterError(f"the Dask worker on {where} could not run a process: {reason}")
        if status in ("cancelled", "lost"):
            raise ClusterError(f"Dask has cancelled the process on {where}; run again to go on")
        if status != "finished" and not self._has_worker():
            if self._worker is not None:
                raise ClusterError(f"the Dask worker on {where} was lost; run again to go on")
            self.host = self._address = None  # Dask gives it to another one
        return bool(status == "finished")

    def _has_worker(self) -> bool:
        """Whether its worker is there, as it was in the last seconds."""
        if self._address is None or time.monotonic() < self._next_look:
            return True
        self._next_look = time.monotonic() + _LOOK_SECONDS
        try:
            return self._address in self._client.nthreads()
        except RuntimeError as error:  # of a client that has given up
            raise ClusterError(LOST) from error


@contextmanager
def worker_processes(
    client: Any,
    commands: Sequence[tuple[Worker | None, Sequence[str]]],
    environment: Mapping[str, str],
    resources: Mapping[str, float],
) -> Iterator[list[WorkerProcess]]:
    """A block with sub-processes of workers, none of which is at work when it is left.

    commands: for each the worker (None: any that is free) and the words that follow the worker's
    own Python: `-m`, a module, its arguments. environment: variables over those of the worker.
    resources: of Dask, that each one takes.
    """
    processes: list[WorkerProcess] = []
    try:
        for worker, words in commands:
            processes.append(WorkerProcess(client, words, worker, environment, resources))
        yield processes
    finally:
        for process in processes:
            process.cancel()
        deadline = time.monotonic() + _END_SECONDS
        for process in processes:
            process.wait_for_end(deadline - time.monotonic())


def run_here(words: list[str], environment: dict[str, str], worker_id: str | None) -> int:
    """The Dask task: runs a command of this worker's Python to its end; returns its exit code.

    worker_id: of the start of a worker that it is for; None: of any.
    """
    from distributed import get_worker

    worker = get_worker()
    key = str(worker.get_current_task())
    if worker_id is not None and worker.id != worker_id:
        raise ClusterError("it was started again meanwhile")
    worker.log_event(key, {"host": host_of(worker.address), "address": worker.address})
    own = own_environment(worker)
    with sub_process([sys.executable, *words], own | environment, subprocess.PIPE) as process:
        assert process.stdout is not None
        output = _Output(process.stdout.fileno())
        while process.poll() is None and _is_wanted(worker, key):
            time.sleep(_POLL_SECONDS)
            if lines := output.lines():
                worker.log_event(key, {"lines": lines})
        worker.log_event(key, {"lines": output.lines(whole=process.poll() is not None)})
    code: int = process.returncode
    worker.log_event(key, {"code": code})
    return code


def _is_wanted(worker: Any, key: str) -> bool:
    """Whether somebody still waits for a task at work, and the worker is to go on."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state in _AT_WORK and worker.status.name in _SERVING


def own_environment(worker: Any) -> dict[str, str]:
    """The worker's environment without what its nanny sets for tasks of one thread: OpenMP's
    threads, and how memory is given back.
    """
    import dask

    environment = child_environment()
    if worker.nanny is not None:
        for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
            if name != "PYTHONSAFEPATH" and environment.get(name) == str(value):
                del environment[name]
    return environment


class _Output:
    """What a process prints, as far as it has, in lines."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._rest = descriptor, b""

    def lines(self, whole: bool = False) -> list[str]:
        """The lines that have come since the last call. whole: also one without an end."""
        text = self._rest
        with suppress(BlockingIOError):
            while len(text) < _READ_BYTES and (part := os.read(self._descriptor, _READ_BYTES)):
                text += part
        end = text.rfind(b"\n") + 1
        if whole or len(text) - end > _LONGEST_LINE:
            end = len(text)
        self._rest = text[end:]
        return text[:end].decode(errors="replace").splitlines()
