"""A run that did not come to its end, again: what is finished is skipped, the rest goes on."""

import asyncio
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.flow_runs import wait_for_flow_run
from prefect.states import Scheduled
from prefect.utilities.importtools import import_object

from quickdraw_core.errors import ConfigError
from quickdraw_core.progress import progress

_ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
_UNFINISHED = [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
FLOWS = ("compare", "evaluate", "ingest", "pipeline", "promote", "sweep", "train")
"""Flows that a run without a deployment may be of: each is a function of its own module."""


def find_run(reference: str | None) -> FlowRun:
    """The run of an id or a name (the newest of that name); None: the last one that failed,
    crashed or was cancelled.

    Raises `ConfigError`: there is none, or it has not ended.
    """
    with get_client(sync_client=True) as client:
        found = _last_failed(client) if reference is None else _named(client, reference)
    if found is None:
        what = "run that failed, crashed or was cancelled" if reference is None else "run"
        raise ConfigError(
            f"no {what}{f' {reference!r}' if reference else ''} on this Prefect server; list them "
            "with: prefect flow-run ls"
        )
    if found.state is None or found.state.type not in _ENDED:
        state = found.state.name if found.state else "unknown"
        raise ConfigError(
            f"run {found.name} ({found.id}) is {state}, not ended; if its machine died, it is "
            "marked as crashed once its heartbeats have been missing for 90 s, and can be rerun "
            f"then; to end it: prefect flow-run cancel {found.id}"
        )
    return found


def schedule_again(run: FlowRun) -> None:
    """Has a worker take up a deployment's run again. Raises `ConfigError` where the server
    refuses.
    """
    with get_client(sync_client=True) as client:
        _set_scheduled(client, run)


def run_again(run: FlowRun) -> Any:
    """Takes up a run without a deployment, in this process; returns what its flow returns."""
    with get_client(sync_client=True) as client:
        name = client.read_flow(run.flow_id).name
        if name not in FLOWS:
            raise ConfigError(f"run {run.name} is of the flow {name}, none of this project's")
        _set_scheduled(client, run)
        run = client.read_flow_run(run.id)
    flow = import_object(f"flows.{name}.{name}")
    parameters = flow.validate_parameters(run.parameters)
    state = run_flow(flow=flow, flow_run=run, parameters=parameters, return_type="state")
    return state.result()  # type: ignore[union-attr]


def _set_scheduled(client: SyncPrefectClient, run: FlowRun) -> None:
    answer: Any = client.set_flow_run_state(run.id, Scheduled(message="rerun"), force=True)
    if answer.status.value == "ABORT":
        raise ConfigError(f"Prefect does not rerun {run.name}: {answer.details}")


def _last_failed(client: SyncPrefectClient) -> FlowRun | None:
    unfinished = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
        # Those that a flow started by itself go on with it.
        parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True),
    )
    found = client.read_flow_runs(
        flow_run_filter=unfinished, sort=FlowRunSort.END_TIME_DESC, limit=1
    )
    return found[0] if found else None


def _named(client: SyncPrefectClient, reference: str) -> FlowRun | None:
    try:
        return client.read_flow_run(UUID(reference))
    except ObjectNotFound:
        return None
    except ValueError:
        pass  # no id, so a name
    named = FlowRunFilter(name=FlowRunFilterName(any_=[reference]))
    found = client.read_flow_runs(
        flow_run_filter=named, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1
    )
    return found[0] if found else None


async def _ended(run: FlowRun) -> FlowRun:
    return await wait_for_flow_run(run.id, timeout=None, poll_interval=2)


def follow(run: FlowRun) -> str:
    """Waits for a run's end; the name of its state then."""
    with progress("run", None, "") as bar:
        ended = asyncio.run(_ended(run))
        bar.note("")
    return str(ended.state.name) if ended.state is not None else "unknown"
