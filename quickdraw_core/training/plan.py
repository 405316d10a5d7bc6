"""Which drawings a run learns from and is judged on, and how many steps it takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.config import SelectConfig
from quickdraw_core.loading.select import select_rows
from quickdraw_core.modeling.schedules import Factor, build_schedule
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.system.files import open_atomic
from quickdraw_core.training.config import TrainConfig

ROWS_NAME = "rows"
_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    train_rows, validation_rows: rows of the pack, int64 [n] each. train_counts: train rows of
    each label. factor: of the learning rate, as a function of the step. The numbers are steps.
    """

    train_rows: Int64Array
    validation_rows: Int64Array
    train_counts: list[int]
    factor: Factor
    steps_an_epoch: int
    steps: int
    validate_every: int
    save_every: int

    @classmethod
    def of(cls, config: TrainConfig, pack: Pack) -> "Plan":
        """The plan for a pack.

        Raises `ConfigError` if there is too little to train on, or the schedule does not fit
        the number of steps.
        """
        # Judged on all drawings of the classes, also if not all of them are trained on.
        judged = SelectConfig(classes=config.select.classes)
        return cls._of(
            config,
            pack,
            select_rows(pack, Split.TRAIN, config.select),
            select_rows(pack, Split.VALIDATION, judged),
        )

    @classmethod
    def read(cls, config: TrainConfig, pack: Pack, run_dir: Path) -> "Plan":
        """The plan that `write` put into the run folder; its rows stay on the disk, and all
        ranks of a host share what is read of them.
        """
        train, validation = (
            # A plain array over the map: `np.memmap` makes each slice a Python object of its own.
            np.load(run_dir / ROWS_NAME / f"{split}.npy", mmap_mode="r").view(np.ndarray)
            for split in _SPLITS
        )
        return cls._of(config, pack, train, validation)

    def write(self, run_dir: Path) -> None:
        """Puts the rows into the run folder."""
        for split, rows in zip(_SPLITS, (self.train_rows, self.validation_rows), strict=True):
            with open_atomic(run_dir / ROWS_NAME / f"{split}.npy", sync=False) as file:
                np.save(file, rows)

    @classmethod
    def _of(
        cls, config: TrainConfig, pack: Pack, train_rows: Int64Array, validation_rows: Int64Array
    ) -> "Plan":
        steps_an_epoch = len(train_rows) // config.global_batch_size
        if not steps_an_epoch:
            raise ConfigError(
                f"{len(train_rows)} drawings to train on do not fill one global batch of "
                f"{config.global_batch_size}; choose a smaller global_batch_size"
            )
        steps = max(1, round(config.epochs * steps_an_epoch))
        validation = config.validation
        every = validation.every_steps or max(1, round(validation.every_epochs * steps_an_epoch))
        # The pack is in the order of the labels, and so are the rows.
        ends = np.searchsorted(
            pack.labels, np.arange(len(pack.label_map), dtype=np.uint16), "right"
        )
        train_counts = np.diff(np.searchsorted(train_rows, ends), prepend=0)
        return cls(
            train_rows=train_rows,
            validation_rows=validation_rows,
            train_counts=train_counts.tolist(),
            factor=build_schedule(config.schedule, steps),
            steps_an_epoch=steps_an_epoch,
            steps=steps,
            validate_every=min(every, steps),
            save_every=min(config.checkpoints.every_steps or every, steps),
        )
