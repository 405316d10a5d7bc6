"""The functions behind the rows of `LOSSES` (`losses.py`), which also says what they compute.

In: logits float [N, K], labels int64 [N]. Out: the mean over N, a scalar.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from quickdraw_core.errors import ConfigError

LossFunction = Callable[[Tensor, Tensor], Tensor]

STEEPEST = 10_000.0
"""Slope at which E, the bounded exponential, goes on straight."""


def cross_entropy(label_smoothing: float) -> LossFunction:
    """−ln p of the right class, with its label smoothed."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(_wide(logits), labels, label_smoothing=label_smoothing)

    return loss


class BalancedSoftmax:
    """Cross entropy of the logits plus what each class has by its number of drawings alone."""

    def __init__(self, label_smoothing: float, offsets: Tensor | None) -> None:
        """offsets: float [K], tau · ln of each class's share; None: all classes are alike."""
        self._cross_entropy = cross_entropy(label_smoothing)
        self._offsets = offsets

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """−ln p of the right class."""
        scores = _wide(logits)
        if self._offsets is not None:
            if self._offsets.device != scores.device:
                self._offsets = self._offsets.to(scores.device)  # once, not at each step
            scores = scores + self._offsets.to(scores.dtype)
        return self._cross_entropy(scores, labels)


def distillation(logits: Tensor, teachers: list[Tensor]) -> Tensor:
    """Cross entropy between what teachers guess and what a network does: −Σ_k q_k ln p_k, the mean
    over N, of q = softmax(mean over the teachers of ln softmax(their logits)).

    logits, teachers: float [N, K] each.
    """
    each = [functional.log_softmax(_wide(one), dim=1) for one in teachers]
    guesses = functional.softmax(torch.stack(each).mean(0), dim=1)
    return functional.cross_entropy(_wide(logits), guesses)


def nll_without_log(logits: Tensor, labels: Tensor) -> Tensor:
    """−p of the right class: a mistake, here to be shown."""
    return -_log_p(logits, labels).exp().mean()


class NegativeLogLikelihood:
    """Log-softmax, then the negative log likelihood; checks its first logits.

    A softmax before it is a mistake that trains, badly: it is found once, at the first step.
    """

    def __init__(self) -> None:
        self._checked = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """−ln p of the right class."""
        if not self._checked:
            _refuse_probabilities(logits.detach())
            self._checked = True
        return functional.nll_loss(functional.log_softmax(_wide(logits), dim=1), labels)


def _refuse_probabilities(logits: Tensor) -> None:
    values = _wide(logits)
    within = bool(((values >= 0) & (values <= 1)).all())
    if logits.shape[1] > 1 and within and bool(((values.sum(1) - 1).abs() < 0.01).all()):
        raise ConfigError(
            "nll was fed probabilities: all values are in 0..1 and each row's sum is 1. Without "
            "the logarithm the loss starts near 0 and falls to -1, and its negation trains away "
            "from the right class; give it logits, with no softmax at the end of the network"
        )


def softmax_reciprocal(logits: Tensor, labels: Tensor) -> Tensor:
    """1 / p of the right class, on its tangent if that is steep."""
    return _bounded_exp(-_log_p(logits, labels)).mean()


def mse(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared error of the logits against one-hot."""
    scores = _wide(logits)
    right = functional.one_hot(labels, scores.shape[1])
    return (scores - right).square().sum(1).mean()


def l1(logits: Tensor, labels: Tensor) -> Tensor:
    """Absolute error of the softmax against one-hot."""
    return (-2 * torch.expm1(_log_p(logits, labels))).mean()


def hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """How much the margin lacks to 1."""
    return (1 - _margins(logits, labels)).clamp(min=0).mean()


def logistic(logits: Tensor, labels: Tensor) -> Tensor:
    """Logistic regression's, of the margin."""
    margins = _margins(logits, labels)
    return torch.logaddexp(-margins, torch.zeros_like(margins)).mean()


def exponential(logits: Tensor, labels: Tensor) -> Tensor:
    """Boosting's, of the margin, on its tangent if that is steep."""
    return _bounded_exp(-_margins(logits, labels)).mean()


def _wide(logits: Tensor) -> Tensor:
    """In float32 at least: eight bits of precision do not tell a loss of 1.001 from one of 1."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _log_p(logits: Tensor, labels: Tensor) -> Tensor:
    """ln p of the right class, [N], never above 0."""
    return functional.log_softmax(_wide(logits), dim=1).gather(1, labels[:, None]).squeeze(1)


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the right class less the largest of the others, [N]. Needs two classes."""
    scores = _wide(logits)
    right = labels[:, None]
    others = scores.scatter(1, right, float("-inf"))
    # Not amax: if two are equal, it would halve the gradient between them.
    return scores.gather(1, right).squeeze(1) - others.max(1).values


def _bounded_exp(u: Tensor) -> Tensor:
    """E: e^u up to a slope of STEEPEST, then straight on."""
    knee = math.log(STEEPEST)
    return u.clamp(max=knee).exp() + STEEPEST * (u - knee).clamp(min=0)
