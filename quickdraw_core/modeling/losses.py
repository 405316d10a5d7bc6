"""Losses: one row of `LOSSES` a choice. All take logits, not probabilities."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from quickdraw_core.errors import ConfigError, nearest

LossFunction = Callable[[Tensor, Tensor], Tensor]


class Loss(NamedTuple):
    """A row of the table: makes the function for a label smoothing, and why."""

    make: Callable[[float], LossFunction]
    reason: str


def _cross_entropy(label_smoothing: float) -> LossFunction:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    return loss


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy, "log-softmax and negative log likelihood in one"),
}


def build_loss(name: str, label_smoothing: float) -> LossFunction:
    """The loss `name`: (logits float [N, K], labels int64 [N]) → mean over N, a scalar."""
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}: {nearest(name, LOSSES)}")
    return LOSSES[name].make(label_smoothing)
