"""What a run says of itself when it fails, crashes or changes the champion: an event on Prefect's
server, of which `deploy --alert` makes a message.

It is sent where the run was: by its process, or by its worker if that was killed. If neither can,
the server's own alert (`automations.py`) says that the run ended.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import LogSort
from prefect.events import Event, Resource, emit_event
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from flows.alerts.messages import Alert, ended_alert

if TYPE_CHECKING:
    from prefect.flows import FlowStateHook

EVENT = "quickdraw.alert"
"""Begins the names of the events; then comes the alert's kind."""
TAG = "quickdraw"
"""Of all deployments, and so of the runs that alerts are sent of."""
TAG_RESOURCE = f"prefect.tag.{TAG}"
ONCE = "quickdraw.once"
"""Label of what is alerted of once: an attempt of a run, say."""
_LOG_RECORDS = 20
_OF_HOOKS = "Running hook "
"""Begins Prefect's own line about this module, which says nothing of the run."""
_SEND_SECONDS = 10

Page = Callable[[Mapping[str, Any]], str | None]
"""From a run's parameters to the page of its MLflow run, if it has one."""


def alerting(page: Page = lambda parameters: None) -> "list[FlowStateHook[..., Any]]":
    """The hooks of a flow that reports how its runs of deployments ended. page: see `Page`."""

    def report_end(flow: object, flow_run: FlowRun, state: State[Any]) -> None:
        if TAG in flow_run.tags:
            _report_end(flow_run, state, page)

    return [report_end]


def send(alert: Alert, run_id: str, name: str, once: str, after: State[Any] | None = None) -> None:
    """Sends the event of an alert, and waits a moment until it is gone. after: the state of the
    run whose own event it follows: the server handles them in this order.
    """
    now, follows = datetime.now(UTC), None
    if after is not None:
        now = max(now, after.timestamp + timedelta(milliseconds=1))  # clocks differ
        follows = Event(
            id=after.id,
            occurred=after.timestamp,
            event=f"prefect.flow-run.{after.name}",
            resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run_id}"}),
        )
    emit_event(
        f"{EVENT}.{alert.kind}",
        resource={
            "prefect.resource.id": f"prefect.flow-run.{run_id}",
            "prefect.resource.name": name,
            ONCE: once,
        },
        occurred=now,
        related=[{"prefect.resource.id": TAG_RESOURCE, "prefect.resource.role": "tag"}],
        payload={"subject": alert.subject, "head": alert.head, "tail": alert.tail, "run": run_id},
        follows=follows,
    )
    EventsWorker.drain_all(timeout=_SEND_SECONDS)


def _report_end(flow_run: FlowRun, state: State[Any], page: Page) -> None:
    run_id, link = str(flow_run.id), None
    with suppress(Exception):  # whatever it is, the message is worth more than its link
        link = page(flow_run.parameters)
    with suppress(Exception):
        APILogWorker.drain_all(timeout=_SEND_SECONDS)
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run.id)  # the worker's is that of before the attempt
        newest = client.read_logs(of_run, limit=_LOG_RECORDS, sort=LogSort.TIMESTAMP_DESC)
    log = [r.message for r in reversed(newest) if not r.message.startswith(_OF_HOOKS)]
    alert = ended_alert(
        run.name,
        run_id,
        str(state.name),
        (state.message or "").strip().partition("\n")[0],
        link,
        log,
    )
    send(alert, run_id, run.name, f"{run_id}/{run.run_count}", after=state)
