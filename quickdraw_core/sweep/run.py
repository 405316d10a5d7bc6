"""A sweep from its table to its result. The same command again trains only what is missing; a
row that was stopped goes on from its checkpoint.
"""

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from quickdraw_core.assignments import flattened
from quickdraw_core.cluster.connect import check_certificates
from quickdraw_core.cluster.environment import launcher_job
from quickdraw_core.errors import ConfigError, first_line
from quickdraw_core.inference.held_out import find_held_out
from quickdraw_core.launching.gpus import devices_locked
from quickdraw_core.loading.joined import opened_train_pack
from quickdraw_core.redaction import without_secrets
from quickdraw_core.stage import Opened, tried_again
from quickdraw_core.storage.begun_by import is_begun_by, note_begun
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.store import open_store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.finish import finish_sweep, stop_sweep
from quickdraw_core.sweep.on_workers import RowHosts, row_hosts
from quickdraw_core.sweep.plan import Sweep, plan_sweep, row_named
from quickdraw_core.sweep.results import SweepError, SweepResult
from quickdraw_core.sweep.row_job import BEGUN_KEY
from quickdraw_core.sweep.row_slots import Slots
from quickdraw_core.sweep.rows import deliver, run_row
from quickdraw_core.system.locks import held_folder, require_free_folder
from quickdraw_core.tracking.journal import JOURNAL_NAME, append, status_record
from quickdraw_core.tracking.run_record import RUN_RECORD_NAME
from quickdraw_core.tracking.start_run import start_run
from quickdraw_core.training.plan import checked_rows
from quickdraw_core.training.run_folder import RUN_NAME, RunFolder

RunRow = Callable[[str, threading.Event], None]
"""Trains and judges the row of a name, once there is room for it; ends as by Ctrl-C once the event
is set."""

RunRows = Callable[[Sweep, RunRow], dict[str, str]]
"""Has the chosen rows run, several at once; returns row name → why it failed, in a line."""


@dataclass(frozen=True)
class PreparedSweep:
    """A sweep that can begin."""

    config: SweepConfig
    planned: Sweep
    opened: Opened

    def begin(self) -> Sweep:
        """Creates or continues the sweep's folder, and its parent run in MLflow.

        Raises `ConfigError` or `StoreError` if a row's plan does not fit the store's drawings, or
        classes have too few of them.
        """
        sweep, config, opened = self.planned, self.config, self.opened
        store = open_store(sweep.store, opened)
        find_held_out(sweep.judging(sweep.rows[0]), store, opened)
        rows = []
        for row in sweep.rows:
            with row_named(sweep.table, row):
                pack = opened_train_pack(store, row.config.select, opened)
                counts = checked_rows(row.config, pack).train_counts
            classes = int(np.count_nonzero(counts))
            rows.append(replace(row, classes=classes, drawings=sum(counts)))
        if config.fresh:
            _clear(sweep)
            note_begun(storage_of(sweep.path), launcher_job(os.environ), self._folders)
        name, params = sweep.path.name, _params(sweep)
        run = start_run(sweep.path, config.tracking_uri, name, params, _tags(sweep))
        tracked = {"tracking": {"uri": run.uri}}
        rows = [replace(row, config=row.config.updated(tracked)) for row in rows]
        begun = replace(sweep, rows=tuple(rows), uri=run.uri, key=secrets.token_hex(16))
        append(sweep.path, status_record("RUNNING") | {BEGUN_KEY: begun.key})
        deliver(begun)
        return begun

    def is_begun_by(self, job: str) -> bool:
        """Whether the job has started these rows over before. job: as `launcher_job` gives it."""
        return is_begun_by(storage_of(self.planned.path), job, self._folders)

    def is_of_before(self, since: float) -> bool:
        """Whether a chosen row has a run of before a moment, in seconds since the epoch: then
        nobody has started these rows over since.
        """
        runs = (LocalStorage(self.planned.row(name).run_dir) for name in self.planned.chosen)
        begun = (run.modified(RUN_NAME) for run in runs)
        return any(time is not None and time < since for time in begun)

    @property
    def _folders(self) -> list[str]:
        """Of the chosen rows. A job may have several sweeps of one folder, of a few rows each."""
        return [self.planned.row(name).run_dir.name for name in self.planned.chosen]

    def run(
        self,
        run_rows: RunRows | None = None,
        run_one: Callable[[Sweep], RunRow] | None = None,
    ) -> SweepResult:
        """Trains and judges every chosen row, and compares all of them.

        run_rows: runs them, instead of threads. run_one: gives what runs one, instead of this host
        or Dask's workers. If a row fails, the others go on, and `SweepError` is raised at the end,
        when the table is written. Raises `BusyError`, `ConfigError` if Dask's workers cannot train
        the rows, and what `begin` raises.
        """
        if self.config.where == "pool" and run_one is None:
            raise ConfigError(
                "rows run in Prefect's pool (where=pool) in a flow of a Prefect server alone; "
                "leave it out, or run the deployment sweep/weekly with it"
            )
        with held_folder(self.planned.path, "sweep"), self._hosts() as hosts:
            sweep = self.begin()
            if run_one is not None:
                run_row_of = run_one(sweep)
            elif hosts is not None:
                run_row_of = partial(hosts.run, sweep)
            else:
                run_row_of = row_runner(sweep, self.opened)
            try:
                with _gpus_of(sweep):
                    failures = (run_rows or in_threads)(sweep, run_row_of)
                result = finish_sweep(sweep, failures)
            except BaseException:
                stop_sweep(sweep)
                raise
        if failures:
            raise SweepError(result)
        return result

    def _hosts(self) -> AbstractContextManager[RowHosts | None]:
        """A block with the hosts of the Dask cluster, if one is configured."""
        if self.config.dask is None:
            return nullcontext()
        rows = [self.planned.row(name) for name in self.planned.chosen]
        return row_hosts(self.config, rows, self.planned.path)


