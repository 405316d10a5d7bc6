"""Alerts: which addresses are taken, what a message says, and, on a real Prefect server, that one
message a run comes by web hook and by mail, whoever is gone by then.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from alert_receivers import Received, mail_server, web_hook
from apprise import Apprise
from prefect import flow, tags
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Scheduled
from pydantic import SecretStr
from service import Service, end, until
from trainings import train_config
from typer.testing import CliRunner

from flows.alerts.addresses import address_of
from flows.alerts.automations import delete_alerts, make_alerts
from flows.alerts.events import TAG
from flows.alerts.messages import ended_alert
from flows.alerts.promotions import promotion_alert
from flows.deployments.config import DeployConfig
from flows.ingest import ingest
from flows.promote import promote
from quickdraw_core.cli import app
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.launching.train import train
from quickdraw_core.metrics.differences import Comparison, Difference
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.promotion.config import PromoteConfig
from quickdraw_core.promotion.decision import Decision, PromoteResult
from quickdraw_core.redaction import without_secrets
from quickdraw_core.store.store import Store

SECRET = "tops3cret"


@pytest.mark.parametrize(
    ("address", "service"),
    [
        (f"mailto://me:{SECRET}@example.com?to=ops@example.com", "E-Mail"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "Slack"),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "Slack"),
        (f"https://example.com/hook?token={SECRET}", "JSON"),
        (f"http://127.0.0.1:8080/{SECRET}", "JSON"),
        (f"json://127.0.0.1:8080/{SECRET}?format=markdown", "JSON"),
    ],
)
def test_an_address_of_apprise_or_of_a_web_hook_is_taken(address: str, service: str) -> None:
    found = address_of(SecretStr(address))
    assert found.service == service
    assert SECRET not in repr(found)
    whole = found.url.get_secret_value()
    assert "overflow=truncate" in whole
    assert whole.count("format=") == 1


@pytest.mark.parametrize(
    "address",
    [f"slak://{SECRET}/b/c", f"mailto:{SECRET}@example.com", SECRET, "", f"https://{SECRET} x"],
)
def test_another_address_is_refused_without_a_word_of_it(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match="address 2 of --alert") as caught:
        address_of(SecretStr(address), 2)
    assert SECRET not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)
    assert without_secrets(str(caught.value)) == str(caught.value)


def test_a_web_hook_gets_its_query_and_apprise_its_own() -> None:
    with web_hook() as (port, received):
        given = SecretStr(f"http://127.0.0.1:{port}/hook?token={SECRET}&sig=a%2Bb&format=x")
        client = Apprise()
        client.add(address_of(given).url.get_secret_value())
        assert client.notify("a text", title="a title")
    (message,) = received
    path, _, query = message.path.partition("?")
    assert path == "/hook"
    assert parse_qs(query) == {"token": [SECRET], "sig": ["a+b"], "format": ["x"]}
    assert message.text == "a text"


def test_what_apprise_says_of_a_hook_is_shown_without_its_secrets() -> None:
    for key in ("-token", "-sig", "-key", "-code"):
        assert SECRET not in without_secrets(f"no json://host/x?a=b&{key}={SECRET}: refused")


def test_all_blocks_are_deleted_also_after_one_that_is_missing() -> None:
    names = {
        UUID(int=n): name
        for n, name in enumerate(
            ["quickdraw-alert-1", "quickdraw-alert-3", "others", "quickdraw-alert-2-x"]
        )
    }

    class Client:
        def read_automations_by_name(self, name: str) -> list[Any]:
            return []

        def read_block_documents_by_type(self, *args: Any, **more: Any) -> list[Any]:
            return [SimpleNamespace(id=key, name=name) for key, name in names.items()]

        def delete_block_document(self, block: UUID) -> None:
            del names[block]

    client: Any = Client()
    assert delete_alerts(client) == 2
    assert sorted(names.values()) == ["others", "quickdraw-alert-2-x"]


def test_no_alert_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKDRAW_ALERT", "https://example.com/a https://example.com/b")
    done = CliRunner().invoke(app, ["deploy", "--no-alert", "--dry-run"])
    assert done.exit_code == 0, done.output
    refused = CliRunner().invoke(app, ["deploy", "--no-alert", "--alert", "https://x.org/a"])
    assert "no_alert deletes the alerts" in str(refused.exception)


def test_a_configuration_shows_no_address() -> None:
    config = DeployConfig.parse({"alert": (SecretStr(f"mailto://me:{SECRET}@host"),)})
    assert config.alert[0].get_secret_value().endswith(f":{SECRET}@host")
    assert SECRET not in repr(config) + config.as_text()
    with pytest.raises(ConfigError, match="no_alert deletes the alerts"):
        config.updated({"no_alert": True})


def test_a_message_says_why_what_to_do_and_how_it_ended() -> None:
    log = [f"line {number}" for number in range(40)] + ["Traceback\n  x\nhttp://me:pw@host"]
    alert = ended_alert(
        "pipeline csv", "some-id", "Failed", "no http://me:pw@host", "http://m", log
    )
    assert alert.subject == "quickdraw: pipeline csv failed"
    assert alert.head.splitlines() == [
        "why: no http://me:…@host",
        "again: quickdraw rerun some-id",
        "MLflow: http://m",
    ]
    assert "pw" not in alert.tail
    assert "line 39" in alert.tail
    assert "line 3\n" not in alert.tail


def compared(low: float, high: float) -> PromoteResult:
    """A promotion that was refused, with the interval of the difference to the champion."""
    gain = (low + high) / 2
    difference = Difference("map_at_3", 0.5, 0.5 + gain, Estimate(gain, low, high, 100), 0.01)
    comparison = Comparison("the champion", "the other", {"map_at_3": difference}, ())
    kept = PromoteResult(Decision.KEPT, "it stays", "quickdraw", "champion", False)
    return replace(kept, comparison=comparison)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (PromoteResult(Decision.FIRST, "first", "quickdraw", "champion", False), "champion"),
        (PromoteResult(Decision.PROMOTED, "better", "quickdraw", "champion", False), "champion"),
        (PromoteResult(Decision.PROMOTED, "better", "quickdraw", "champion", True), None),
        (PromoteResult(Decision.SAME, "same", "quickdraw", "champion", False), None),
        (compared(-0.03, -0.01), "accuracy"),
        (compared(-0.03, 0.01), None),
        (compared(0.001, 0.01), None),
    ],
)
def test_a_promotion_alerts_of_a_change_and_of_a_fall_beyond_noise(
    result: PromoteResult, kind: str | None
) -> None:
    alert = promotion_alert(result)
    assert (alert.kind if alert else None) == kind
    if alert:
        assert alert.head == result.reason


@dataclass
class Alerted:
    """A Prefect server with alerts, and what came of them."""

    service: Service
    hook: int
    mail: int
    hooked: list[Received] = field(default_factory=list)
    mailed: list[Received] = field(default_factory=list)

    def addresses(self) -> list[str]:
        return [
            f"http://127.0.0.1:{self.hook}/{SECRET}?token={SECRET}",
            f"mailto://127.0.0.1:{self.mail}?from=prefect@example.com&to=ops@example.com",
        ]

    def begin(self) -> None:
        """Alerts that come sooner than they usually do."""
        given = [address_of(SecretStr(address)) for address in self.addresses()]
        with get_client(sync_client=True) as client:
            make_alerts(client, given, "http://ui.example:4200", 10, 10)

    def message(self, words: str) -> Received:
        """The one message with some words in its subject, which came by both ways."""
        for received in (self.hooked, self.mailed):
            until(lambda found=received: [m for m in found if words in m.subject], 180, words)
        (hooked,) = [m for m in self.hooked if words in m.subject]
        (mailed,) = [m for m in self.mailed if words in m.subject]
        assert hooked.text.split() == mailed.text.split()
        return hooked


@pytest.fixture(scope="module")
def alerted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerted]:
    """A server without a worker."""
    service = Service(tmp_path_factory.mktemp("alerts"))
    with web_hook() as (hook, hooked), mail_server() as (mail, mailed):
        try:
            service.start_server()
            made = Alerted(service, hook, mail, hooked, mailed)
            words = [word for address in made.addresses() for word in ("--alert", address)]
            done = service.quickdraw("deploy", *words, "--alert-test")
            assert done.returncode == 0, done.stderr
            assert (
                "alerts       of failed, crashed and late runs go to JSON, E-Mail" in done.stdout
            )
            assert done.stdout.count("the server sent a message") == 2
            assert SECRET not in done.stdout + done.stderr
            with temporary_settings({PREFECT_API_URL: service.api}):
                made.begin()
                yield made
        finally:
            if service.server is not None:
                end(service.server)


@pytest.mark.services
def test_the_message_to_try_it_arrives_by_both_ways(alerted: Alerted) -> None:
    message = alerted.message("alerts arrive")
    assert message.path == f"/{SECRET}?token={SECRET}"
    assert "runs that fail, crash or are late" in message.text


@pytest.fixture(scope="module")
def failed(alerted: Alerted, tmp_path_factory: pytest.TempPathFactory) -> Received:
    """What was said of a run of a deployment that failed; one of no deployment failed after it."""
    store = tmp_path_factory.mktemp("failed") / "store"
    config = IngestConfig.parse({"source": "nowhere", "store": store})
    with tags(TAG), pytest.raises(InputError):
        ingest.with_options(flow_run_name="bad ingest")(config)
    with pytest.raises(InputError):  # its user is there
        ingest.with_options(flow_run_name="own ingest")(config)
    return alerted.message("bad ingest failed")


@pytest.mark.services
def test_a_run_that_fails_is_one_message_with_reason_log_link_and_command(
    failed: Received,
) -> None:
    message = failed
    run = message.text.partition("quickdraw rerun ")[2].split()[0]
    assert "why: " in message.text
    assert "no folder or file" in message.text
    assert f"Prefect: http://ui.example:4200/runs/flow-run/{run}" in message.text
    assert "last lines of its log:" in message.text


@pytest.mark.services
def test_a_run_whose_process_and_worker_are_gone_and_one_that_is_late(
    alerted: Alerted, failed: Received
) -> None:
    """The server itself says so."""

    @flow(name="ingest")
    def gone() -> None: ...

    late: Any = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(minutes=5))
    with get_client(sync_client=True) as client:
        client.create_flow_run(gone, name="late one", tags=[TAG], state=late)
        lost = client.create_flow_run(gone, name="lost one", tags=[TAG])
        crashed: Any = Crashed(message="no heartbeat for 90 s")
        client.set_flow_run_state(lost.id, crashed, force=True)
    message = alerted.message("lost one crashed")
    assert "why: no heartbeat for 90 s" in message.text
    assert f"quickdraw rerun {lost.id}" in message.text
    assert f"/runs/flow-run/{lost.id}" in message.text
    assert "prefect worker start" in alerted.message("late one is late").text
    # By now, the server would have said that of the run that failed before, too.
    assert [m for m in alerted.hooked if "bad ingest" in m.subject] == [failed]
    assert not [m for m in alerted.hooked if "own ingest" in m.subject]


@pytest.mark.services
@pytest.mark.forked
def test_a_new_champion_and_a_model_that_is_worse_are_a_message_each(
    alerted: Alerted, store: Store, empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    values = {"store": store.path, "hardware.ranks": 1, "model": "net", "image.side_px": 24}
    values |= {"global_batch_size": 64, "micro_batch_size": 64, "augment": None}
    values |= {"tracking.uri": f"sqlite:///{tmp_path}/mlflow.db"}
    asked = {"store": store.path, "per_class": 20, "allow_short": True, "name": "doodles"}
    for name, steps in (("good", 14), ("poor", 1)):
        run = train(train_config(values | {"run_dir": tmp_path / name, "max_steps": steps}))
        promotion = {"model": str(run.run_dir), "tracking_uri": values["tracking.uri"]}
        with tags(TAG):
            promote(PromoteConfig.parse(asked | promotion))
    changed = alerted.message("the champion of doodles changed")
    assert "good" in changed.text
    assert "/runs/flow-run/" in changed.text
    fell = alerted.message("accuracy fell below that of the champion of doodles")
    assert "MAP@3" in fell.text
    assert len([m for m in alerted.hooked if "doodles" in m.subject]) == 2


@pytest.mark.services
def test_addresses_are_on_no_page_of_the_server_and_can_be_deleted(alerted: Alerted) -> None:
    service = alerted.service
    shown = [
        service.call("/block_documents/filter", {}),
        service.call("/automations/filter", {}),
        service.call("/deployments/filter", {}),
    ]
    assert SECRET not in json.dumps(shown)
    assert "quickdraw-alert-2" in json.dumps(shown)
    refused = service.quickdraw("deploy", "--alert", f"slak://{SECRET}")
    assert refused.returncode == 2
    assert SECRET not in refused.stdout + refused.stderr
    done = service.quickdraw("deploy", "--no-alert")
    assert done.returncode == 0, done.stderr
    left = [service.call(f"/{kind}/filter", {}) for kind in ("block_documents", "automations")]
    assert "alert" not in json.dumps(left)
    assert "heartbeat" in json.dumps(left)
    alerted.begin()
