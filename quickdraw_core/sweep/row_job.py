"""A row as work for another process, on other hosts too: all that it needs, as JSON.

The row's folder is on storage that both share, and so is the sweep's; what comes of the row is
read from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.shared_folder import require_shown
from quickdraw_core.errors import TrackingError
from quickdraw_core.storage.location import location_of
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.row_slots import Slot
from quickdraw_core.sweep.table import SweepTable
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.training.config import TrainConfig

SHARE = "give --run-dir on storage of all hosts"
"""What to do if a host does not see the folder of a sweep."""


def job_of(sweep: Sweep, name: str) -> dict[str, Any]:
    """A row of a sweep that has begun, for `require_here` and `sweep_of_row`."""
    row, record = sweep.row(name), RunRecord.read(sweep.path)
    assert record is not None
    return {
        "name": name,
        "sweep": record.key,
        "training": row.config.model_dump(mode="json"),
        "classes": row.classes,
        "table": sweep.table.model_dump(mode="json"),
        "path": str(sweep.path),
        "store": str(sweep.store),
        "store_fingerprint": sweep.store_fingerprint,
        "per_class": sweep.per_class,
        "allow_short": sweep.allow_short,
        "uri": sweep.uri,
    }


def require_here(job: Mapping[str, Any]) -> None:
    """Raises `ClusterError` if this host does not see the folder of the sweep that began. A row
    that is tried again after the sweep's end finds it, too.
    """
    path = Path(job["path"])

    def is_shown() -> bool:
        try:
            record = RunRecord.read(path)
        except (TrackingError, OSError):
            return False
        return record is not None and record.key == job["sweep"]

    require_shown(path, is_shown, SHARE)


def sweep_of_row(job: Mapping[str, Any]) -> Sweep:
    """The sweep, with that row alone. Raises `ConfigError` if it is of another version."""
    table = SweepTable.parse(job["table"])
    (row,) = table.chosen((job["name"],))
    planned = PlannedRow(row, TrainConfig.parse(job["training"]), job["classes"])
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
    )
