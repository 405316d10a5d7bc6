"""A row as work for another process, on other hosts too: all that it needs, as JSON.

The row's folder is on storage that both share, and so is the sweep's; what comes of the row is
read from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickdraw_core.storage.location import location_of
from quickdraw_core.sweep.plan import PlannedRow, Sweep
from quickdraw_core.sweep.row_slots import Slot
from quickdraw_core.sweep.table import SweepTable
from quickdraw_core.training.config import TrainConfig


def job_of(sweep: Sweep, name: str) -> dict[str, Any]:
    """A row of a sweep that has begun, for `sweep_of_row`."""
    row = sweep.row(name)
    return {
        "name": name,
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
