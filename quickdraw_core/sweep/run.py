"""A sweep from its table to its result. The same command again trains only what is missing; a
row that was stopped goes on from its checkpoint.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace

import numpy as np

from quickdraw_core.assignments import flattened
from quickdraw_core.errors import first_line
from quickdraw_core.inference.held_out import find_held_out
from quickdraw_core.launching.gpus import devices_locked
from quickdraw_core.redaction import without_secrets
from quickdraw_core.stage import Opened, tried_again
from quickdraw_core.store.pack import opened_pack
from quickdraw_core.store.store import open_store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.finish import finish_sweep, stop_sweep
from quickdraw_core.sweep.plan import Sweep, plan_sweep, row_named
from quickdraw_core.sweep.results import SweepError, SweepResult
from quickdraw_core.sweep.row_slots import Slots
from quickdraw_core.sweep.rows import deliver, run_row
from quickdraw_core.system.locks import held_folder, require_free_folder
from quickdraw_core.tracking.journal import JOURNAL_NAME, append, status_record
from quickdraw_core.tracking.run_record import RUN_RECORD_NAME
from quickdraw_core.tracking.start_run import start_run
from quickdraw_core.training.plan import checked_rows
from quickdraw_core.training.run_folder import RunFolder

RunRows = Callable[[Sweep, Opened], dict[str, str]]
"""Trains and judges the chosen rows; returns row name → why it failed, in a line."""


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
        pack = opened_pack(store, opened)
        classes = []
        for row in sweep.rows:
            with row_named(sweep.table, row):
                classes.append(int(np.count_nonzero(checked_rows(row.config, pack).train_counts)))
        if config.fresh:
            _clear(sweep)
        name, params = sweep.path.name, _params(sweep)
        run = start_run(sweep.path, config.tracking_uri, name, params, _tags(sweep))
        rows = tuple(
            replace(row, config=row.config.updated({"tracking": {"uri": run.uri}}), classes=count)
            for row, count in zip(sweep.rows, classes, strict=True)
        )
        append(sweep.path, status_record("RUNNING"))
        begun = replace(sweep, rows=rows, uri=run.uri)
        deliver(begun)
        return begun

    def run(self, run_rows: "RunRows | None" = None) -> SweepResult:
        """Trains and judges every chosen row, and compares all of them.

        If a row fails, the others go on, and `SweepError` is raised at the end, when the table is
        written. Raises `BusyError`, and what `begin` raises.
        """
        with held_folder(self.planned.path, "sweep"):
            sweep = self.begin()
            try:
                with _gpus_of(sweep):
                    failures = (run_rows or run_rows_here)(sweep, self.opened)
                result = finish_sweep(sweep, failures)
            except BaseException:
                stop_sweep(sweep)
                raise
        if failures:
            raise SweepError(result)
        return result


def prepare(config: SweepConfig, opened: Opened) -> PreparedSweep:
    """Plans a sweep. Raises what `plan_sweep` raises, and `BusyError`."""
    sweep = plan_sweep(config, opened)
    require_free_folder(sweep.path)
    return PreparedSweep(config, sweep, opened)


def run_rows_here(sweep: Sweep, opened: Opened) -> dict[str, str]:
    """Trains the chosen rows, as many at once as there are slots; retries one if that may help."""
    slots, turn, stopping = Slots(sweep.slots), threading.Lock(), threading.Event()

    def work(name: str) -> None:
        with slots.taken() as slot:
            tried_again(
                name,
                lambda _: run_row(sweep, name, opened, slot, stopping, turn),
                stopping.wait,
            )

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
