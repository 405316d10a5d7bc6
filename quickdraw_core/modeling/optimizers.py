"""Optimisers: one row of `OPTIMIZERS` a choice."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from quickdraw_core.errors import ConfigError, nearest

Groups = list[dict[str, object]]


class OptimizerRow(NamedTuple):
    """A row of the table: makes the optimiser of (parameter groups, learning rate), and why."""

    make: Callable[[Groups, float], Optimizer]
    reason: str


OPTIMIZERS: dict[str, OptimizerRow] = {
    "sgd": OptimizerRow(
        lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9),
        "with momentum 0.9, as the original report",
    ),
    "adam": OptimizerRow(lambda groups, lr: torch.optim.Adam(groups, lr), "the report's other"),
    "adamw": OptimizerRow(
        lambda groups, lr: torch.optim.AdamW(groups, lr),
        "decoupled weight decay (Loshchilov and Hutter, 2017)",
    ),
}


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """The optimiser `name`. Biases and norms (fewer than 2 dimensions) are not decayed.

    Raises `ConfigError` for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {name!r}: {nearest(name, OPTIMIZERS)}")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups: Groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[name].make(groups, learning_rate)
