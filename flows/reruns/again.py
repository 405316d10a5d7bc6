"""A run that did not come to its end, again: what is finished is skipped, the rest goes on."""

import time
from contextlib import AbstractContextManager, chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import tags
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
from prefect.states import Scheduled
from prefect.utilities.importtools import import_object

from quickdraw_core.errors import ConfigError
from quickdraw_core.progress import progress

_ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
_UNFINISHED = [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
_CRASH_REPORT_SECONDS = 30
_FOLDER_TAG = "folder:"
FLOWS = ("clean", "compare", "evaluate", "ingest", "pipeline", "promote", "sweep", "train")
"""Flows that a run without a deployment may be of: each is a function of its own module."""


def find_run(reference: str | None) -> FlowRun:
    """The run of an id or a name (the newest of that name); None: the last one that failed,
    crashed or was cancelled.

    Raises `ConfigError`: there is none, or it has not ended.
    """
    with get_client(sync_client=True) as client:
        run = _last_failed(client) if reference is None else _named(client, reference)
    if run is None:
        what = "run that failed, crashed or was cancelled" if reference is None else "run"
        raise ConfigError(
            f"no {what}{f' {reference!r}' if reference else ''} on this Prefect server; list them "
            "with: prefect flow-run ls"
        )
    if run.state is None or run.state.type not in _ENDED:
        state = run.state.name if run.state else "unknown"
        raise ConfigError(
            f"run {run.name} ({run.id}) is {state}, not ended; if its machine died, it is "
            "marked as crashed once its heartbeats have been missing for 90 s, and can be rerun "
            f"then; to end it: prefect flow-run cancel {run.id}"
        )
    return run


def schedule_again(run: FlowRun) -> None:
    """Has a worker run a deployment's run again. Raises `ConfigError` if the server refuses."""
    _wait_for_crash_report(run)
    with get_client(sync_client=True) as client:
        _set_scheduled(client, run)


def _wait_for_crash_report(run: FlowRun) -> None:
    """Waits until the worker has reported a crash for the second time.

    It does so seconds after the first time, when it has cleaned up. A run that is scheduled again
    in between would be ended by that.
    """
    if run.state is None or run.state.type != StateType.CRASHED:
        return
    ago = datetime.now(UTC) - run.state.timestamp
    left = _CRASH_REPORT_SECONDS - ago.total_seconds()
    if left > 0:
        with progress("rerun", None, "") as bar:
            bar.note(f"waiting {left:.0f} s, in case the worker reports the crash once more")
            time.sleep(left)
            bar.note("")


def started_here() -> AbstractContextManager[set[str]]:
    """A block whose flow runs record the working folder, where relative paths start."""
    return tags(f"{_FOLDER_TAG}{Path.cwd()}")


def folder_of(run: FlowRun) -> Path:
    """The folder that a run without a deployment was started in; the working folder if it recorded
    none. Raises `ConfigError` if the folder is not on this machine.
    """
    recorded = [tag.removeprefix(_FOLDER_TAG) for tag in run.tags if tag.startswith(_FOLDER_TAG)]
    folder = Path(recorded[0]) if recorded else Path.cwd()
    if not folder.is_dir():
        raise ConfigError(
            f"run {run.name} was started in {folder}, which is not here (moved, or on another "
            "machine?); give its command again in the folder where its files are now"
        )
    return folder


def run_again(run: FlowRun) -> Any:
    """Runs a run without a deployment again, in its folder. Returns what its flow returns."""
    with chdir(folder_of(run)):
        return _run_again(run)


def _run_again(run: FlowRun) -> Any:
    with get_client(sync_client=True) as client:
        name = client.read_flow(run.flow_id).name
        if name not in FLOWS:
            raise ConfigError(f"run {run.name} is of another project's flow, {name}")
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
        # Runs that another flow started are run again with it.
        parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True),
    )
    runs = client.read_flow_runs(
        flow_run_filter=unfinished, sort=FlowRunSort.END_TIME_DESC, limit=1
    )
    return runs[0] if runs else None


def _named(client: SyncPrefectClient, reference: str) -> FlowRun | None:
    try:
        return client.read_flow_run(UUID(reference))
    except ObjectNotFound:
        return None
    except ValueError:
        pass  # not an id, so a name
    named = FlowRunFilter(name=FlowRunFilterName(any_=[reference]))
    runs = client.read_flow_runs(
        flow_run_filter=named, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1
    )
    return runs[0] if runs else None


def follow(run: FlowRun) -> str:
    """Waits for the end of a run that was scheduled again. Returns the name of its state.

    It polls: Prefect's own way of waiting sees how the run ended before.
    """
    with progress("run", None, "") as bar, get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(run.id).state
            if state is not None and state.is_final():
                return str(state.name)
            bar.note(str(state.name) if state is not None else "")
            time.sleep(2)
