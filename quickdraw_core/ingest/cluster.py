"""Dask, as the ingest uses it: a client, and a bounded number of jobs in flight. For few and small
files, its threaded scheduler, which starts at once.

A job takes small facts and returns small facts. Faults of the input are results, not exceptions:
after an exception, Dask would run the job again on another worker, with the same result.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from quickdraw_core.cluster.connect import connected, quiet_dask
from quickdraw_core.cluster.patience import LOST, Patience, require_scheduler
from quickdraw_core.errors import ClusterError, QuickdrawError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.system.threads import usable_cores

_JOBS_IN_FLIGHT_PER_THREAD = 2
"""One at work and one that waits: more would only keep more files in the page cache."""

SMALL_BYTES = 64 << 20
"""Up to so many bytes of local files are read sooner than a client of Dask has started."""

_POLL_SECONDS = 2.0
_FETCH_SECONDS = 10.0


class Job(NamedTuple):
    """One call of a function of this package, on a worker."""

    function: Callable[[Any], Any]
    argument: Any


class Failure(NamedTuple):
    """What a job returns instead of raising."""

    error: QuickdrawError


@dataclass(frozen=True)
class Threads:
    """Dask's threaded scheduler, instead of a client."""

    pool: ThreadPoolExecutor
    count: int

    def nthreads(self) -> dict[str, int]:
        """As a client's: threads by worker."""
        return {"threads": self.count}

    def run(self, waiting: deque[Job]) -> Iterator[tuple[Job, Any]]:
        """What `run_jobs` yields: a graph of all that waits, then one of what was put there."""
        from dask.threaded import get

        while waiting:
            jobs = [*waiting]
            waiting.clear()
            graph = {f"job-{k}": (partial(_attempt, job),) for k, job in enumerate(jobs)}
            yield from zip(jobs, get(graph, [*graph], pool=self.pool), strict=True)


@contextmanager
def cluster(config: IngestConfig, is_small: bool = False) -> Iterator[Any]:
    """A Dask client: on this machine, or of the scheduler at `config.dask`. For small work on
    threads of this process: `Threads`.

    Threads are the default here: the compiled readers, Arrow and zstd all let the interpreter's
    lock go, and threads start at once and share their memory.
    """
    if config.dask == "local" and is_small:
        count = config.workers or usable_cores()
        with ThreadPoolExecutor(count) as pool:
            yield Threads(pool, count)
        return
    if config.dask not in ("local", "processes"):
        with connected(config.dask, config.tls, else_do=", or use --dask local") as client:
            yield client
        return
    quiet_dask()
    from distributed import Client

    threads = config.dask == "local"
    cores = usable_cores()
    # Half as many threads again compute while the others wait for the disk.
    count = config.workers or (cores + max(1, cores // 2) if threads else cores)
    with Client(
        n_workers=1 if threads else count,
        threads_per_worker=count if threads else 1,
        processes=not threads,
        memory_limit=None if threads else "auto",  # which is to end workers, not ourselves
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as client:
        yield client


def run_jobs(client: Any, waiting: deque[Job]) -> Iterator[tuple[Job, Any]]:
    """Runs the jobs of `waiting`, few at a time, and yields (job, result) as they come.

    More jobs may be put into `waiting` while it runs; those at its left end come first.
    Raises `ClusterError` if the cluster is lost, or has no worker for `PATIENCE_SECONDS`.
    """
    if isinstance(client, Threads):
        yield from client.run(waiting)
        return
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
            yield job, _result_of(client, future, job)
    finally:
        jobs.clear()


def _wait_on(client: Any, patience: Patience) -> None:
    """Raises `ClusterError` if the cluster is lost, or had no worker for too long."""
    require_scheduler(client)
    patience.check(len(client.nthreads()))


def _next_done(client: Any, done: "SimpleQueue[Any]") -> Any:
    """The next future that is done, with a result or an error."""
    patience = Patience()
    while True:
        try:
            return done.get(timeout=_POLL_SECONDS)
        except Empty:
            _wait_on(client, patience)


def _result_of(client: Any, future: Any, job: Job) -> Any:
    """The result of a job that is done. It is on a worker, which may be lost before it is fetched:
    Dask then runs the job again, as soon as there is another worker.
    """
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    patience = Patience()
    try:
        while True:
            try:
                return future.result(timeout=_FETCH_SECONDS)
            except TimeoutError:
                _wait_on(client, patience)
    except KilledWorker as error:
        raise ClusterError(
            f"Dask workers died one after the other at {job.argument}; check whether they ran out "
            "of memory, then run again: what is finished is kept"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise ClusterError(LOST) from error


def _attempt(job: Job) -> Any:
    try:
        return job.function(job.argument)
    except QuickdrawError as error:
        return Failure(error)
