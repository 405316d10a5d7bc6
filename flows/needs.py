"""What the runs of a Prefect server still need, so that it is not cleaned up."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import flow_run

from flows.reruns.find import folder_tag_of, home_of, pages
from quickdraw_core.retention.clean import Needs

_UNDER_WAY = [
    *(StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING),
    *(StateType.PAUSED, StateType.CANCELLING),
]
_TO_RETRY = [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]


def needs_of_runs(older_than_seconds: float) -> Needs:
    """Names and results that runs use which have not ended, or failed within that time and may be
    retried; and the names that deployments use.
    """
    since = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    with get_client(sync_client=True) as client:
        runs = [run for run in _runs(client, since) if str(run.id) != str(flow_run.id)]
        deployments = list(pages(client.read_deployments))
        results = {key for run in runs for key in _result_keys(client, run)}
    homes = {one.id: home_of(one) for one in deployments}
    used = [(one.parameters, homes[one.id]) for one in deployments]
    used += [(run.parameters, _folder_of(run, homes)) for run in runs]
    names = {name for parameters, folder in used for name in _names(parameters, folder)}
    return Needs(frozenset(names), frozenset(results))


def _folder_of(run: FlowRun, homes: Mapping[UUID, str | None]) -> str | None:
    """The folder that a run works in, if it is known."""
    return folder_tag_of(run) if run.deployment_id is None else homes.get(run.deployment_id)


def _names(parameters: Any, folder: str | None) -> Iterator[str]:
    """All texts in parameters, as they are, and as paths from the folder where they are used."""
    for text in _texts(parameters):
        yield text
        if folder is not None:
            yield str(PurePath(folder) / text)


def _runs(client: SyncPrefectClient, since: datetime) -> Iterator[FlowRun]:
    under_way = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNDER_WAY)),
    )
    to_retry = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_TO_RETRY)),
        end_time=FlowRunFilterEndTime(after_=since),
    )
    for which in (under_way, to_retry):
        yield from pages(client.read_flow_runs, flow_run_filter=which)


def _result_keys(client: SyncPrefectClient, run: FlowRun) -> Iterator[str]:
    """Keys of the results that the tasks of a run have."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in pages(client.read_task_runs, flow_run_filter=of_run):
        data = task.state.data if task.state is not None else None
        key = data.get("storage_key") if isinstance(data, dict) else _key_of(data)
        if key:  # of a folder's results it is their whole path
            yield PurePath(str(key)).name


def _key_of(data: object) -> object:
    return getattr(data, "storage_key", None)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
