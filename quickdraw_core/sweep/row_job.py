"""A row as work for another process, on other hosts too: all that it needs, as JSON.

The row's folder is on storage that both share, and so is the sweep's; what comes of the row is
read from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.shared_folder import require_shown
from quickdraw_core.errors import ConfigError
from quickdraw_core.storage.location import location_of
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.row_slots import Slot
from quickdraw_core.sweep.table import SweepTable
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow
from quickdraw_core.training.config import TrainConfig

SHARE = "give --run-dir on storage of all hosts"
"""What to do if a host does not see the folder of a sweep."""

BEGUN_KEY = "sweep"
"""Of a command's key in its first record in the journal of the sweep. Each command adds its own: a
copy of the folder that was made before has that of none after it, and a row that is tried again
when its sweep has ended finds its own."""


def job_of(sweep: Sweep, name: str) -> dict[str, Any]:
    """A row of a sweep that has begun, for `require_here` and `sweep_of_row`."""
    row = sweep.row(name)
    return {
        "name": name,
        "sweep": sweep.key,
        "training": row.config.model_dump(mode="json"),
        "classes": row.classes,
        "drawings": row.drawings,
        "table": sweep.table.model_dump(mode="json"),
        "path": str(sweep.path),
        "store": str(sweep.store),
        "store_fingerprint": sweep.store_fingerprint,
        "per_class": sweep.per_class,
        "allow_short": sweep.allow_short,
        "uri": sweep.uri,
    }


def require_here(job: Mapping[str, Any]) -> None:
    """Raises `ClusterError` if this host does not see the folder of the sweep that began, and
    `ConfigError` if the job is of another version.
    """
    if "sweep" not in job:
        raise ConfigError(
            f"the run of row {job.get('name')!r} was made by an older version of this package, "
            "which no longer fits; retry the run of its sweep instead, which makes a new one"
        )
    path = Path(job["path"])

    def is_shown() -> bool:
        records, _ = follow(path / JOURNAL_NAME, 0)
        return any(record.get(BEGUN_KEY) == job["sweep"] for record in records)

    require_shown(path, is_shown, SHARE)


def sweep_of_row(job: Mapping[str, Any]) -> Sweep:
    """The sweep, with that row alone. Raises `ConfigError` if it is of another version."""
    table = SweepTable.parse(job["table"])
    (row,) = table.chosen((job["name"],))
    training = TrainConfig.parse(job["training"])
    planned = PlannedRow(row, training, job["classes"], job["drawings"])
    return Sweep(
        path=Path(job["path"]),
        table=table,
        rows=(planned,),
        chosen=(row.name,),
        store=location_of(job["store"]),
        store_fingerprint=job["store_fingerprint"],
        per_class=job["per_class"],
        allow_short=job["allow_short"],
        slots=(Slot(),),
        uri=job["uri"],
        key=job["sweep"],
    )
