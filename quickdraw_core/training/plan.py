"""Which drawings a run learns from and is judged on, and how many steps it takes.

`epochs` and `max_steps` say the number of steps themselves. With `max_minutes` it depends on the
speed, which a probe measures when the run begins (`launching/probe.py`); the run folder records it
(`RunFolder.steps`), so that whoever continues or joins the run has the same number.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.config import SelectConfig
from quickdraw_core.loading.joined import JoinedPack, TrainPack, first_pack
from quickdraw_core.loading.select import select_rows, train_rows
from quickdraw_core.modeling.schedules import Factor, build_schedule
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import class_starts
from quickdraw_core.system.files import open_atomic
from quickdraw_core.training.config import TrainConfig

ROWS_NAME = "rows"
_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Rows:
    """Which drawings of a pack a run takes.

    train, validation: rows of the pack, int64 [n] each, by label. train_counts: train rows of each
    label. steps_an_epoch: whole global batches in the train rows.
    """

    train: Int64Array
    validation: Int64Array
    train_counts: list[int]
    steps_an_epoch: int

    @classmethod
    def of(cls, config: TrainConfig, pack: TrainPack) -> "Rows":
        """The rows that a configuration chooses. Raises `ConfigError` if they are too few."""
        # Judged on drawings of the classes that are not chosen otherwise, also if not all of
        # them are trained on; a number a class that does not grow with the store.
        judged = SelectConfig(
            classes=config.select.classes,
            per_class=config.validation.per_class,
            fold=config.select.fold,
        )
        return cls._of(
            config,
            pack,
            train_rows(pack, config.select),
            select_rows(first_pack(pack), Split.VALIDATION, judged),
        )

    @classmethod
    def read(cls, config: TrainConfig, pack: TrainPack, run_dir: Path) -> "Rows":
        """What `write` put into the run folder; it stays on the disk, and all ranks of a host
        share what is read of it.
        """
        train, validation = (
            # A plain array over the map: `np.memmap` makes each slice a Python object of its own.
            np.load(run_dir / ROWS_NAME / f"{split}.npy", mmap_mode="r").view(np.ndarray)
            for split in _SPLITS
        )
        return cls._of(config, pack, train, validation)

    def write(self, run_dir: Path) -> None:
        """Puts the rows into the run folder."""
        for split, rows in zip(_SPLITS, (self.train, self.validation), strict=True):
            with open_atomic(run_dir / ROWS_NAME / f"{split}.npy", sync=False) as file:
                np.save(file, rows)

    @classmethod
    def _of(
        cls, config: TrainConfig, pack: TrainPack, train: Int64Array, validation: Int64Array
    ) -> "Rows":
        steps_an_epoch = len(train) // config.global_batch_size
        if not steps_an_epoch:
            raise ConfigError(
                f"{len(train)} drawings to train on do not fill one global batch of "
                f"{config.global_batch_size}; choose a smaller global_batch_size"
            )
        return cls(train, validation, _counts(pack, train).tolist(), steps_an_epoch)


def _counts(pack: TrainPack, rows: Int64Array) -> Int64Array:
    """How many of the train rows have each label: int64 [K]."""
    if isinstance(pack, JoinedPack):
        return pack.counts(rows)
    # The pack is in the order of the labels, and so are the rows.
    ends = class_starts(pack.labels, np.arange(1, len(pack.label_map) + 1))
    counts: Int64Array = np.diff(np.searchsorted(rows, ends), prepend=0)
    return counts


def checked_rows(config: TrainConfig, pack: TrainPack) -> Rows:
    """The rows, once the schedule fits the steps, as far as these are known without a probe.

    Raises `ConfigError`.
    """
    rows = Rows.of(config, pack)
    if steps_of(config, rows.steps_an_epoch) is not None:
        Plan.of(config, rows)
    return rows


def steps_of(config: TrainConfig, steps_an_epoch: int) -> int | None:
    """Steps that a configuration says itself; None: as many as `max_minutes` will do for."""
    if config.max_steps is not None:
        return config.max_steps
    return None if config.epochs is None else max(1, round(config.epochs * steps_an_epoch))


class Every(NamedTuple):
    """Steps between two validations, and between two checkpoints at most; both come after the
    last step, too, and each validation makes a checkpoint.
    """

    validate: int
    save: int

    @classmethod
    def of(cls, config: TrainConfig, steps_an_epoch: int, steps: int) -> "Every":
        """Of a training of so many steps."""
        validation = config.validation
        every = validation.every_steps or max(1, round(validation.every_epochs * steps_an_epoch))
        return cls(min(every, steps), min(config.checkpoints.every_steps or every, steps))

    def validations(self, steps: int) -> int:
        """How many a training of so many steps has; one comes at its end."""
        return -(-steps // self.validate)

    def checkpoints(self, steps: int) -> int:
        """How many it writes: at each validation, and between them."""
        is_due = steps % self.validate == 0 or steps % self.save == 0
        return self.checkpoints_until(steps) + (not is_due)

    def validations_until(self, step: int) -> int:
        """How many there are up to a step that is not the last."""
        return step // self.validate

    def checkpoints_until(self, step: int) -> int:
        """How many are written up to a step that is not the last."""
        both = math.lcm(self.validate, self.save)
        return step // self.validate + step // self.save - step // both


@dataclass(frozen=True)
class Plan:
    """What a run is going to do. factor: of the learning rate, as a function of the step."""

    rows: Rows
    steps: int
    every: Every
    factor: Factor

    @classmethod
    def of(cls, config: TrainConfig, rows: Rows, steps: int | None = None) -> "Plan":
        """The plan of so many steps; None: those that the configuration says.

        Raises `ConfigError` if the schedule does not fit the number of steps.
        """
        steps = steps or steps_of(config, rows.steps_an_epoch)
        assert steps is not None, "max_minutes without the steps that the run folder records"
        every = Every.of(config, rows.steps_an_epoch, steps)
        return cls(rows, steps, every, build_schedule(config.schedule, steps))
