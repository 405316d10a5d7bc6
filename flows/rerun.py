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
_LAST_WORD_SECONDS = 30
_FOLDER_TAG = "folder:"
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
    _hear_out(run)
    with get_client(sync_client=True) as client:
        _set_scheduled(client, run)


def _hear_out(run: FlowRun) -> None:
    """Waits until nobody has anything more to say of a crash.

    A worker reports the crash of a killed process twice, the second time when it has cleaned up
    behind it, seconds later: that would end the run that was taken up again meanwhile.
    """
    if run.state is None or run.state.type != StateType.CRASHED:
        return
    ago = datetime.now(UTC) - run.state.timestamp
    left = _LAST_WORD_SECONDS - ago.total_seconds()
    if left > 0:
        with progress("rerun", None, "") as bar:
            bar.note(f"waiting {left:.0f} s, in case the worker reports the crash once more")
            time.sleep(left)
            bar.note("")


def started_here() -> AbstractContextManager[set[str]]:
    """A block whose flow runs record the folder that this process works in, which the relative
    paths of their parameters are meant from.
    """
    return tags(f"{_FOLDER_TAG}{Path.cwd()}")


def folder_of(run: FlowRun) -> Path:
    """The folder that a run without a deployment is to be taken up in: the one it was started in.

    Raises `ConfigError` where that is not here; of a run that recorded none, it is this one.
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
    """Takes up a run without a deployment, in this process and in the folder that it was started
    in; returns what its flow returns.
    """
    with chdir(folder_of(run)):
        return _run_again(run)


def _run_again(run: FlowRun) -> Any:
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


def follow(run: FlowRun) -> str:
    """Waits for the end of a run that was scheduled again; the name of its state then.

    By asking: Prefect's own waiting hears of how the run ended before.
    """
    with progress("run", None, "") as bar, get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(run.id).state
            if state is not None and state.is_final():
                return str(state.name)
            bar.note(str(state.name) if state is not None else "")
            time.sleep(2)
