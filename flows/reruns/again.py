"""A run that did not come to its end, again: what is finished is skipped, the rest goes on."""

import time
from contextlib import AbstractContextManager, chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import Flow, tags
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_engine import run_flow
from prefect.states import Scheduled
from prefect.utilities.importtools import import_object

from flows.reruns.find import (
    FLOWS,
    FOLDER_TAG,
    INSTEAD_TAG,
    folder_tag_of,
    home_of,
    require_ended,
)
from quickdraw_core.errors import ConfigError
from quickdraw_core.progress import progress

_CRASH_REPORT_SECONDS = 30


def flow_of_run(run: FlowRun) -> Flow[..., Any]:
    """The flow of a run. Raises `ConfigError` for one of another project."""
    with get_client(sync_client=True) as client:
        name = client.read_flow(run.flow_id).name
    if name not in FLOWS:
        raise ConfigError(f"run {run.name} is of another project's flow, {name}")
    flow: Flow[..., Any] = import_object(f"flows.{name}.{name}")
    return flow


def schedule_again(run: FlowRun) -> None:
    """Has a worker run a deployment's run again. Raises `ConfigError` if the server refuses."""
    _wait_for_crash_report(run)
    with get_client(sync_client=True) as client:
        _set_scheduled(client, run)


def schedule_instead(run: FlowRun, parameters: dict[str, Any]) -> FlowRun:
    """Has a worker run the deployment of a run with other parameters. Returns the new run, which
    stands for the old one.
    """
    assert run.deployment_id is not None
    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=parameters,
            tags=_tags_instead_of(run),
            job_variables=run.job_variables,
            work_queue_name=run.work_queue_name,
        )


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
    return tags(f"{FOLDER_TAG}{Path.cwd()}")


def folder_of(run: FlowRun) -> Path:
    """The folder that a run works in: a deployment's own; else the one it was started in, the
    working folder if it recorded none. Raises `ConfigError` if it is not on this machine.
    """
    if run.deployment_id is None:
        home = folder_tag_of(run)
    else:
        with get_client(sync_client=True) as client:
            home = home_of(client.read_deployment(run.deployment_id))
    folder = Path(home) if home is not None else Path.cwd()
    if folder.is_dir():
        return folder
    if run.deployment_id is not None:
        raise ConfigError(
            f"run {run.name} works in {folder}, which is not on this machine; give the command "
            "where its workers are (docker compose exec prefect-worker quickdraw …)"
        )
    raise ConfigError(
        f"run {run.name} was started in {folder}, which is not here (moved, or on another "
        "machine?); give its command again in the folder where its files are now"
    )


def run_again(run: FlowRun) -> Any:
    """Runs a run without a deployment again, in its folder. Returns what its flow returns."""
    with chdir(folder_of(run)):
        return _run_again(run)


def run_instead(run: FlowRun, parameters: dict[str, Any]) -> Any:
    """Runs the flow of a run without a deployment with other parameters, in its folder. Returns
    what the flow returns.
    """
    flow = flow_of_run(run)
    with chdir(folder_of(run)), started_here(), tags(*_tags_instead_of(run)):
        return flow(**flow.validate_parameters(parameters))


def _run_again(run: FlowRun) -> Any:
    flow = flow_of_run(run)
    with get_client(sync_client=True) as client:
        _set_scheduled(client, run)
        run = client.read_flow_run(run.id)
    parameters = flow.validate_parameters(run.parameters)
    state = run_flow(flow=flow, flow_run=run, parameters=parameters, return_type="state")
    return state.result()  # type: ignore[union-attr]


def _tags_instead_of(run: FlowRun) -> list[str]:
    """The tags of a run that stands for another one."""
    kept = [tag for tag in run.tags if not tag.startswith((INSTEAD_TAG, FOLDER_TAG))]
    return [*kept, f"{INSTEAD_TAG}{run.id}"]


def _set_scheduled(client: SyncPrefectClient, run: FlowRun) -> None:
    """Raises `ConfigError` if the run is at work by now, or the server refuses."""
    require_ended(client.read_flow_run(run.id))
    answer: Any = client.set_flow_run_state(run.id, Scheduled(message="rerun"), force=True)
    if answer.status.value == "ABORT":
        raise ConfigError(f"Prefect does not rerun {run.name}: {answer.details}")


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
