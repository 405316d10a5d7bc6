"""The training loop, read from top to bottom. Every rank runs it; rank 0 writes.

In: a run folder (`run.json`: config, MLflow run) and a store with its pack. Out: a journal of
numbers and checkpoints in the run folder, and both in MLflow. The loop's place is the global
step alone: order, augmentation, dropout and learning rate are functions of it.
"""

import math
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from quickdraw_core.errors import StoreError, TrainingError
from quickdraw_core.loading.loader import Loader
from quickdraw_core.modeling.losses import build_loss
from quickdraw_core.modeling.models import build_model
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.modeling.schedules import find_schedule
from quickdraw_core.render.encodings import find_encoding
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.journal import Journal, NoJournal, mlflow_sender
from quickdraw_core.training.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.meter import Meter
from quickdraw_core.training.run_folder import Plan, RunFolder
from quickdraw_core.training.step import Trainer, validate

MODEL_ARTIFACT = "checkpoints/best.pt"
"""Where a run's best checkpoint stands among its MLflow artifacts."""


def due(step: int, every: int, last: int) -> bool:
    """Is it time? Every so many steps, and after the last one."""
    return step % every == 0 or step == last


def train_loop(run: RunFolder, ranks: Ranks) -> None:
    """Trains from the last checkpoint, or from nothing, to the end of the plan."""
    config = run.config
    pack = _open_pack(run)
    rows = pack.rows(Split.TRAIN)
    train_counts = np.bincount(pack.labels[rows], minlength=len(pack.label_map)).tolist()
    plan = Plan.of(config, len(rows))
    network, optimizer = _build(run, pack, ranks)
    start, best = _restore(run, network, optimizer, ranks)

    factor = find_schedule(config.schedule)
    loss_function = build_loss(config.loss, config.label_smoothing)
    trainer = Trainer(network, optimizer, loss_function, ranks, config.seed)
    loader = Loader(
        pack,
        rows,
        config.shape,
        ranks.rank,
        config.encoding,
        config.side_px,
        config.seed,
        config.augment,
        start_step=start,
        end_step=plan.steps,
    )
    batches = iter(loader)
    meter = Meter(ranks, config.global_batch_size)
    network.train()
    with _journal(run, ranks) as journal:
        for step in range(start, plan.steps):
            learning_rate = config.learning_rate * factor(step, plan.steps)
            meter.add(
                trainer.step(step, batches, config.shape.micro_batches_a_rank, learning_rate)
            )
            done = step + 1

            if due(done, config.log_every_steps, plan.steps):
                numbers = meter.close()
                numbers |= {"learning_rate": learning_rate, "epoch": done / plan.steps_an_epoch}
                _check_finite(numbers["loss"], done, learning_rate)
                journal.write(done, {f"train/{key}": value for key, value in numbers.items()})

            if due(done, plan.validate_every, plan.steps):
                with meter.paused():
                    metrics = validate(network, loss_function, pack, config, ranks)
                    is_best = metrics["map_at_3"] >= best
                    best = max(best, metrics["map_at_3"])
                    journal.write(done, {f"validation/{k}": value for k, value in metrics.items()})
                    if ranks.is_first:
                        checkpoint = Checkpoint(
                            step=done,
                            model=network.state_dict(),
                            optimizer=optimizer.state_dict(),
                            config=config.model_dump(mode="json"),
                            labels=pack.label_map.to_json(),
                            train_counts=train_counts,
                            store_fingerprint=pack.fingerprint,
                            mlflow_run_id=run.mlflow_run_id,
                            metrics=metrics,
                            best=best,
                        )
                        path = save_checkpoint(
                            run.path, checkpoint, is_best, config.keep_checkpoints
                        )
                        if is_best:
                            journal.write_file(path, MODEL_ARTIFACT)
                    ranks.barrier()


def _journal(run: RunFolder, ranks: Ranks) -> AbstractContextManager[Journal | NoJournal]:
    """The run's journal on rank 0, none on the others."""
    if not ranks.is_first:
        return NoJournal()
    return Journal(run.path, mlflow_sender(run.tracking_uri, run.mlflow_run_id))


def _open_pack(run: RunFolder) -> Pack:
    pack = open_pack(Store.open(run.config.store))
    if pack.fingerprint != run.store_fingerprint:
        raise StoreError(
            f"the store {run.config.store} changed since the run {run.path} began; "
            "start it over with --fresh"
        )
    return pack


def _build(run: RunFolder, pack: Pack, ranks: Ranks) -> tuple[nn.Module, Optimizer]:
    """Network and optimiser with the same first weights on every rank."""
    config = run.config
    torch.manual_seed(config.seed)
    channels = find_encoding(config.encoding).channels
    network = build_model(config.model, channels, len(pack.label_map), config.side_px)
    network.to(device=ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        config.optimizer, network.parameters(), config.learning_rate, config.weight_decay
    )
    return network, optimizer


def _restore(
    run: RunFolder, network: nn.Module, optimizer: Optimizer, ranks: Ranks
) -> tuple[int, float]:
    """Loads the last checkpoint, if any: steps done, and the best validation MAP@3 so far."""
    last = find_checkpoint(run.path, "last")
    if last is None:
        return 0, 0.0
    state = load_checkpoint(last, str(ranks.device))
    network.load_state_dict(state.model)
    optimizer.load_state_dict(state.optimizer)
    return state.step, state.best


def _check_finite(loss: float, step: int, learning_rate: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step}, learning rate {learning_rate:.2g}: training "
            "diverged; lower it (--set learning_rate=…), the last checkpoint is kept"
        )
