"""Table of trainings → all of them trained, judged and compared. Each row is one task, which
trains it here, on Dask's workers, or by a flow run in Prefect's pool (`sweep_row.py`).
"""

import re
import threading
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.alerts.events import alerting
from flows.artifacts import add_artifact, reported
from flows.gpus import slots_taken
from flows.stages import begun, opened_here, worth_retrying
from flows.sweep_row import pooled_rows, require_deployment
from quickdraw_core.stage import RETRIES, RETRY_SECONDS
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.plan import Sweep
from quickdraw_core.sweep.results import SweepError, SweepResult
from quickdraw_core.sweep.run import RunRow, failures_of, prepare
from quickdraw_core.sweep.summary import result_table, sweep_markdown

_run_row: ContextVar[RunRow] = ContextVar("quickdraw_run_row")
"""What runs a row in the tasks of this flow run."""


@task(
    name="sweep-row",
    task_run_name="{name}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
def sweep_row(name: str, stopping: threading.Event) -> None:
    """Trains and judges a row, or continues it."""
    with reported(f"sweep-{_key_of(name)}"):
        _run_row.get()(name, stopping)


@flow(name="sweep-rows", flow_run_name="rows of {sweep.table.name}", validate_parameters=False)
def sweep_rows(sweep: Sweep) -> dict[str, str]:
    """Trains the chosen rows, as many at once as there are slots; why rows failed, by name."""
    stopping = threading.Event()
    try:
        futures = [sweep_row.submit(name, stopping) for name in sweep.chosen]
        return failures_of(sweep.chosen, map(_result_of, futures))
    except BaseException:
        stopping.set()  # the threads hear of no Ctrl-C, and the flow waits for them
        raise


@flow(
    name="sweep",
    flow_run_name="sweep {config.table}",
    on_failure=alerting(),
    on_crashed=alerting(),
)
def sweep(config: SweepConfig) -> SweepResult:
    """Trains and judges every row of a table, and compares them.

    A row that fails stops no other; the flow then fails at its end, with the table made. Another
    attempt of the same run goes on with the rows that an earlier one has started over.
    """
    prepared = prepare(config, opened_here())
    if flow_run.run_count > 1 and not prepared.is_of_before(begun()):
        config = config.updated({"fresh": False})
        prepared = replace(prepared, config=config)
    gpus = len(prepared.planned.devices)
    in_pool = config.where == "pool"
    if in_pool:
        require_deployment()
    try:
        with slots_taken(gpus) if gpus else nullcontext():
            result = prepared.run(_rows_as_tasks, pooled_rows if in_pool else None)
    except SweepError as error:
        _show(error.result)
        raise
    _show(result)
    return result


def _rows_as_tasks(sweep: Sweep, run_row: RunRow) -> dict[str, str]:
    # Any: a runner's own type is not the one that Prefect declares for the option.
    workers: Any = ThreadPoolTaskRunner(max_workers=len(sweep.slots))
    token = _run_row.set(run_row)
    try:
        failures: dict[str, str] = sweep_rows.with_options(task_runner=workers)(sweep)
    finally:
        _run_row.reset(token)
    return failures


def _key_of(name: str) -> str:
    """A row's name as Prefect takes it in an artifact's key."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


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
    heads, rows = result_table(result)
    table = [dict(zip(heads, row, strict=True)) for row in rows]
    description = result.description or f"Sweep {result.table}"
    add_artifact(lambda: create_table_artifact(table, key="sweep-table", description=description))
    page, folder = sweep_markdown(result), f"in {result.folder}"
    add_artifact(lambda: create_markdown_artifact(page, key="sweep", description=folder))
