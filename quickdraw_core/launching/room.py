"""What a run's checkpoints take on the disk, known before there is one."""

from pathlib import Path

from quickdraw_core.modeling.models import MODELS
from quickdraw_core.modeling.optimizers import OPTIMIZERS
from quickdraw_core.system.disk import Need, size_of_files
from quickdraw_core.training.checkpoint import CHECKPOINTS
from quickdraw_core.training.config import TrainConfig

_FLOAT32_BYTES = 4


def checkpoint_bytes(config: TrainConfig, classes: int) -> int:
    """The size of a checkpoint, at least: the weights, what the optimizer keeps of each, and
    their running average.
    """
    model, side_px = config.model, config.image.side_px
    weights = MODELS[model.name].weights(classes, side_px, model.has_small_stem(side_px))
    copies = 1 + OPTIMIZERS[config.optimizer.name].numbers + bool(config.optimizer.ema_decay)
    return _FLOAT32_BYTES * weights * copies


def kept_checkpoints(config: TrainConfig, written: int) -> int:
    """How many there are at once, at most: those that are kept, the best, and the one that is
    being written.

    written: in the whole run.
    """
    return min(written, config.checkpoints.keep + 1) + 1


def checkpoints_need(
    config: TrainConfig, path: Path, size_bytes: int, written: int | None = None
) -> Need:
    """What is still to be written to a run folder. written: checkpoints of the whole run, if
    that is known; there may be fewer than are kept.
    """
    number = kept_checkpoints(config, config.checkpoints.keep + 1 if written is None else written)
    there = size_of_files(path / CHECKPOINTS)  # what a run with --fresh deletes first
    return Need("checkpoints", max(0, number * size_bytes - there), path, "--run-dir")
