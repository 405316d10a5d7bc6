"""What the runs of a Prefect server still need, so that it is not cleaned up."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, TypeVar

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

from quickdraw_core.retention.clean import Needs

T = TypeVar("T")

_UNDER_WAY = [
    *(StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING),
    *(StateType.PAUSED, StateType.CANCELLING),
]
_TO_RETRY = [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
_PAGE = 200


def needs_of_runs(older_than_seconds: float) -> Needs:
    """Names and results that runs use which have not ended, or failed within that time and may be
    retried; and the names that deployments use.
    """
    since = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    with get_client(sync_client=True) as client:
        runs = [run for run in _runs(client, since) if str(run.id) != str(flow_run.id)]
        deployments = list(_pages(client.read_deployments))
        results = {key for run in runs for key in _result_keys(client, run)}
    used = [*(run.parameters for run in runs), *(one.parameters for one in deployments)]
    return Needs(frozenset(text for value in used for text in _texts(value)), frozenset(results))


def _runs(client: SyncPrefectClient, since: datetime) -> Iterator[FlowRun]:
    under_way = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNDER_WAY)),
    )
    to_retry = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_TO_RETRY)),
        end_time=FlowRunFilterEndTime(after_=since),
    )
    for which in (under_way, to_retry):
        yield from _pages(client.read_flow_runs, flow_run_filter=which)


def _result_keys(client: SyncPrefectClient, run: FlowRun) -> Iterator[str]:
    """Keys of the results that the tasks of a run have."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task in _pages(client.read_task_runs, flow_run_filter=of_run):
        data = task.state.data if task.state is not None else None
        key = data.get("storage_key") if isinstance(data, dict) else _key_of(data)
        if key:  # of a folder's results it is their whole path
            yield PurePath(str(key)).name


def _key_of(data: object) -> object:
    return getattr(data, "storage_key", None)


def _pages(read: Callable[..., list[T]], **which: Any) -> Iterator[T]:
    offset = 0
    while True:
        page = read(limit=_PAGE, offset=offset, **which)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE


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
