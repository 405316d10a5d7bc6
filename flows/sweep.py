"""Table of trainings → all of them trained, judged and compared. Each row is one task."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.gpus import slots_taken
from flows.policy import worth_retrying
from flows.telling import show, told
from quickdraw_core.locks import held_folder
from quickdraw_core.redaction import without_secrets
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.finish import finish_sweep, stop_sweep
from quickdraw_core.sweep.results import SweepError, SweepResult, markdown_of, table_of
from quickdraw_core.sweep.run import Sweep, check, open_sweep, run_row
from quickdraw_core.sweep.slots import Slots
from quickdraw_core.training.gpus import devices_locked


@task(
    name="sweep-row",
    task_run_name="{name}",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
def sweep_row(
    sweep: Sweep, name: str, slots: Slots, turn: threading.Lock, stopping: threading.Event
) -> None:
    """Trains and judges a row, or continues it."""
    with told(f"sweep-{_key_of(name)}"), slots.taken() as slot:
        run_row(sweep, name, slot, stopping, turn)


@flow(name="sweep-rows", flow_run_name="rows of {sweep.table.name}", validate_parameters=False)
def sweep_rows(sweep: Sweep) -> dict[str, str]:
    """Trains the chosen rows, as many at once as there are slots; why rows failed, by name."""
    slots, turn, stopping = Slots(sweep.slots), threading.Lock(), threading.Event()
    try:
        futures = [sweep_row.submit(sweep, name, slots, turn, stopping) for name in sweep.chosen]
        return _failures(sweep.chosen, futures)
    except BaseException:
        stopping.set()  # the threads hear of no Ctrl-C, and the flow waits for them
        raise


@flow(name="sweep", flow_run_name="sweep {config.table}")
def sweep(config: SweepConfig) -> SweepResult:
    """Trains and judges every row of a table, and compares them.

    A row that fails stops no other; the flow then fails at its end, with the table made. Another
    attempt of the same run starts no row over: it goes on.
    """
    if flow_run.run_count > 1:
        config = config.updated({"fresh": False})
    with held_folder(check(config).path, "sweep"):
        return _sweep(config)


def _sweep(config: SweepConfig) -> SweepResult:
    opened = open_sweep(config)
    # Any: a runner's own type is not the one that Prefect declares for the option.
    workers: Any = ThreadPoolTaskRunner(max_workers=len(opened.slots))
    try:
        with _gpus_of(opened):
            failures: dict[str, str] = sweep_rows.with_options(task_runner=workers)(opened)
        result = finish_sweep(opened, failures)
    except BaseException:
        stop_sweep(opened)
        raise
    _show(result)
    if failures:
        raise SweepError(result)
    return result


@contextmanager
def _gpus_of(opened: Sweep) -> Iterator[None]:
    """A block that holds the GPUs of all slots, until the last row is done."""
    devices = [device for slot in opened.slots for device in slot.devices]
    if not devices:
        yield
        return
    with slots_taken(len(devices)), devices_locked(devices, len(devices)):
        yield


def _key_of(name: str) -> str:
    """A row's name as Prefect takes it in an artifact's key."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _failures(names: Sequence[str], futures: Sequence[PrefectFuture[None]]) -> dict[str, str]:
    failures: dict[str, str] = {}
    for name, future in zip(names, futures, strict=True):
        found = _result_of(future)
        if isinstance(found, BaseException):
            why = (str(found).splitlines() or [type(found).__name__])[0]
            failures[name] = without_secrets(why)
    return failures


def _result_of(future: PrefectFuture[None]) -> object:
    """What a row's task returned or raised. Looked for again and again: a wait without an end
    can be deaf to Ctrl-C.
    """
    while True:
        try:
            return future.result(timeout=1, raise_on_failure=False)
        except TimeoutError:
            continue


def _show(result: SweepResult) -> None:
    heads, rows = table_of(result)
    table = [dict(zip(heads, row, strict=True)) for row in rows]
    description = result.description or f"Sweep {result.table}"
    show(lambda: create_table_artifact(table, key="sweep-table", description=description))
    page, place = markdown_of(result), f"in {result.folder}"
    show(lambda: create_markdown_artifact(page, key="sweep", description=place))
