"""Runs that the Prefect server recorded: one of them, or those that failed and were not redone."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterName,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from quickdraw_core.errors import ConfigError, nearest

T = TypeVar("T")

Run: TypeAlias = FlowRun
"""A flow run as the server has it."""
FLOWS = ("clean", "compare", "evaluate", "ingest", "pipeline", "promote", "sweep", "train")
"""Flows that a run without a deployment may be of: each is a function of its own module."""
FOLDER_TAG = "folder:"
"""Begins the tag with the folder that a run without a deployment was started in."""
INSTEAD_TAG = "instead-of:"
"""Begins the tag with the id of the run that a new one with other parameters stands for."""
ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
FAILED = (StateType.FAILED, StateType.CRASHED)
_UNFINISHED = (*FAILED, StateType.CANCELLED)
_PAGE = 200
_BEGUN_SECONDS = 60
"""By then a rerun in its own process has begun."""
_PULL_STEP = "prefect.deployments.steps.set_working_directory"
# Runs that another flow started are run again with it.
_OF_NO_OTHER = FlowRunFilterParentTaskRunId(is_null_=True)


def find_run(reference: str | None) -> FlowRun:
    """The run of an id or a name (the newest of that name); None: the last one that failed,
    crashed or was cancelled.

    Raises `ConfigError` if there is none.
    """
    with get_client(sync_client=True) as client:
        run = _last_failed(client) if reference is None else _named(client, reference)
    if run is None:
        what = "run that failed, crashed or was cancelled" if reference is None else "run"
        raise ConfigError(
            f"no {what}{f' {reference!r}' if reference else ''} on this Prefect server; list them "
            "with: quickdraw status"
        )
    return run


def require_ended(run: FlowRun) -> None:
    """Raises `ConfigError` for a run that is still at work, or has not begun."""
    if run.state is None or not (run.state.type in ENDED or was_left(run)):
        state = run.state.name if run.state else "unknown"
        raise ConfigError(
            f"run {run.name} ({run.id}) is {state}, not ended; if its machine died, it is "
            "marked as crashed once its heartbeats have been missing for 90 s, and can be rerun "
            f"then; to end it: prefect flow-run cancel {run.id}"
        )


def find_failed(since_seconds: float, flow: str | None = None) -> list[FlowRun]:
    """Runs that failed or crashed within such a time and were not redone since, oldest first.

    flow: of this flow alone. Raises `ConfigError` for an unknown one.
    """
    return not_redone(find_runs(since_seconds, flow))


def find_runs(since_seconds: float, flow: str | None = None) -> list[FlowRun]:
    """All runs of our flows that were to start, or ended, within such a time, those that have not
    ended, and those that will start; in the order of their planned start.
    """
    if flow is not None and flow not in FLOWS:
        raise ConfigError(f"unknown flow {flow!r}: {nearest(flow, FLOWS)}")
    after = datetime.now(UTC) - timedelta(seconds=since_seconds)
    not_ended = [kind for kind in StateType if kind not in ENDED]
    wanted = (
        FlowRunFilter(
            expected_start_time=FlowRunFilterExpectedStartTime(after_=after),
            parent_task_run_id=_OF_NO_OTHER,
        ),
        FlowRunFilter(
            end_time=FlowRunFilterEndTime(after_=after), parent_task_run_id=_OF_NO_OTHER
        ),
        FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=not_ended)),
            parent_task_run_id=_OF_NO_OTHER,
        ),
    )
    ours = FlowFilter(name=FlowFilterName(any_=[flow] if flow else [*FLOWS]))
    with get_client(sync_client=True) as client:
        found = {
            run.id: run
            for which in wanted
            for run in pages(
                client.read_flow_runs,
                flow_filter=ours,
                flow_run_filter=which,
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            )
        }
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(found.values(), key=lambda run: run.expected_start_time or never)


def pages(read: Callable[..., list[T]], **which: Any) -> Iterator[T]:
    """All that a call of the client finds, which gives a page at a time."""
    offset = 0
    while True:
        page = read(limit=_PAGE, offset=offset, **which)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE


def not_redone(runs: Iterable[FlowRun]) -> list[FlowRun]:
    """Of some runs those that failed or crashed and whose work no later run has done, or is to do
    now. Of several failures of the same work the last one. Pure.
    """
    failed: dict[str, FlowRun] = {}
    for run in sorted(runs, key=_moment):
        if run.state is None:
            continue
        work = _work_of(run)
        if has_failed(run):
            failed.pop(work, None)  # it goes to the end
            failed[work] = run
        elif not waits_for_its_time(run) and run.state.type != StateType.CANCELLED:
            failed.pop(work, None)
        stands_for = _tagged(run, INSTEAD_TAG)
        if stands_for is not None and run.state.type != StateType.CANCELLED:
            failed = {work: other for work, other in failed.items() if str(other.id) != stands_for}
    return list(failed.values())


def has_failed(run: FlowRun) -> bool:
    """Whether a run failed, crashed or was left."""
    return run.state is not None and (run.state.type in FAILED or was_left(run))


def was_left(run: FlowRun) -> bool:
    """Whether a rerun of a run without a deployment was killed before it began: no worker is to
    take it up, and the process that was to is gone.
    """
    if run.deployment_id is not None or run.state is None:
        return False
    if run.state.name not in ("Scheduled", "Late"):
        return False
    # Prefect calls a run late after some 15 s, so its process may still be starting.
    late_since = run.expected_start_time if run.state.name == "Late" else None
    due = late_since or run.state.timestamp
    return (datetime.now(UTC) - due).total_seconds() > _BEGUN_SECONDS


def waits_for_its_time(run: FlowRun) -> bool:
    """Whether a run is only planned: by a schedule, for later."""
    if run.state is None or run.state.type != StateType.SCHEDULED:
        return False
    planned = run.state.state_details.scheduled_time or run.expected_start_time
    return run.state.name == "Scheduled" and planned is not None and planned > datetime.now(UTC)


def _moment(run: FlowRun) -> float:
    """When a run came to its state, in seconds since the epoch."""
    return run.state.timestamp.timestamp() if run.state else 0.0


def _work_of(run: FlowRun) -> str:
    """What a run does, and where: two runs of the same do the same work."""
    where = str(run.deployment_id or _tagged(run, FOLDER_TAG))
    return json.dumps([str(run.flow_id), where, run.parameters], sort_keys=True, default=str)


def _tagged(run: FlowRun, prefix: str) -> str | None:
    """What the run's tag with a prefix says, if it has one."""
    return next((tag.removeprefix(prefix) for tag in run.tags if tag.startswith(prefix)), None)


def folder_tag_of(run: FlowRun) -> str | None:
    """The folder that a run without a deployment was started in, if it recorded it."""
    return _tagged(run, FOLDER_TAG)


def home_of(deployment: DeploymentResponse) -> str | None:
    """The folder that `quickdraw deploy --home` gave a deployment."""
    steps = deployment.pull_steps or ()
    folders = [step[_PULL_STEP]["directory"] for step in steps if _PULL_STEP in step]
    return str(folders[-1]) if folders else None


def _last_failed(client: SyncPrefectClient) -> FlowRun | None:
    kinds = FlowRunFilterState(type=FlowRunFilterStateType(any_=[*_UNFINISHED]))
    unfinished = FlowRunFilter(state=kinds, parent_task_run_id=_OF_NO_OTHER)
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
