"""Runs a deployment and shows its run's log until it ends: `run_deployment.py FLOW/NAME`.

As `prefect deployment run --watch`, which shows every event, heartbeats too, and no log.
"""

import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterTimestamp
from prefect.client.schemas.sorting import LogSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

_LOOK_SECONDS = 2
_LATE = timedelta(seconds=20)
"""How late a line may come after one with a later time: processes send theirs in batches."""


def main(name: str) -> int:
    """Exit code 0 if the run completes."""
    try:
        run = run_deployment(name, timeout=0)
    except ObjectNotFound:
        sys.exit(f"error: there is no deployment {name!r}; `prefect deployment ls` lists them")
    print(f"{name}: {url_for(run) or run.id}", flush=True)
    with get_client(sync_client=True) as client:
        seen: set[UUID] = set()
        since, told = datetime.now(UTC) - _LATE, ""
        while True:
            state = client.read_flow_run(run.id).state  # before its log, so that no line is missed
            if state is not None and state.name != told:
                told = str(state.name)
                print(f"{told}{f': {state.message}' if state.message else ''}", flush=True)
            if state is not None and state.is_final():
                time.sleep(_LOOK_SECONDS * 2)
            since = _show(client, run.id, since, seen)
            if state is not None and state.is_final():
                return int(not state.is_completed())
            time.sleep(_LOOK_SECONDS)


def _show(client: SyncPrefectClient, run_id: UUID, since: datetime, seen: set[UUID]) -> datetime:
    """Prints the lines that are new; from which time on to look next."""
    wanted = LogFilter(
        flow_run_id=LogFilterFlowRunId(any_=[run_id]),
        timestamp=LogFilterTimestamp(after_=since),
    )
    offset = 0
    while lines := client.read_logs(wanted, limit=200, offset=offset, sort=LogSort.TIMESTAMP_ASC):
        offset += len(lines)
        for line in lines:
            if line.id not in seen:
                seen.add(line.id)
                print(f"{line.timestamp:%H:%M:%S}  {line.message}", flush=True)
                since = max(since, line.timestamp - _LATE)
    return since


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
