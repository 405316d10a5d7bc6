"""A message to try the alerts with: whether the server, which sends them, could send it."""

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.events import ReceivedEvent, emit_event
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)

from flows.alerts.automations import SAID, TEST_RESOURCE
from flows.alerts.events import EVENT, ONCE, TAG_RESOURCE
from quickdraw_core.errors import ConfigError
from quickdraw_core.redaction import without_secrets

_ACTION = "prefect.automation.action."
_SECONDS = 60
_PAGE = 50
"""Events that a server gives at once."""


def try_alerts(seconds: float = _SECONDS) -> list[str]:
    """Has the server send a message to each address, and waits for what it says of that. Returns
    for each address why it did not work, or an empty text.

    Raises `ConfigError` if there are no alerts on the server.
    """
    with get_client(sync_client=True) as client:
        automations = client.read_automations_by_name(SAID)
        if not automations:
            raise ConfigError("no alerts are set up on this server; give --alert ADDRESS")
        automation, count = automations[0], len(automations[0].actions)
        began, deadline = datetime.now(UTC), time.monotonic() + seconds
        _ask_for_message()
        outcomes: dict[int, str] = {}
        while len(outcomes) < count and time.monotonic() < deadline:
            time.sleep(1)
            of_actions = EventFilter(  # of now: its end is when it is made
                occurred=EventOccurredFilter(since=began - timedelta(seconds=1)),
                event=EventNameFilter(prefix=[_ACTION]),
                resource=EventResourceFilter(id=[f"prefect.automation.{automation.id}"]),
            )
            for event in client.read_events(of_actions, limit=_PAGE).events:
                if (outcome := _outcome(event)) is not None:
                    outcomes[int(event.payload["action_index"])] = outcome
    return [outcomes.get(index, "the server has not said in time") for index in range(count)]


def _ask_for_message() -> None:
    once = str(uuid4())
    head = "a message to try it: alerts of runs that fail, crash or are late come here"
    emit_event(
        f"{EVENT}.test",
        resource={"prefect.resource.id": f"{TEST_RESOURCE}.{once}", ONCE: once},
        related=[{"prefect.resource.id": TAG_RESOURCE, "prefect.resource.role": "tag"}],
        payload={"subject": "quickdraw: alerts arrive", "head": head, "tail": ""},
    )


def _outcome(event: ReceivedEvent) -> str | None:
    """Why an action failed, empty if it did not; None for an event that does not say."""
    what = event.event.removeprefix(_ACTION)
    if what == "executed":
        return ""
    if what != "failed":
        return None
    details = [event.payload.get("reason"), event.payload.get("notification_log")]
    return " ".join(without_secrets(": ".join(filter(None, details))).split()) or "it failed"
