"""What advances in a training: new or restored from a checkpoint, and put into one."""

import platform
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import torch

from quickdraw_core.loading.joined import TrainPack
from quickdraw_core.loading.loader import Feed, Loader
from quickdraw_core.loading.prior import log_prior
from quickdraw_core.modeling.layers import last_linear
from quickdraw_core.modeling.losses import build_loss
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.training.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint
from quickdraw_core.training.distill import copied_teachers
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.hardware import Arithmetic, choose_arithmetic, describe_hardware
from quickdraw_core.training.network import new_network, teacher_of
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.step import Teachers, Trainer
from quickdraw_core.training.validation import TAU

_DECISIVE_PACKAGES = ("torch", "torchvision", "numba", "numpy", "quickdraw-workflow")


class Stateful(Protocol):
    """A part of a training that advances. Its state holds tensors and plain values alone."""

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on from here. Refers to tensors, copies none."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Goes on from what `state_dict` gave."""


@dataclass
class Validations:
    """What the validations so far say.

    metrics: of the last one, by plain name (`map_at_3`). best: the highest value so far of the
    metric that decides; since_best: validations since then that brought nothing better. is_best:
    whether the last one is the best.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    best: float = 0.0
    since_best: int = 0
    is_best: bool = False

    def add(self, metrics: dict[str, float], best_by: str = "map_at_3") -> None:
        """Adds a validation. Of two that are equal the later is kept, but it is no progress."""
        value = metrics[best_by]
        self.metrics, self.is_best = metrics, value >= self.best
        self.since_best = 0 if value > self.best else self.since_best + 1
        self.best = max(value, self.best)

    def state_dict(self) -> dict[str, Any]:
        """All but `is_best`, which is over once a checkpoint is written."""
        return {"metrics": self.metrics, "best": self.best, "since_best": self.since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.metrics = state["metrics"]
        self.best, self.since_best = state["best"], state["since_best"]


class TrainState:
    """Everything that advances in a training: a checkpoint holds the state of each part, by name.

    Learning rate, augmentation and dropout are functions of the step, so that no schedule and no
    random generator is among them; bf16 needs no gradient scaler.
    """

    def __init__(self, trainer: Trainer, loader: Loader) -> None:
        self.trainer, self.loader, self.validations = trainer, loader, Validations()
        self.parts: dict[str, Stateful] = {
            "model": trainer.network,
            "optimizer": trainer.optimizer,
            "loader": loader,
            "validations": self.validations,
        }
        if trainer.average is not None:
            self.parts["ema"] = trainer.average

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The state of each part."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, states: dict[str, dict[str, Any]]) -> None:
        """Goes on from the state of each part."""
        for name, part in self.parts.items():
            part.load_state_dict(states[name])


def open_state(
    run: RunFolder, plan: Plan, pack: TrainPack, ranks: Ranks, feed: Feed
) -> TrainState:
    """The run as its latest checkpoint left it, or newly initialized, alike on every rank."""
    config = run.config
    arithmetic = choose_arithmetic(config.hardware, config.model.precision, ranks.device.type)
    load = partial(load_checkpoint, device=str(ranks.device))
    latest = latest_checkpoint(run.path, run.owns, load).checkpoint
    torch.manual_seed(config.seed)
    pretrained = config.model.pretrained if latest is None else None
    network = new_network(config, len(pack.label_map), pretrained)
    arithmetic.place(network, ranks.device)
    optimizer = build_optimizer(config.optimizer, network)
    trainer = Trainer(
        network,
        optimizer,
        build_loss(config.loss, log_prior(plan.rows.train_counts, config.select.class_balance)),
        ranks,
        arithmetic,
        config.seed,
        config.optimizer.clip_norm,
        config.optimizer.ema_decay,
        run.micro_split,
        _teachers(run, arithmetic, ranks.device),
    )
    loader = Loader(
        pack,
        plan.rows.train,
        config.shape,
        ranks.rank,
        config.image,
        config.seed,
        config.augment,
        end_step=plan.steps,
        class_balance=config.select.class_balance,
        feed=feed,
    )
    state = TrainState(trainer, loader)
    if latest is not None:
        state.load_state_dict(latest.states)
    return state


def _teachers(run: RunFolder, arithmetic: Arithmetic, device: torch.device) -> Teachers | None:
    """Those of the run folder, on the device."""
    distill = run.config.distill
    if distill is None:
        return None
    networks = []
    for path in copied_teachers(distill, run.path):
        network = teacher_of(load_checkpoint(path))
        arithmetic.place(network, device)
        networks.append(arithmetic.forward_of(network))
    return Teachers(networks, distill.share)


def checkpoint_of(
    run: RunFolder, plan: Plan, pack: TrainPack, state: TrainState, step: int, finished: bool
) -> Checkpoint:
    """All that the run needs to go on after `step` steps, and what a model is used with."""
    trainer, tau = state.trainer, state.validations.metrics.get(TAU, 0.0)
    adjustment = {"tau": tau, "bias": f"{last_linear(trainer.network)[0]}.bias"} if tau else {}
    environment = run.provenance.get("environment", {})
    environment = environment | describe_hardware(trainer.ranks.device, trainer.arithmetic)
    return Checkpoint(
        step=step,
        states=state.state_dict(),
        config=run.config.model_dump(mode="json"),
        labels=pack.label_map.to_json(),
        train_counts=plan.rows.train_counts,
        store_fingerprint=pack.fingerprint,
        mlflow_run_id=tracked_run_id(run.path),
        finished=finished,
        versions={name: version(name) for name in _DECISIVE_PACKAGES}
        | {"python": platform.python_version()},
        provenance=run.provenance | {"environment": environment},
        adjustment=adjustment,
    )
