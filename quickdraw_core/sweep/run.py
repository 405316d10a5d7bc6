"""A sweep's rows, each trained and judged in a folder beneath the sweep's own.

`SWEEP/<row>-<identity>/` is a run folder like any other. `SWEEP/` itself is one to tracking
alone: it has the card and the journal of the parent run, and what `finish.py` writes. The same
command again trains only what is missing; a row that was stopped goes on from its checkpoint.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quickdraw_core.assignments import flattened
from quickdraw_core.errors import ConfigError, DivergedError, TrackingError
from quickdraw_core.evaluation.asked import check_before_training
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.evaluation.precision import Precision
from quickdraw_core.locks import require_free_folder
from quickdraw_core.progress import progress
from quickdraw_core.stage import Opened
from quickdraw_core.store.location import Location
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.slots import Slot, make_slots
from quickdraw_core.sweep.table import SweepRow, SweepTable, configs_of, read_table
from quickdraw_core.threads import usable_cores
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.card import CARD_NAME, RunCard, tracked_run_id
from quickdraw_core.tracking.delivery import deliver_rest, open_run
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    append,
    follow,
    last_status,
    status_record,
    tags_record,
)
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.curves import read_failure
from quickdraw_core.training.gpus import visible_devices
from quickdraw_core.training.hardware import gpu_count
from quickdraw_core.training.meter import DIVERGED
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.processes import Surroundings
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.train import TRAIN_STAGE, train

PARENT_TAG = "mlflow.parentRunId"
"""By which MLflow shows a run beneath another."""
SWEEP_TAG, ROW_TAG = "quickdraw.sweep", "quickdraw.sweep_row"


@dataclass(frozen=True)
class PlannedRow:
    """A row and its training, whose run_dir is the row's folder.

    classes: how many have drawings that the row trains on; 0 before the sweep is opened.
    """

    row: SweepRow
    config: TrainConfig
    classes: int = 0

    @property
    def name(self) -> str:
        """The row's."""
        return self.row.name

    @property
    def run_dir(self) -> Path:
        """Folder of the row's run."""
        assert self.config.run_dir is not None
        return self.config.run_dir


@dataclass(frozen=True)
class Sweep:
    """A sweep that can begin: everything in it was checked.

    rows: all of the table's. chosen: names of those to train now. slots: of the rows that run at
    once. uri: MLflow, or none.
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

    def row(self, name: str) -> PlannedRow:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)

    def judging(self, row: PlannedRow) -> EvaluateConfig:
        """How the row's model is judged: by one process, since others may train meanwhile."""
        return EvaluateConfig(
            model=str(row.run_dir),
            store=self.store,
            per_class=self.per_class,
            allow_short=self.allow_short,
            ranks=1,
            tracking_uri=self.uri,
        )


def check(config: SweepConfig) -> Sweep:
    """Finds out without work whether the sweep can begin.

    Raises `ConfigError` (table, row, too few GPUs), `StoreError`, `TrackingError`.
    """
    table = read_table(config.table)
    configs = configs_of(table, config.changes)
    chosen = tuple(row.name for row in table.chosen(config.rows))
    opened = Opened()
    store = open_store(config.store, opened)
    fingerprint = store.manifest.fingerprint
    path = _path(config, table, configs, fingerprint)
    rows = tuple(
        PlannedRow(
            row,
            configs[row.name].updated(
                {
                    "store": store.path.absolute(),
                    "run_dir": path / f"{row.slug}-{configs[row.name].identity(fingerprint)}",
                    "tracking_uri": config.tracking_uri,
                }
            ),
        )
        for row in table.rows
    )
    for row in rows:
        with _named(table, row):
            TRAIN_STAGE.prepared(row.config, opened)
    return Sweep(
        path=path,
        table=table,
        rows=rows,
        chosen=chosen,
        store=store.path.absolute(),
        store_fingerprint=fingerprint,
        per_class=config.per_class,
        allow_short=config.allow_short,
        slots=_slots(config, rows),
    )


