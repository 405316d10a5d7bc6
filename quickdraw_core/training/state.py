"""What a run is made of: made anew, taken from a checkpoint, and put into one."""

import platform
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import torch

from quickdraw_core.modeling.losses import build_loss
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.training.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.hardware import Arithmetic, choose_arithmetic
from quickdraw_core.training.network import new_network
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.step import Trainer

_DECISIVE_PACKAGES = ("torch", "torchvision", "numba", "numpy", "quickdraw-workflow")


@dataclass(frozen=True)
class Standing:
    """What the validations so far say: the last one's metrics, the best value of the metric
    that decides, how many validations have brought nothing better since, and whether the last
    one is the best.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    best: float = 0.0
    since_best: int = 0
    is_best: bool = False

    def after(self, metrics: dict[str, float], best_by: str = "map_at_3") -> "Standing":
        """With one more validation. Of two that are equal the later is kept, since it has learnt
        longer; but it is no progress.
        """
        value = metrics[best_by]
        since_best = 0 if value > self.best else self.since_best + 1
        return Standing(metrics, max(value, self.best), since_best, value >= self.best)


@dataclass(frozen=True)
class State:
    """A run in memory: where it stands, and what goes on from there."""

    trainer: Trainer
    arithmetic: Arithmetic
    step: int
    standing: Standing


def open_state(run: RunFolder, pack: Pack, ranks: Ranks) -> State:
    """The run as its latest checkpoint left it, or with first weights, the same on every rank."""
    config = run.config
    arithmetic = choose_arithmetic(config, ranks.device.type)
    load = partial(load_checkpoint, device=str(ranks.device))
    latest = latest_checkpoint(run.path, run.owns, load).checkpoint
    torch.manual_seed(config.seed)
    network = new_network(
        config, len(pack.label_map), config.pretrained if latest is None else None
    )
    arithmetic.place(network, ranks.device)
    optimizer = build_optimizer(
        config.optimizer, network, config.learning_rate, config.weight_decay
    )
    standing = Standing()
    if latest is not None:
        network.load_state_dict(latest.model)
        optimizer.load_state_dict(latest.optimizer)
        standing = Standing(latest.metrics, latest.best, latest.since_best)
    trainer = Trainer(
        network,
        optimizer,
        build_loss(config.loss, config.label_smoothing),
        ranks,
        arithmetic,
        config.seed,
        config.clip_norm,
        config.ema_decay,
        run.micro_split,
    )
    if latest is not None and trainer.average is not None and latest.ema is not None:
        trainer.average.module.load_state_dict(latest.ema)
        trainer.average.n_averaged.fill_(latest.step)
    return State(trainer, arithmetic, latest.step if latest else 0, standing)


def snapshot(
    run: RunFolder,
    plan: Plan,
    pack: Pack,
    trainer: Trainer,
    loader: dict[str, int],
    step: int,
    standing: Standing,
    finished: bool,
) -> Checkpoint:
    """All that the run needs to go on after `step` steps. Refers to the weights, copies none."""
    average = trainer.average
    return Checkpoint(
        step=step,
        loader=loader,
        model=trainer.network.state_dict(),
        ema=average.module.state_dict() if average is not None else None,
        optimizer=trainer.optimizer.state_dict(),
        config=run.config.model_dump(mode="json"),
        labels=pack.label_map.to_json(),
        train_counts=plan.train_counts,
        store_fingerprint=pack.fingerprint,
        mlflow_run_id=tracked_run_id(run.path),
        metrics=standing.metrics,
        best=standing.best,
        since_best=standing.since_best,
        finished=finished,
        versions={name: version(name) for name in _DECISIVE_PACKAGES}
        | {"python": platform.python_version()},
    )