def prepare(config: SweepConfig, opened: Opened) -> PreparedSweep:
    """Plans a sweep. Raises what `plan_sweep` raises, and `BusyError`."""
    check_certificates(config.tls)
    sweep = plan_sweep(config, opened)
    require_free_folder(sweep.path)
    return PreparedSweep(config, sweep, opened)


def row_runner(sweep: Sweep, opened: Opened) -> RunRow:
    """What runs a row on this host, in one of the sweep's slots."""
    slots, turn = Slots(sweep.slots), threading.Lock()

    def run_one(name: str, stopping: threading.Event) -> None:
        with slots.taken() as slot:
            run_row(sweep, name, opened, slot, stopping, turn)

    return run_one


def in_threads(sweep: Sweep, run_one: RunRow) -> dict[str, str]:
    """Runs the chosen rows, as many at once as there are slots; retries one if that may help."""
    stopping = threading.Event()

    def work(name: str) -> None:
        tried_again(name, lambda _: run_one(name, stopping), stopping.wait)

    pool = ThreadPoolExecutor(len(sweep.slots))
    try:
        # The threads report progress where this one does.
        futures = [pool.submit(copy_context().run, work, name) for name in sweep.chosen]
        return failures_of(sweep.chosen, map(_end_of, futures))
    except BaseException:
        stopping.set()  # the threads hear of no Ctrl-C
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def failures_of(names: Iterable[str], ends: Iterable[object]) -> dict[str, str]:
    """Row name → why it failed, in a line. ends: the error of each row, or anything else."""
    failures: dict[str, str] = {}
    for name, end in zip(names, ends, strict=True):
        if isinstance(end, BaseException):
            failures[name] = without_secrets(first_line(end))
    return failures


def _end_of(future: "Future[None]") -> BaseException | None:
    """Polls, since a wait without a timeout may ignore Ctrl-C."""
    while True:
        try:
            return future.exception(timeout=1)
        except TimeoutError:
            continue


@contextmanager
def _gpus_of(sweep: Sweep) -> Iterator[None]:
    """A block that holds the GPUs of all slots."""
    devices = sweep.devices
    if not devices:
        yield
        return
    with devices_locked(devices, len(devices)):
        yield


def _clear(sweep: Sweep) -> None:
    """Removes the runs of the chosen rows; if all are chosen, the parent's too."""
    for name in sweep.chosen:
        run_dir = sweep.row(name).run_dir
        if RunFolder.is_there(run_dir):
            require_free_folder(run_dir)
            shutil.rmtree(run_dir)
    if len(sweep.chosen) == len(sweep.rows):
        for pattern in (RUN_RECORD_NAME, f"{JOURNAL_NAME}*"):
            for old in sweep.path.glob(pattern):
                old.unlink()


def _params(sweep: Sweep) -> dict[str, object]:
    """The table flat, as MLflow compares it."""
    table = sweep.table
    params: dict[str, object] = {"table": table.name, "metric": table.metric}
    params |= {"recipe": table.recipe, "per_class": sweep.per_class, "store": sweep.store}
    params |= flattened(table.values, "values.")
    for row in table.rows:
        params[f"rows.{row.slug}"] = json.dumps(row.values)
    return params


def _tags(sweep: Sweep) -> dict[str, str]:
    return {
        "mlflow.source.name": "quickdraw sweep",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": sweep.table.description,
        "store_fingerprint": sweep.store_fingerprint,
    }
