"""A row of a sweep as a flow run of its own, on any host of the GPU pool.

Each run takes GPU slots of the server, so that these hold across hosts, and may be retried alone:
the row goes on from its folder. The sweep starts the runs and waits for them. One that was started
before the sweep's process was killed is waited for, not started again.

Prefect gives a run to any worker that is free. A host that does not share the sweep's storage
refuses its run within seconds, is free before the others, and would take one row after the other.
So after the first such refusal no further row is started.
"""

import threading
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling, Failed

from flows.artifacts import reported
from flows.gpus import gpu_slots
from flows.stages import opened_here, worth_retrying
from quickdraw_core.errors import ClusterError, ConfigError, TrainingError, first_line
from quickdraw_core.progress import progress
from quickdraw_core.stage import RETRIES, RETRY_SECONDS
from quickdraw_core.sweep.plan import Sweep
from quickdraw_core.sweep.row_job import job_of, require_here, sweep_of_row
from quickdraw_core.sweep.rows import PreparedRow, nest, run_row
from quickdraw_core.sweep.run import RunRow

DEPLOYMENT = "sweep-row/pool"
_NOT_SHARED = "NotShared"
"""Name of a run's last state, if its host does not see the sweep's folder."""
_POLL_SECONDS = 2.0
_MOST_RUNS = 100


class RowFailedError(TrainingError):
    """The run of a row failed, and has tried again itself."""

    exit_code = 2  # so that the sweep does not


@task(
    name="train-row",
    task_run_name="{name}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
def train_row(name: str, job: dict[str, Any]) -> None:
    """Trains and judges a row, once the server has as many GPU slots free."""
    sweep = sweep_of_row(job)
    hardware = sweep.row(name).config.hardware
    with reported("sweep-row"), gpu_slots(hardware.ranks, hardware.device):
        run_row(sweep, name, opened_here())


@flow(name="sweep-row", flow_run_name="{row}")
def sweep_row(row: str = "", job: dict[str, Any] | None = None) -> State[Any] | None:
    """Trains and judges one row of a sweep that has begun, or continues it. job: of the sweep.

    It is refused on a host that does not see the sweep's folder, before it waits for GPUs: returns
    a failed state, by whose name the sweep knows why.
    """
    if job is None:
        raise ConfigError("a sweep with where: pool starts this; run sweep/weekly")
    try:
        require_here(job)
    except ClusterError as error:
        return Failed(name=_NOT_SHARED, message=first_line(error))
    train_row(row, job)
    return None


def require_deployment() -> None:
    """Raises `ConfigError` if the server has no deployment that runs rows."""
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise ConfigError(
                f"the Prefect server has no deployment {DEPLOYMENT}, which runs rows in the pool; "
                "make it: quickdraw deploy"
            ) from None


def pooled_rows(sweep: Sweep) -> RunRow:
    """What runs a row of a sweep that has begun by a run in the pool; for the sweep's flow."""
    sweep_run, opened, refusals = str(flow_run.id), opened_here(), list[str]()

    def run_one(name: str, stopping: threading.Event) -> None:
        row = PreparedRow(sweep, sweep.row(name), opened)
        with progress(name, 1, "rows") as bar:
            done = row.finished()
            if done is None:
                _require_no_refusal(refusals)
                run = _run_of(sweep, name, sweep_run)
                bar.log(f"row {name} is flow run {run.name} ({run.id})")
                _follow(run, stopping, refusals)
            else:
                bar.note(done)
            nest(sweep, row.planned)
            bar.advance(1)

    return run_one


def _run_of(sweep: Sweep, name: str, sweep_run: str) -> FlowRun:
    """The run of a row that an earlier attempt of the sweep started and that has not ended; else a
    new one.
    """
    keys = [f"{sweep_run} {name} {number}" for number in range(_MOST_RUNS)]
    of_row = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=of_row, limit=_MOST_RUNS)
    for run in runs:
        if not _state(run).is_final():
            return run
    started: FlowRun = run_deployment(  # type: ignore[assignment]
        DEPLOYMENT,
        parameters={"row": name, "job": job_of(sweep, name)},
        timeout=0,
        idempotency_key=keys[min(len(runs), _MOST_RUNS - 1)],
    )
    return started


def _require_no_refusal(refusals: list[str]) -> None:
    if refusals:
        raise RowFailedError(f"not started, as a host of the pool refused a row: {refusals[0]}")


def _follow(run: FlowRun, stopping: threading.Event, refusals: list[str]) -> None:
    """Waits for the end of a run; cancels it if this is told to stop, or if it still waits for a
    worker when another row was refused. Raises `TrainingError` if the run did not complete.

    refusals: why hosts refused rows; this run's is added.
    """
    with get_client(sync_client=True) as client:
        try:
            while not (state := _state(client.read_flow_run(run.id))).is_final():
                if state.is_scheduled():
                    _require_no_refusal(refusals)
                if stopping.wait(_POLL_SECONDS):
                    raise KeyboardInterrupt
        except BaseException:
            client.set_flow_run_state(run.id, Cancelling(), force=True)
            raise
    if not state.is_completed():
        kind = TrainingError if state.is_crashed() else RowFailedError
        reason = first_line(Exception(state.message or state.name))
        if state.name == _NOT_SHARED:
            refusals.append(reason)
        raise kind(f"flow run {run.name} ({run.id}) ended {state.name}: {reason}")


def _state(run: FlowRun) -> State[Any]:
    assert run.state is not None
    return run.state
