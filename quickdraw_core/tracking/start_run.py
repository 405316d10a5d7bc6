"""Starts the MLflow run of a folder: its record at once, the run itself when MLflow answers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quickdraw_core.tracking.address import (
    NO_TRACKING,
    check_address,
    requested_tracking_uri,
    resolve_tracking_uri,
)
from quickdraw_core.tracking.delivery import sole_delivery
from quickdraw_core.tracking.problems import problem_at
from quickdraw_core.tracking.run_record import RunRecord, ensure_run, find_run, new_run_record
from quickdraw_core.tracking.runs import brief_requests, client, reader


@dataclass(frozen=True)
class TrackedRun:
    """Where a run's numbers go. run_id: empty as long as no server has it (see `problem`)."""

    uri: str
    run_id: str
    problem: str | None


def start_run(
    run_dir: Path, uri: str | None, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> TrackedRun:
    """Writes the run record (`record_run`), and makes the run in MLflow if that answers. A server
    that is away is a `problem`, and the run is made when it answers.
    """
    recorded = record_run(run_dir, uri, name, params, tags)
    if recorded.uri == NO_TRACKING:
        return recorded
    with sole_delivery(run_dir) as alone:
        if not alone:  # the process that delivers makes it
            return recorded
        try:
            return replace(recorded, run_id=ensure_run(client(recorded.uri), run_dir))
        except Exception as error:  # noqa: BLE001 — tracking never stops training
            return replace(recorded, problem=recorded.problem or problem_at(recorded.uri, error))


def record_run(
    run_dir: Path, uri: str | None, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> TrackedRun:
    """Writes the run record into the folder; the first delivery makes the run.

    A folder that has a run keeps it: its tags become those of this attempt, and a param that
    changed becomes a tag. uri: if None, it is `MLFLOW_TRACKING_URI`, else where the run is
    already, else the default. Raises `TrackingError` if a requested address can never work.
    """
    record = RunRecord.read(run_dir)
    requested = requested_tracking_uri(uri)
    if record is None:
        requested = requested or resolve_tracking_uri(None)
        record = new_run_record(requested, name, params, tags)
    else:
        new = new_run_record(record.uri, name, params, tags)
        record = replace(record, params=new.params, tags=new.tags)
    problem = None
    if requested:
        check_address(requested)
        record, problem = _moved(record, requested)
    record.write(run_dir)
    if NO_TRACKING in (record.uri, requested):
        return TrackedRun(NO_TRACKING, record.run_id, None)
    return TrackedRun(record.uri, record.run_id, problem)


def _moved(record: RunRecord, uri: str) -> tuple[RunRecord, str | None]:
    """The record at a requested address; if the run is elsewhere, as it was, and why."""
    if uri in (record.uri, NO_TRACKING):  # the latter for this attempt only
        return record, None
    if not record.run_id:
        return replace(record, uri=uri), None
    try:
        with brief_requests():
            run = find_run(reader(uri), record.key)
    except Exception as error:  # noqa: BLE001 — tracking never stops training
        return (
            record,
            f"{problem_at(uri, error)}; the numbers go to {record.uri} as before",
        )
    if run is None:
        return record, (
            f"the run is not in MLflow at {uri}; its numbers go to {record.uri} as before "
            "(--fresh starts a new one)"
        )
    return replace(record, uri=uri, run_id=run.info.run_id), None
