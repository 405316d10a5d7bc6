"""The mean of a run's latest checkpoints, weight by weight.

Late in a training the weights wander around a minimum; their mean lies nearer to its middle
(Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, "Averaging weights leads to wider optima and
better generalization", 2018). The running statistics of batch norm are averaged with them:
checkpoints of the end of one run stand close enough together for that.
"""

from pathlib import Path
from typing import Any

import torch

from quickdraw_core.errors import CheckpointError
from quickdraw_core.stage import Opened
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.training.checkpoint import Checkpoint, load_checkpoint, open_checkpoint


def average_checkpoints(run_dir: Path, count: int, opened: Opened) -> tuple[Checkpoint, Path]:
    """The newest checkpoint of a run folder with the mean weights of the `count` newest, and the
    newest one's path. Computed once, until one of them is written again.

    A run keeps its `checkpoints.keep` newest, and its best, which does not count if it is older
    than those. Raises `CheckpointError` if there are fewer.
    """
    paths = sorted((run_dir / "checkpoints").glob("step-*.pt"))
    versions = tuple((path, LocalStorage(path.parent).version(path.name)) for path in paths)
    name = ("average", run_dir.resolve(), count)
    return opened.once(name, lambda: _averaged(run_dir, paths, count, opened), versions)


def _averaged(
    run_dir: Path, paths: list[Path], count: int, opened: Opened
) -> tuple[Checkpoint, Path]:
    newest = open_checkpoint(paths[-1], opened) if paths else None
    kept = int(newest.config["checkpoints"]["keep"]) if newest is not None else 0
    paths = paths[-min(count, kept) :] if kept else []
    if newest is None or len(paths) < count:
        there = f"holds the {len(paths)} latest" if run_dir.is_dir() else "is no run folder here"
        raise CheckpointError(
            f"{count} checkpoints are to be averaged, but {run_dir} {there}; give a run folder, "
            "trained with --set checkpoints.keep=N for N to be kept"
        )
    # The logit adjustment of the newest is that of the mean: it is not averaged.
    trained = newest.trained_weights
    sums = {name: value.to(torch.float64, copy=True) for name, value in trained.items()}
    for path in paths[:-1]:
        weights = load_checkpoint(path).trained_weights  # one at a time, to save memory
        if {n: v.shape for n, v in weights.items()} != {n: v.shape for n, v in sums.items()}:
            raise CheckpointError(
                f"{path} is of another model than {paths[-1].name}; give a folder of one run"
            )
        for name, value in weights.items():
            sums[name] += value.double()
    averaged: dict[str, Any] = {
        # Counters, such as batch norm's number of batches, are the newest checkpoint's.
        name: (sums[name] / count).to(value.dtype) if torch.is_floating_point(value) else value
        for name, value in trained.items()
    }
    return newest.with_weights(averaged), paths[-1]
