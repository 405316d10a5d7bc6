"""Plans a sweep: its rows, the folder of each, the slots that they run in.

`SWEEP/<row>-<identity>/` is a run folder like any other. `SWEEP/` itself is one to tracking
alone: it has the run record and the journal of the parent run, and what `finish.py` writes.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.launching.gpus import visible_devices
from quickdraw_core.launching.train import prepare as prepare_training
from quickdraw_core.stage import Opened
from quickdraw_core.storage.location import Location
from quickdraw_core.store.store import open_store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.row_slots import Slot, make_slots
from quickdraw_core.sweep.table import SweepRow, SweepTable, configs_of, read_table
from quickdraw_core.system.threads import usable_cores
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import gpu_count
from quickdraw_core.training.run_folder import RunFolder


@dataclass(frozen=True)
class PlannedRow:
    """A row and its training, whose run_dir is the row's folder.

    classes: how many classes it is trained on, drawings: on how many in all; 0 before the sweep
    begins.
    """

    row: SweepRow
    config: TrainConfig
    classes: int = 0
    drawings: int = 0

    @property
    def name(self) -> str:
        """The row's name."""
        return self.row.name

    @property
    def run_dir(self) -> Path:
        """Folder of the row's run."""
        assert self.config.run_dir is not None
        return self.config.run_dir


@dataclass(frozen=True)
class Sweep:
    """A sweep whose options and rows were checked.

    rows: all of the table's. chosen: names of those to train now. slots: as many as rows run at
    once. uri: MLflow's address. key: random, of the command that began it.
    """

    path: Path
    table: SweepTable
    rows: tuple[PlannedRow, ...]
    chosen: tuple[str, ...]
    store: Location
    store_fingerprint: str
    per_class: int
    allow_short: bool
    slots: tuple[Slot, ...]
    uri: str = NO_TRACKING
    key: str = ""

    def row(self, name: str) -> PlannedRow:
        """The row with that name."""
        return next(row for row in self.rows if row.name == name)

    @property
    def devices(self) -> tuple[str, ...]:
        """The GPUs of all slots."""
        return tuple(device for slot in self.slots for device in slot.devices)

    def judging(self, row: PlannedRow) -> EvaluateConfig:
        """How the row's model is judged: by one process, since other rows may train meanwhile."""
        return EvaluateConfig(
            model=str(row.run_dir),
            store=self.store,
            per_class=self.per_class,
            allow_short=self.allow_short,
            ranks=1,
            tracking_uri=self.uri,
        )


def plan_sweep(config: SweepConfig, opened: Opened) -> Sweep:
    """Plans a sweep, and checks it before any work.

    Raises `ConfigError` (table, row, too few GPUs), `StoreError`, `TrackingError`.
    """
    table = read_table(config.table)
    configs = configs_of(table, config.changes)
    chosen = tuple(row.name for row in table.chosen(config.rows))
    store = open_store(config.store, opened)
    fingerprint = store.manifest.fingerprint
    path = _path(config, table, configs, fingerprint)

    def planned(row: SweepRow) -> PlannedRow:
        own = configs[row.name]
        name = f"{row.slug}-{own.identity(fingerprint)}"
        values = {
            "store": store.path.absolute(),
            "run_dir": path / name,
            "tracking": {"uri": config.tracking_uri},
            "select": own.select.absolute().model_dump(),
            "distill": None if own.distill is None else own.distill.recorded().model_dump(),
        }
        return PlannedRow(row, own.updated(values))

    rows = tuple(planned(row) for row in table.rows)
    for row in rows:
        with row_named(table, row):
            # What other hosts have is theirs to check.
            here = {"hardware": {"device": "cpu"}} if config.is_elsewhere else {}
            prepare_training(row.config.updated(here), opened)
    return Sweep(
        path=path,
        table=table,
        rows=rows,
        chosen=chosen,
        store=store.path.absolute(),
        store_fingerprint=fingerprint,
        per_class=config.per_class,
        allow_short=config.allow_short,
        slots=_slots(config, rows, len(chosen)),
    )


def _path(
    config: SweepConfig, table: SweepTable, configs: Mapping[str, TrainConfig], fingerprint: str
) -> Path:
    """As configured, else named by a digest of all trainings and the store."""
    decisive = [[name, one.identity(fingerprint)] for name, one in configs.items()]
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]
    path = (config.run_dir or Path("runs") / f"sweep-{table.name}-{digest}").absolute()
    if RunFolder.is_there(path):
        raise ConfigError(f"{path} holds a single run; give a sweep another --run-dir")
    return path


def _slots(config: SweepConfig, rows: tuple[PlannedRow, ...], chosen: int) -> tuple[Slot, ...]:
    """Of this host's GPUs; none of them for rows that other hosts train, which find their own."""
    if config.is_elsewhere:
        return (Slot(),) * min(config.parallel or chosen, chosen)
    on_cpu = all(row.config.hardware.device == "cpu" for row in rows)
    devices = () if on_cpu else visible_devices(gpu_count(), os.environ)
    ranks = max(row.config.hardware.ranks for row in rows)
    return make_slots(config.parallel, ranks, devices, usable_cores())


@contextmanager
def row_named(table: SweepTable, row: PlannedRow) -> Iterator[None]:
    """A block in which the error of a refused option names the row."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"table {table.name}, row {row.name!r}: {error}") from error
