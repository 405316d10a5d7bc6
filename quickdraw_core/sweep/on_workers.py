"""Rows of a sweep as processes of Dask workers, on the hosts that are free.

A row on a processor has a host to itself. Rows on GPUs run wherever Dask has as many of the
resource GPU left. A row goes on from what its folder holds, on whatever host it is tried again.
A row waits for a host without limit while there are some that are busy, as with other rows.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.config import GPU, ClusterConfig
from quickdraw_core.cluster.connect import connected
from quickdraw_core.cluster.patience import Patience
from quickdraw_core.cluster.shared_folder import check_shared
from quickdraw_core.cluster.worker_process import WorkerProcess, worker_processes
from quickdraw_core.cluster.workers import (
    Survey,
    Worker,
    check_versions,
    resources_text,
    start_command,
    survey,
)
from quickdraw_core.errors import ClusterError, ConfigError
from quickdraw_core.progress import Bar, progress
from quickdraw_core.stage import Opened
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.row_job import SHARE, job_of
from quickdraw_core.sweep.row_process import error_of, is_error
from quickdraw_core.sweep.rows import PreparedRow, nest
from quickdraw_core.system.threads import NUM_THREADS

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_WAITS = "waiting for a host of the Dask cluster"


class RowHosts:
    """The hosts of a Dask cluster, which rows take in turn. Threads may share it."""

    def __init__(self, client: Any, connect: Callable[[], Any], config: ClusterConfig) -> None:
        """connect: gives another client, if this one has lost its scheduler."""
        self._client, self._connect, self._config = client, connect, config
        # Of two kinds: a row that ends gives its host back while others ask the cluster.
        self._asking, self._lock = threading.RLock(), threading.Lock()
        self._surveys: dict[tuple[tuple[str, float], ...], tuple[float, Survey]] = {}
        self._taken: set[str] = set()
        self._lost: set[str] = set()

    def check(self, rows: list[PlannedRow], folder: Path) -> None:
        """Raises `ConfigError` if a row has no host, or the hosts do not share the folder."""
        fit: dict[str, Worker] = {}
        for row in rows:
            needs = self._resources(row)
            found = self._survey(needs)
            fit |= {worker.host: worker for worker in (*found.free, *found.busy)}
            if not found.hosts:
                wanted, address = resources_text(needs), str(self._config.dask)
                raise found.error(
                    f"no worker of the Dask cluster {self._config.dask} can train the row "
                    f"{row.name!r}{f', which needs {wanted}' if wanted else ''}: "
                    f"{found.unfit_text() or 'it has none'}; start some by "
                    f"{start_command(address, needs)}"
                )
        # On hosts that come later the processes of the rows themselves find it.
        check_shared(self._connected(), [*fit.values()], folder, SHARE)

    def _connected(self) -> Any:
        """The client, or another one if it has lost its scheduler: it may have given up for good.
        Raises `ClusterError` if the scheduler cannot be reached.
        """
        with self._asking:
            if self._client.status != "running":
                try:
                    self._client = self._connect()
                except ConfigError as error:  # it was there before
                    raise ClusterError(str(error)) from error
            return self._client

    def _survey(self, resources: Mapping[str, float]) -> Survey:
        """What the cluster has, at most `_LOOK_SECONDS` ago: rows that wait ask as one."""
        key = tuple(sorted(resources.items()))
        with self._asking:
            at, found = self._surveys.get(key, (-math.inf, None))
            if found is None or time.monotonic() - at >= _LOOK_SECONDS:
                found = survey(self._connected(), resources)
                self._surveys[key] = time.monotonic(), found
            return found

    def _resources(self, row: PlannedRow) -> dict[str, float]:
        """What a row takes of a worker: as configured, or a GPU for each of its processes if it
        is to use them; if it may, and there are workers with so many.
        """
        hardware = row.config.hardware
        if self._config.resources or hardware.device == "cpu":
            return self._config.resources
        gpus = {GPU: float(hardware.ranks)}
        return gpus if hardware.device == "cuda" or self._survey(gpus).hosts else {}

    def run(self, sweep: Sweep, name: str, stopping: threading.Event) -> None:
        """Trains and judges a row on a host, once one is free.

        Raises what `PreparedRow.run` raises, and `ClusterError` if its host is lost.
        """
        row = PreparedRow(sweep, sweep.row(name), Opened())
        with progress(name, 1, "rows") as bar:
            done = row.finished()
            if done is None:
                resources = self._resources(row.planned)
                with self._host(resources, stopping, bar) as worker:
                    command = ["-m", "quickdraw_core.sweep.row_process"]
                    command.append(json.dumps(job_of(sweep, name)))
                    # As many threads as here: their number decides how sums are rounded.
                    passed = {k: v for k, v in os.environ.items() if k == NUM_THREADS}
                    client, commands = self._connected(), [(worker, command)]
                    with worker_processes(client, commands, passed, resources) as (process,):
                        self._follow(process, resources, bar, stopping)
            else:
                bar.note(done)
            nest(sweep, row.planned)
            bar.advance(1)

    @contextmanager
    def _host(
        self, resources: dict[str, float], stopping: threading.Event, bar: Bar
    ) -> Iterator[Worker | None]:
        """A block with a worker whose host no other row has; None: Dask is to choose it, by its
        resources.
        """
        if resources:
            yield None
            return
        worker = self._next_free(stopping, bar)
        try:
            yield worker
        except ClusterError:
            with self._lock:
                self._lost.add(worker.host)
                self._surveys.clear()
            raise
        finally:
            with self._lock:
                self._taken.discard(worker.host)

    def _next_free(self, stopping: threading.Event, bar: Bar) -> Worker:
        patience = Patience()
        while not stopping.is_set():
            found = self._survey({})
            with self._lock:
                free = [worker for worker in found.free if worker.host not in self._taken]
                # One that was lost may not be known as such by the scheduler yet.
                free.sort(key=lambda worker: worker.host in self._lost)
                if free:
                    self._taken.add(free[0].host)
                    return free[0]
            patience.check(found.hosts)
            bar.note(_WAITS)
            stopping.wait(_LOOK_SECONDS)
        raise KeyboardInterrupt

    def _follow(
        self,
        process: WorkerProcess,
        resources: dict[str, float],
        bar: Bar,
        stopping: threading.Event,
    ) -> None:
        """Shows the lines of a row's process until its end. Raises its error."""
        last, patience = "", Patience()

        def on_lines(lines: list[str]) -> None:
            nonlocal last
            for line in filter(str.strip, lines):
                last = line
                if not is_error(line):
                    bar.log(line)

        while (code := process.poll(on_lines)) is None:
            if process.host is None:
                patience.check(self._survey(resources).hosts)
                bar.note(_WAITS)
            if stopping.wait(_POLL_SECONDS if process.host else _LOOK_SECONDS):
                raise KeyboardInterrupt
        if code:
            raise error_of(last, code)


@contextmanager
def row_hosts(config: ClusterConfig, rows: list[PlannedRow], folder: Path) -> Iterator[RowHosts]:
    """A block with the hosts of a Dask cluster. folder: of the sweep, which is there.

    Raises `ConfigError` if they cannot be reached, or cannot train the rows there.
    """
    address = config.dask
    assert address is not None
    with ExitStack() as clients:

        def connect() -> Any:
            client = connected(address, config.tls, else_do=", or leave out --dask")
            return clients.enter_context(client)

        client = connect()
        check_versions(client, address)
        hosts = RowHosts(client, connect, config)
        hosts.check(rows, folder)
        yield hosts