def open_sweep(config: SweepConfig) -> Sweep:
    """Checks, makes or continues the sweep's folder, and its parent run in MLflow.

    Raises what `check` does, and `ConfigError` or `StoreError` for a row whose plan does not fit
    the store's drawings, or classes with too few of them.
    """
    sweep = check(config)
    check_before_training(sweep.judging(sweep.rows[0]), Opened())
    pack = open_pack(Store.open(sweep.store))
    classes = []
    for row in sweep.rows:
        with _named(sweep.table, row):
            classes.append(int(np.count_nonzero(Plan.of(row.config, pack).train_counts)))
    if config.fresh:
        _clear(sweep)
    opened = open_run(
        sweep.path, config.tracking_uri, sweep.path.name, _params(sweep), _tags(sweep)
    )
    rows = tuple(
        replace(row, config=row.config.updated({"tracking_uri": opened.uri}), classes=count)
        for row, count in zip(sweep.rows, classes, strict=True)
    )
    append(sweep.path, status_record("RUNNING"))
    opened_sweep = replace(sweep, rows=rows, uri=opened.uri)
    deliver(opened_sweep)
    return opened_sweep


def run_row(
    sweep: Sweep,
    name: str,
    slot: Slot | None = None,
    stopping: threading.Event | None = None,
    turn: AbstractContextManager[object] | None = None,
) -> None:
    """Trains and judges a row, from where it was; nothing where it is finished.

    stopping: once it is set, the row ends as by Ctrl-C. turn: held while this process judges,
    which rows that run at once do one after the other. Raises what `train` and `evaluate` do, but
    for the `DivergedError` of a row shown as failed.
    """
    row = sweep.row(name)
    with progress(name, 1, "row") as bar:
        if is_finished(sweep, row) or has_diverged(row):
            bar.note("finished before")
        else:
            try:
                bar.note(_train_and_judge(sweep, row, slot or Slot(), stopping, turn))
            except DivergedError:
                if not has_diverged(row):
                    raise
                bar.note("diverged, shown as failed")
        nest(sweep, row)
        bar.advance(1)


def _train_and_judge(
    sweep: Sweep,
    row: PlannedRow,
    slot: Slot,
    stopping: threading.Event | None,
    turn: AbstractContextManager[object] | None,
) -> str:
    """Does what is left of a row; returns its score in words."""
    if stopping is not None and stopping.is_set():
        raise KeyboardInterrupt
    around = Surroundings(slot.environment(os.environ), _row_tags(sweep, row), stopping)
    train(row.config, around)
    with turn or nullcontext():
        if stopping is not None and stopping.is_set():
            raise KeyboardInterrupt
        judged = evaluate(sweep.judging(row), stopping).scores[sweep.table.metric]
    return f"{sweep.table.metric} {judged.value:.4f}"


def is_finished(sweep: Sweep, row: PlannedRow) -> bool:
    """Whether a row is trained to its end and judged, on these drawings of this store, and its
    run was told.
    """
    best = find_checkpoint(row.run_dir, "best")
    records, _ = follow(row.run_dir / JOURNAL_NAME, 0)
    if best is None or last_status(records) != "FINISHED":
        return False
    card = card_of(row)
    score = f"test/{sweep.table.metric}"
    is_told = any(score in record.get("metrics", ()) for record in records)
    if card is not None and sweep.uri != NO_TRACKING and card.uri == sweep.uri and not is_told:
        return False
    try:
        judged = json.loads((row.run_dir / "evaluation" / "evaluation.json").read_text("utf-8"))
        facts = judged["evaluated"]
        step = int(facts["step"].replace(",", ""))
        of = ("store_fingerprint", "per_class", "tta", "average", "precision")
        same = tuple(facts[name] for name in of)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    expected = (sweep.store_fingerprint, str(sweep.per_class), "none", "1", Precision.FP32)
    return same == expected and best.stem == f"step-{step:08d}"


