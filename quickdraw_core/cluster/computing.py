"""Pieces of work that the workers of a Dask cluster compute, in the order that they were given in.

A piece is a Dask task: a worker that is lost costs the pieces that it had, which others compute.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, NamedTuple, TypeVar

from quickdraw_core.cluster.config import GPU, ClusterConfig
from quickdraw_core.cluster.connect import connected
from quickdraw_core.cluster.patience import LOST, Patience, require_scheduler
from quickdraw_core.cluster.worker_process import own_environment
from quickdraw_core.cluster.workers import check_versions, resources_text, start_command
from quickdraw_core.errors import ClusterError, ConfigError, QuickdrawError, first_line
from quickdraw_core.system.code_version import package_version
from quickdraw_core.system.threads import NUM_THREADS, threads_each

_PIECES_A_THREAD = 3
"""One at work and two that wait, since the results of all wait for the slowest."""

_START_SECONDS = 5.0
"""How long to wait for workers that are just being started."""

_LOOK_SECONDS = 2.0

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")


class Refused(NamedTuple):
    """What a task returns instead of raising: after an exception Dask would run it again."""

    error: QuickdrawError


@contextmanager
def computing(config: ClusterConfig, else_do: str) -> Iterator["DaskComputing | None"]:
    """A block with the workers of the configured cluster; None if there is none.

    else_do: what to do without a cluster, for messages. Raises `ConfigError` if the scheduler
    cannot be reached, has no worker that can compute, or has workers of another version.
    """
    if config.dask is None:
        yield None
        return
    with connected(config.dask, config.tls, else_do=else_do) as client:
        yield DaskComputing(client, config.dask, config.resources)


class DaskComputing:
    """Computes pieces (`inference/pieces.py`) on all workers that have the resources asked for.
    If none are, and some workers have GPUs, these alone compute: processors of different kinds
    round differently.
    """

    def __init__(self, client: Any, address: str, resources: Mapping[str, float]) -> None:
        """Raises `ConfigError` as `computing` does."""
        self._client, self._resources = client, dict(resources)
        check_versions(client, address)
        deadline = monotonic() + _START_SECONDS
        while not self._threads() and monotonic() < deadline:
            sleep(_LOOK_SECONDS / 4)
        if not resources and any(has.get(GPU, 0) >= 1 for has, _ in self._workers()):
            self._resources = {GPU: 1}
        if not self._threads():
            what = f" with {resources_text(resources)}" if resources else ""
            raise ConfigError(
                f"the Dask cluster {address} has no worker{what}; start some by "
                f"{start_command(address, resources)}"
            )

    def _workers(self) -> list[tuple[Mapping[str, float], int]]:
        """Resources and threads of each worker."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return [(facts.get("resources", {}), facts["nthreads"]) for facts in workers]

    def _threads(self) -> int:
        """Threads of the workers that can compute now."""
        return sum(
            threads
            for has, threads in self._workers()
            if all(has.get(name, 0) >= amount for name, amount in self._resources.items())
        )

    def results(
        self, shared: S, function: Callable[[S, P], R], pieces: Iterable[P]
    ) -> Generator[R]:
        """`function(shared, piece)` of each piece, in their order. shared: sent once to each
        worker. Raises what the function raises on purpose, and `ClusterError` if it raises
        anything else, or the cluster is lost, has no worker for `PATIENCE_SECONDS`, or loses one
        after the other.
        """
        import dask

        version, options = package_version(), {"pure": False, "resources": self._resources or None}
        # Models of a hundred MB are what is meant to be sent.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "64GiB"}):
            kept = self._client.submit(_same, shared, pure=False)
        waiting: deque[Any] = deque()
        for piece in pieces:
            waiting.append(
                self._client.submit(_compute, version, function, kept, piece, retries=1, **options)
            )
            # Asked each time, since workers come and go.
            if len(waiting) >= _PIECES_A_THREAD * self._threads():
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        patience = Patience()
        try:
            while True:
                try:
                    result = future.result(timeout=_LOOK_SECONDS)
                    break
                except TimeoutError:
                    if future.status == "error":  # it is what the function raised
                        raise
                    require_scheduler(self._client)
                    patience.check(self._threads())
        except KilledWorker as error:
            raise ClusterError(
                "Dask workers died one after the other at the same drawings; check whether they "
                "ran out of memory, then run again"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(LOST) from error
        except (ImportError, AttributeError) as error:  # of another version than was asked for
            raise ClusterError(
                f"a Dask worker cannot compute ({first_line(error)}); give all workers this "
                "version of the package with its extra named train"
            ) from error
        except QuickdrawError:
            raise
        except Exception as error:  # what a library raised there: no memory of a GPU, say
            raise ClusterError(f"a Dask worker failed: {first_line(error)}") from error
        if isinstance(result, Refused):
            raise result.error
        return result


def _same(value: S) -> S:
    """As a task: what is lost with a worker is sent again."""
    return value


def _compute(version: str, function: Callable[[Any, Any], Any], shared: Any, piece: Any) -> Any:
    """Runs on a worker. version: of the package of who asked."""
    from distributed import get_worker

    if package_version() != version:
        return Refused(ClusterError("a Dask worker of another version of this package came up"))
    try:
        with _threads_of(get_worker()):
            return function(shared, piece)
    except QuickdrawError as error:
        return Refused(error)


@contextmanager
def _threads_of(worker: Any) -> Iterator[None]:
    """A block in which torch computes with this task's share of the cores, or with as many threads
    as a user has set. A worker's nanny sets one. The environment stays: the sub-processes of later
    tasks inherit it.
    """
    if NUM_THREADS in own_environment(worker):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads_each(worker.state.nthreads))
    try:
        yield
    finally:
        torch.set_num_threads(before)
