"""What a Prefect server must hold so that the flows run on it by themselves.

Work pools, the limit that holds the GPU slots, the automation that ends runs whose worker died,
and the deployments of `infra/prefect.yaml`. It can be repeated at any time: what exists is brought
up to date.
"""

import copy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import yaml
from prefect._vendor.croniter.croniter import CroniterBadDateError, croniter
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, PrefectException
from prefect.settings import get_current_settings
from prefect.utilities.importtools import import_object
from pydantic import ValidationError

from flows.alerts.addresses import Address, address_of
from flows.alerts.automations import delete_alerts, make_alerts
from flows.alerts.events import TAG
from flows.deployments.config import CPU_POOL, GPU_POOL, DeployConfig
from flows.gpus import LIMIT
from flows.server import answering, require_server
from quickdraw_core.errors import ConfigError, UnreachableError, first_line
from quickdraw_core.system.child_environment import child_environment

AUTOMATION = "quickdraw: end runs whose worker died"
HEARTBEAT_SECONDS = 30
"""What workers are to set PREFECT_FLOWS_HEARTBEAT_FREQUENCY to."""
_BEATS_MISSED = 3
_CRON_FIELDS = 5
_UPCOMING = 3


@dataclass(frozen=True)
class Deployed:
    """One deployment. schedule: when it runs by itself; None: on demand. upcoming: the next three
    times that it will, each with its distance from UTC.
    """

    name: str
    pool: str
    schedule: str | None
    description: str
    upcoming: tuple[str, ...] = ()


def deploy(config: DeployConfig) -> list[Deployed]:
    """Makes pools, GPU slots, automation and deployments, or brings them up to date.

    Raises `ConfigError` for a file or parameters that cannot be right, before anything is made,
    and `UnreachableError` if the server does not answer.
    """
    document = laid_over(read(config.file), config)
    addresses = [address_of(secret, number) for number, secret in enumerate(config.alert, 1)]
    deployed = [_checked(entry) for entry in document["deployments"]]
    if config.dry_run:
        return deployed
    url = get_current_settings().api.url
    if url is None:
        raise ConfigError(
            "no Prefect server to deploy to: start one (prefect server start) and set "
            "PREFECT_API_URL, for example to http://127.0.0.1:4200/api"
        )
    require_server()
    try:
        with get_client(sync_client=True) as client:
            for name in sorted({entry.pool for entry in deployed} | {config.gpu_pool}):
                _make_pool(client, name)
            client.upsert_global_concurrency_limit_by_name(LIMIT, config.gpus)
            _make_automation(client)
    except (httpx.HTTPError, PrefectException) as error:
        raise UnreachableError(f"Prefect at {url} refuses: {first_line(error)}") from error
    _make_deployments(document)
    if addresses or config.no_alert:
        _set_alerts(addresses)
    return deployed


def _set_alerts(addresses: Sequence[Address]) -> None:
    """Has the server send alerts to these addresses alone; without any, none."""
    with answering(), get_client(sync_client=True) as client:
        if addresses:
            make_alerts(client, addresses, get_current_settings().ui_url)
        else:
            delete_alerts(client)


def read(file: Path) -> dict[str, Any]:
    """The deployments' file. Raises `ConfigError`."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        entries = document["deployments"]
    except FileNotFoundError:
        raise ConfigError(
            f"no file {file}; deploy from a checkout of the project, or give --file"
        ) from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} cannot be read as deployments: {error!r}") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{file} names no deployments")
    return dict(document)


def laid_over(document: dict[str, Any], config: DeployConfig) -> dict[str, Any]:
    """The document with the options laid over it. Pure."""
    result = copy.deepcopy(document)
    home = str(config.home.absolute())
    result["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": home}}]
    pools = {CPU_POOL: config.pool, GPU_POOL: config.gpu_pool}
    if config.dask is None:
        result["deployments"] = [e for e in result["deployments"] if _dask_hosts_of(e) is None]
    for entry in result["deployments"]:
        pool = entry["work_pool"]
        pool["name"] = pools.get(pool["name"], pool["name"])
        entry["tags"] = sorted({*entry.get("tags", ()), TAG})
        for schedule in entry.get("schedules", ()):
            if config.timezone is not None:
                schedule["timezone"] = config.timezone
            if config.cron is not None and entry["name"] == "nightly":
                schedule["cron"] = config.cron
        ingest = _ingest_of(entry)
        if ingest is not None and config.dask is not None:
            ingest["dask"] = config.dask
        hosts = _dask_hosts_of(entry)
        if hosts is not None:
            hosts["dask"] = config.dask
        if ingest is not None and config.source is not None and entry["name"] != "demo":
            ingest["source"] = list(config.source)
    return result


def _ingest_of(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The parameters of a deployment's ingest, if it has one."""
    flow = entry["entrypoint"].rpartition(".")[2]
    key = {"pipeline": "ingest", "ingest": "config"}.get(flow)
    ingest: dict[str, Any] | None = entry["parameters"][key] if key else None
    return ingest