def has_diverged(row: PlannedRow) -> bool:
    """Whether a row that is shown as failed has failed for good: its training diverged, and the
    same again comes to the same end.
    """
    return row.row.shown_as_failed and DIVERGED in (read_failure(row.run_dir) or "")


def card_of(row: PlannedRow) -> RunCard | None:
    """The card of a row's run; None as well where it is damaged, which training the row tells."""
    try:
        return RunCard.read(row.run_dir)
    except TrackingError:
        return None


def nest(sweep: Sweep, row: PlannedRow) -> str | None:
    """Puts a row's run beneath the parent in MLflow, where it began before that was known, and
    sends what its journal still holds; returns what hindered it.
    """
    parent, card = tracked_run_id(sweep.path), card_of(row)
    if sweep.uri == NO_TRACKING or not parent or card is None:
        return None
    if card.tags.get(PARENT_TAG) != parent:
        replace(card, tags=card.tags | {PARENT_TAG: parent}).write(row.run_dir)
        append(row.run_dir, tags_record({PARENT_TAG: parent}))
    return deliver_rest(row.run_dir).problem


def deliver(sweep: Sweep) -> str | None:
    """Sends what the parent's journal holds; returns what hindered it."""
    return None if sweep.uri == NO_TRACKING else deliver_rest(sweep.path).problem


def _path(
    config: SweepConfig, table: SweepTable, configs: Mapping[str, TrainConfig], fingerprint: str
) -> Path:
    """As configured, else named by what is trained on what."""
    decisive = [[name, one.identity(fingerprint)] for name, one in configs.items()]
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]
    path = (config.run_dir or Path("runs") / f"sweep-{table.name}-{digest}").absolute()
    if RunFolder.is_there(path):
        raise ConfigError(f"{path} holds a single run; give a sweep another --run-dir")
    return path


def _slots(config: SweepConfig, rows: tuple[PlannedRow, ...]) -> tuple[Slot, ...]:
    on_cpu = all(row.config.device == "cpu" for row in rows)
    devices = () if on_cpu else visible_devices(gpu_count(), os.environ)
    ranks = max(row.config.ranks for row in rows)
    return make_slots(config.parallel, ranks, devices, usable_cores())


def _clear(sweep: Sweep) -> None:
    """Removes the chosen rows' runs, and with all of them the parent's."""
    for name in sweep.chosen:
        run_dir = sweep.row(name).run_dir
        if RunFolder.is_there(run_dir):
            require_free_folder(run_dir)
            shutil.rmtree(run_dir)
    if len(sweep.chosen) == len(sweep.rows):
        for pattern in (CARD_NAME, f"{JOURNAL_NAME}*"):
            for old in sweep.path.glob(pattern):
                old.unlink()


def _params(sweep: Sweep) -> dict[str, object]:
    """The table flat, as MLflow compares it."""
    table = sweep.table
    params: dict[str, object] = {"table": table.name, "metric": table.metric}
    params |= {"recipe": table.recipe, "per_class": sweep.per_class, "store": sweep.store}
    params |= flattened(table.values, "values.")
    for row in table.rows:
        params[f"rows.{row.slug}"] = json.dumps(row.values)
    return params


def _tags(sweep: Sweep) -> dict[str, str]:
    return {
        "mlflow.source.name": "quickdraw sweep",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": sweep.table.description,
        "store_fingerprint": sweep.store_fingerprint,
    }


def _row_tags(sweep: Sweep, row: PlannedRow) -> dict[str, str]:
    parent = tracked_run_id(sweep.path)
    tags = {SWEEP_TAG: sweep.path.name, ROW_TAG: row.name}
    return tags | ({PARENT_TAG: parent} if parent else {})


@contextmanager
def _named(table: SweepTable, row: PlannedRow) -> Iterator[None]:
    """A block in which a refused option names its row."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"table {table.name}, row {row.name!r}: {error}") from error
