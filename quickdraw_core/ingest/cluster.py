"""Dask, as the ingest uses it: a client, and a bounded number of jobs in flight.

A job takes small facts and returns small facts. Faults of the input are results, not exceptions:
Dask would run the job again on another worker, and find the same.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple

from quickdraw_core.errors import ClusterError, ConfigError, QuickdrawError
from quickdraw_core.ingest.config import IngestConfig

_JOBS_IN_FLIGHT_PER_THREAD = 2
"""One at work and one that waits: more would only keep more files warm at once."""


PATIENCE_S = 60.0
"""How long a cluster may be without any worker."""

_LOOK_EVERY_S = 2.0
_QUIET = {
    "logging.distributed": "error",
    # What Dask does for its own dashboards, many times a second, and nobody looks at here.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "2s",
}
_LOST = "the Dask scheduler was lost while it worked; run again: what is finished is kept"


class Job(NamedTuple):
    """One call of a function of this package, on a worker."""

    function: Callable[[Any], Any]
    argument: Any


class Failure(NamedTuple):
    """What a job returns instead of raising."""

    error: QuickdrawError


@contextmanager
def cluster(config: IngestConfig) -> Iterator[Any]:
    """A Dask client: on this machine, or of the scheduler at `config.dask`.

    Threads are the default here: the compiled readers, Arrow and zstd all let the interpreter's
    lock go, and threads start at once and share their memory.
    """
    import dask
    from distributed import Client

    dask.config.set(_QUIET)
    if config.dask in ("local", "processes"):
        count = config.workers or os.cpu_count() or 1
        threads = config.dask == "local"
        client = Client(
            n_workers=1 if threads else count,
            threads_per_worker=count if threads else 1,
            processes=not threads,
            memory_limit=None if threads else "auto",  # which is to end workers, not ourselves
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    else:
        try:
            client = Client(config.dask, timeout="10s")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler answers at {config.dask}: {error}; "
                "start one, or use --dask local"
            ) from error
    with client:
        yield client


def run_jobs(client: Any, waiting: deque[Job]) -> Iterator[tuple[Job, Any]]:
    """Runs the jobs of `waiting`, few at a time, and yields (job, result) as they come.

    More jobs may be put into `waiting` while it runs; those at its left end come first.
    Raises `ClusterError` where the cluster is lost, or has no worker for `PATIENCE_S`.
    """
    threads = max(1, sum(client.nthreads().values()))
    jobs: dict[str, Job] = {}
    done: SimpleQueue[Any] = SimpleQueue()
    try:
        while waiting or jobs:
            while waiting and len(jobs) < threads * _JOBS_IN_FLIGHT_PER_THREAD:
                job = waiting.popleft()
                future = client.submit(_attempt, job, pure=False, retries=1)
                jobs[future.key] = job
                future.add_done_callback(done.put)
                del future  # the queue's reference is the last one, so that results are let go
            future = _next_done(client, done)
            job = jobs.pop(future.key)
            yield job, _result_of(future, job)
    finally:
        jobs.clear()


def _next_done(client: Any, done: "SimpleQueue[Any]") -> Any:
    """The next future that is done, whatever became of it."""
    deadline = monotonic() + PATIENCE_S
    while True:
        try:
            return done.get(timeout=_LOOK_EVERY_S)
        except Empty:
            if client.status not in ("running", "connecting"):
                raise ClusterError(_LOST) from None
            if client.nthreads():
                deadline = monotonic() + PATIENCE_S
            elif monotonic() > deadline:
                raise ClusterError(
                    f"the Dask cluster had no worker for {PATIENCE_S:.0f} s; start some and run "
                    "again: what is finished is kept"
                ) from None


def _result_of(future: Any, job: Job) -> Any:
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"Dask workers died one after the other at {job.argument}; look for memory that ran "
            "out, then run again: what is finished is kept"
        ) from error
    except (CancelledError, CommClosedError, TimeoutError) as error:
        raise ClusterError(_LOST) from error


def _attempt(job: Job) -> Any:
    try:
        return job.function(job.argument)
    except QuickdrawError as error:
        return Failure(error)