def _dask_hosts_of(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The parameters of a training's hosts, if Dask's workers are these."""
    hosts = entry["parameters"].get("config", {}).get("hosts", {})
    return hosts if "dask" in hosts else None


def _checked(entry: dict[str, Any]) -> Deployed:
    """A deployment whose parameters its flow takes. Raises `ConfigError`."""
    flow = import_object(entry["entrypoint"])
    name = f"{flow.name}/{entry['name']}"
    try:
        flow.validate_parameters(entry["parameters"])
    except (ValidationError, PrefectException, TypeError) as error:
        raise ConfigError(f"deployment {name}: {' '.join(str(error).split())}") from error
    schedules = [_schedule_of(name, schedule) for schedule in entry.get("schedules", ())]
    now = datetime.now(UTC)
    upcoming = sorted(time for one in schedules for time in upcoming_times(name, *one, now))
    return Deployed(
        name,
        entry["work_pool"]["name"],
        ", ".join(" ".join(one) for one in schedules) or None,
        str(entry.get("description", "")).strip(),
        tuple(f"{time:%a %Y-%m-%d %H:%M %z}" for time in upcoming[:_UPCOMING]),
    )


def upcoming_times(name: str, cron: str, timezone: str, now: datetime) -> list[datetime]:
    """The next three times of a schedule after a moment, in its time zone. Raises `ConfigError`
    for one that never comes, such as the 30th of February.
    """
    zone = ZoneInfo(timezone)
    # By the clock on the wall, as Prefect's server counts.
    times: Any = croniter(cron, now.astimezone(zone).replace(tzinfo=None))  # type: ignore[no-untyped-call]
    try:
        return [times.get_next(datetime).replace(tzinfo=zone) for _ in range(_UPCOMING)]
    except CroniterBadDateError:
        raise ConfigError(f"deployment {name}: cron {cron!r} is a time that never comes") from None


def _schedule_of(name: str, schedule: dict[str, Any]) -> tuple[str, str]:
    """Cron and time zone of a schedule. Raises `ConfigError` if either is wrong."""
    cron, timezone = str(schedule.get("cron")), schedule.get("timezone", "UTC")
    if not cron.startswith("@") and (count := len(cron.split())) != _CRON_FIELDS:
        raise ConfigError(
            f"deployment {name}: cron {cron!r} has {count} fields; give five: minute, hour, day "
            "of the month, month, day of the week. Prefect reads a sixth as seconds, at the end, "
            "where others (Quartz, Spring) have them in front; for example: --cron '0 2 * * *'"
        )
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ConfigError(
            f"deployment {name}: {'.'.join(map(str, fault['loc']))} {fault['input']!r} is wrong: "
            f"{fault['msg']}; for example: --cron '0 2 * * *' --timezone Europe/Berlin"
        ) from None
    return cron, timezone


def _make_pool(client: SyncPrefectClient, name: str) -> None:
    """A pool of processes; one that is there stays as it is.

    Made without asking for it first: a worker that starts between the two would make it.
    """
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def _make_automation(client: SyncPrefectClient) -> None:
    """Marks a run as crashed whose heartbeats ceased: worker and flow died together, and nobody
    else would ever end it, so that nobody could retry it.
    """
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=HEARTBEAT_SECONDS * _BEATS_MISSED),
    )
    crashed = ChangeFlowRunState(
        state=StateType.CRASHED,
        message=f"no heartbeat for {HEARTBEAT_SECONDS * _BEATS_MISSED} s: worker and flow died",
    )
    wanted = AutomationCore(
        name=AUTOMATION,
        description="So that a run whose machine or container died can be retried.",
        enabled=True,
        trigger=trigger,
        actions=[crashed],
    )
    there = client.read_automations_by_name(AUTOMATION)
    if there:
        client.update_automation(there[0].id, wanted)
    else:
        client.create_automation(wanted)


def _make_deployments(document: dict[str, Any]) -> None:
    """By Prefect's own command, which knows its file's every key."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        command = ["--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = _prefect(command)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise ConfigError(f"prefect deploy refused: {words[-1] if words else 'nothing said'}")


def _prefect(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=child_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
