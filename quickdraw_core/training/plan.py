"""Which drawings a run learns from and is judged on, and how many steps it takes. Pure."""

from dataclasses import dataclass

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.select import SelectConfig, select_rows
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.training.config import TrainConfig


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    train_rows, validation_rows: rows of the pack, int64 [n] each. train_counts: train rows of
    each label. The other numbers are steps.
    """

    train_rows: Int64Array
    validation_rows: Int64Array
    train_counts: list[int]
    steps_an_epoch: int
    steps: int
    validate_every: int
    save_every: int

    @classmethod
    def of(cls, config: TrainConfig, pack: Pack) -> "Plan":
        """The plan for a pack. Raises `ConfigError` where there is too little to train on."""
        rows = select_rows(pack, Split.TRAIN, config.select)
        steps_an_epoch = len(rows) // config.global_batch_size
        if not steps_an_epoch:
            raise ConfigError(
                f"{len(rows)} drawings to train on do not fill one global batch of "
                f"{config.global_batch_size}; choose a smaller global_batch_size"
            )
        steps = max(1, round(config.epochs * steps_an_epoch))
        every = config.validate_every_steps or max(
            1, round(config.validate_every_epochs * steps_an_epoch)
        )
        # Judged on all drawings of the classes, also where not all of them are trained on.
        judged = SelectConfig(classes=config.select.classes)
        return cls(
            train_rows=rows,
            validation_rows=select_rows(pack, Split.VALIDATION, judged),
            train_counts=np.bincount(pack.labels[rows], minlength=len(pack.label_map)).tolist(),
            steps_an_epoch=steps_an_epoch,
            steps=steps,
            validate_every=min(every, steps),
            save_every=min(config.save_every_steps or every, steps),
        )
