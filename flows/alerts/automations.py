"""The alerts of a Prefect server: its own automations, which outlive every worker.

Three of them: one sends what a run says of its end (`events.py`); one says that a run ended if
the run itself says nothing; one that a run is late. Addresses are blocks.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.alerts.addresses import Address
from flows.alerts.events import EVENT, ONCE, TAG_RESOURCE

BLOCK = "quickdraw-alert"
SAID, SILENT, LATE = (
    "quickdraw: alert of what runs say of their end",
    "quickdraw: alert of runs that end without a report",
    "quickdraw: alert of late runs",
)
_FORMER = {SILENT: "quickdraw: alert of runs that end without a word"}
"""What automations that a server may still have were called."""
SILENT_SECONDS, LATE_SECONDS = 60, 300
"""How long the server waits for a run to say why it ended; for a worker to take up a late run."""
TEST_RESOURCE = "quickdraw.test"
_PAGE = 200
_ENDED = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"}
_RUN = "{{ event.resource.id | replace('prefect.flow-run.', '') }}"
_NAME = "{{ event.resource['prefect.resource.name'] }}"
_STATE = "{{ event.resource['prefect.state-name'] | lower }}"
_WHY = "{{ event.resource['prefect.state-message'] }}"


def make_alerts(
    client: SyncPrefectClient,
    addresses: Sequence[Address],
    ui: str | None,
    silent_seconds: float = SILENT_SECONDS,
    late_seconds: float = LATE_SECONDS,
) -> None:
    """Makes the blocks and automations, or brings them up to date.

    ui: address of Prefect's pages, for links. Of Prefect's own notification blocks, which its
    server knows, the one for Slack takes each address of Apprise's.
    """
    blocks = [
        UUID(str(SlackWebhook(url=address.url).save(f"{BLOCK}-{number}", overwrite=True)))
        for number, address in enumerate(addresses, 1)
    ]
    for wanted in (
        _of_what_runs_say(blocks, ui),
        _of_silent_ends(blocks, ui, silent_seconds),
        _of_late_runs(blocks, ui, late_seconds),
    ):
        there = client.read_automations_by_name(wanted.name)
        if not there and wanted.name in _FORMER:
            there = client.read_automations_by_name(_FORMER[wanted.name])
        if there:
            client.update_automation(there[0].id, wanted)
        else:
            client.create_automation(wanted)
    _delete_blocks(client, len(addresses) + 1)


def delete_alerts(client: SyncPrefectClient) -> int:
    """Deletes what `make_alerts` made. Returns of how many addresses."""
    for name in (SAID, SILENT, LATE, *_FORMER.values()):
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)
    return _delete_blocks(client, 1)


def _delete_blocks(client: SyncPrefectClient, first: int) -> int:
    """Deletes the blocks from a number on, also if one between them is missing: each holds a
    secret. Returns how many there were.
    """
    numbered = re.compile(rf"{BLOCK}-(\d+)")
    found: list[UUID] = []
    offset = 0
    while True:  # all of them first: a page begins elsewhere once something is deleted
        page = client.read_block_documents_by_type(
            SlackWebhook.get_block_type_slug(), offset, _PAGE, include_secrets=False
        )
        for block in page:
            number = numbered.fullmatch(block.name or "")
            if number is not None and int(number[1]) >= first:
                found.append(block.id)
        offset += len(page)
        if len(page) < _PAGE:
            break
    for block_id in found:
        with suppress(ObjectNotFound):  # another command deleted it
            client.delete_block_document(block_id)
    return len(found)


def _of_what_runs_say(blocks: Sequence[UUID], ui: str | None) -> AutomationCore:
    trigger = EventTrigger(
        expect={f"{EVENT}.*"},
        match={"prefect.resource.id": ["prefect.flow-run.*", f"{TEST_RESOURCE}.*"]},
        match_related={"prefect.resource.id": TAG_RESOURCE},
        for_each={ONCE},  # an end that is reported twice is one message
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(hours=1),
    )
    body = f"{{{{ event.payload.head }}}}{_link(ui)}\n\n{{{{ event.payload.tail }}}}"
    what = "Failed, crashed, a new champion, or one that is worse: with reason and log."
    return _automation(SAID, what, trigger, blocks, "{{ event.payload.subject }}", body)


def _of_silent_ends(blocks: Sequence[UUID], ui: str | None, seconds: float) -> AutomationCore:
    trigger = _missing(_ENDED, {f"{EVENT}.*"}, seconds)
    body = (
        f"why: {_WHY}\nagain: quickdraw rerun {_RUN}{_link(ui)}\n\n"
        f"Neither its process nor its worker said more within {seconds:.0f} s; is the worker up?"
    )
    what = "A run that failed or crashed, if its process and its worker are gone too."
    return _automation(SILENT, what, trigger, blocks, f"quickdraw: {_NAME} {_STATE}", body)


def _of_late_runs(blocks: Sequence[UUID], ui: str | None, seconds: float) -> AutomationCore:
    trigger = _missing({"prefect.flow-run.Late"}, {"prefect.flow-run.*"}, seconds)
    body = (
        f"why: no worker has taken it up for {seconds / 60:.0f} min; see that one polls its work "
        f"pool (prefect worker start --pool POOL), which then starts it{_link(ui)}"
    )
    what = "A run that is due and that no worker takes up."
    return _automation(LATE, what, trigger, blocks, f"quickdraw: {_NAME} is late", body)


def _missing(after: set[str], expect: set[str], seconds: float) -> EventTrigger:
    """Of runs of which nothing expected comes so long after something."""
    return EventTrigger(
        after=after,
        expect=expect,
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        match_related={"prefect.resource.id": TAG_RESOURCE},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )


def _automation(
    name: str, what: str, trigger: EventTrigger, blocks: Sequence[UUID], subject: str, body: str
) -> AutomationCore:
    actions = [
        SendNotification(block_document_id=block, subject=subject, body=body) for block in blocks
    ]
    return AutomationCore(
        name=name, description=what, enabled=True, trigger=trigger, actions=actions
    )


def _link(ui: str | None) -> str:
    """A line with the run's page, of events that are of a run."""
    if ui is None:
        return ""
    page = f"\nPrefect: {ui.rstrip('/')}/runs/flow-run/{_RUN}"
    return "{% if 'flow-run' in event.resource.id %}" + page + "{% endif %}"
