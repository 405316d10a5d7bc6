"""Losses: one row of `LOSSES` a choice. All take logits, not probabilities.

In: logits float [N, K], labels int64 [N]. Out: the mean over N, a scalar. Logits of 16 bits are
computed in float32. With p = softmax(logits), y the right label, and the margin m, the right
class's logit less the largest of the others, each is the mean over the drawings of

| name | loss |
| --- | --- |
| cross_entropy, nll | −ln p_y |
| balanced_softmax | −ln softmax(logits + tau · ln π)_y, π_k the share of class k in the training |
| softmax_reciprocal | E(−ln p_y), which is 1 / p_y for p_y ≥ 1/10,000 |
| mse | Σ_k (logit_k − [k = y])² |
| l1 | Σ_k abs(p_k − [k = y]), which is 2 (1 − p_y) |
| hinge | max(0, 1 − m) |
| logistic | ln(1 + e^−m) |
| exponential | E(−m), which is e^−m for m ≥ −ln 10,000 |
| nll_without_log | −p_y: a mistake, here to be shown |

where E(u) is e^u up to STEEPEST = 10,000 and from there on its tangent: e^u and its gradient
would overflow, and one drawing that is wrong enough would outweigh all others before that. No
gradient with respect to a logit is steeper than STEEPEST / N.

balanced_softmax with tau 1 is that of Ren et al., "Balanced meta-softmax for long-tailed visual
recognition", 2020; with any tau the logit-adjusted loss of Menon et al., "Long-tail learning via
logit adjustment", 2021. The network then need not learn that some classes are rare, and guesses
as if all were equally frequent. Without counts it is the cross entropy.

The squares are of the logits themselves, as least squares for classification has them; behind
a softmax their gradient vanishes if the answer is wrong (Hui and Belkin, "Evaluation of
neural architectures trained with square loss vs cross-entropy", 2020). The absolute errors
are of the softmax: without, the best answer to more than two classes is 0 for all of them.
The margin is that of Crammer and Singer, "On the algorithmic implementation of multiclass
kernel-based vector machines", 2001.

Trained alike (`net`, 35 classes of 320 real drawings, 5 epochs, AdamW at 0.003), they reached
these MAP@3: cross_entropy and nll 0.76, mse 0.78 (of the softmax: 0.73), softmax_reciprocal
0.68, hinge 0.59, exponential 0.57, logistic 0.53 (one class against the rest: 0.32, 0.55,
0.47), l1 0.18: if many classes are to be told apart it hardly begins.
"""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from quickdraw_core.config import NamedConfig, row_of
from quickdraw_core.errors import ConfigError

if TYPE_CHECKING:
    from quickdraw_core.drawing import Float64Array
    from quickdraw_core.modeling.loss_functions import LossFunction


class Loss(NamedTuple):
    """A row of the table: makes the function, why, if it smooths labels and if it has a tau.

    make: of the label smoothing and of float64 [K] to be added to logits, or None.
    """

    make: "Callable[[float, Float64Array | None], LossFunction]"
    reason: str
    smooths: bool = False
    has_tau: bool = False


def _functions() -> ModuleType:
    """Imported when one is called for: torch, which they need, takes two seconds to load."""
    from quickdraw_core.modeling import loss_functions

    return loss_functions


def _plain(name: str) -> "Callable[[float, Float64Array | None], LossFunction]":
    """Makes a function that takes no label smoothing."""
    return lambda label_smoothing, offsets: getattr(_functions(), name)


def _balanced_softmax(label_smoothing: float, offsets: "Float64Array | None") -> "LossFunction":
    import torch

    # In float32, as the logits are: not every device has float64.
    values = None if offsets is None else torch.from_numpy(offsets).float()
    loss: LossFunction = _functions().BalancedSoftmax(label_smoothing, values)
    return loss


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(
        lambda label_smoothing, offsets: _functions().cross_entropy(label_smoothing),
        "log-softmax and negative log likelihood in one",
        smooths=True,
    ),
    "balanced_softmax": Loss(
        _balanced_softmax,
        "for classes of very different sizes: cross entropy that allows for their sizes",
        smooths=True,
        has_tau=True,
    ),
    "nll": Loss(
        lambda label_smoothing, offsets: _functions().NegativeLogLikelihood(),
        "the same in two steps, as the report has it; refuses probabilities",
    ),
    "softmax_reciprocal": Loss(
        _plain("softmax_reciprocal"), "the report's own: 1 / p of the right class, made safe"
    ),
    "mse": Loss(_plain("mse"), "squared error of the logits against one-hot"),
    "l1": Loss(_plain("l1"), "absolute error of the softmax against one-hot"),
    "hinge": Loss(_plain("hinge"), "the SVM's: nothing to gain beyond a margin of 1"),
    "logistic": Loss(_plain("logistic"), "logistic regression's, of the margin"),
    "exponential": Loss(_plain("exponential"), "boosting's, of the margin, made safe"),
    "nll_without_log": Loss(
        _plain("nll_without_log"),
        "a mistake to be shown: NLL of the softmax, its log forgotten; falls from -1/K to -1",
    ),
}


class LossConfig(NamedConfig):
    """The loss function of a training."""

    name: Annotated[str, row_of(LOSSES)] = Field("cross_entropy", description="row of LOSSES")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the label spread over all classes"
    )
    tau: float = Field(
        1.0,
        gt=0,
        le=4,
        description="of balanced_softmax: how much it allows for the sizes of classes",
    )

    @model_validator(mode="after")
    def _can_smooth(self) -> Self:
        if self.label_smoothing and not LOSSES[self.name].smooths:
            smoothing = ", ".join(key for key, row in LOSSES.items() if row.smooths)
            raise ConfigError(
                f"loss {self.name} has no label smoothing, found {self.label_smoothing:g}; set "
                f"loss.label_smoothing=0, or a loss that has it: {smoothing}"
            )
        if self.tau != 1 and not LOSSES[self.name].has_tau:
            having = ", ".join(key for key, row in LOSSES.items() if row.has_tau)
            raise ConfigError(
                f"loss {self.name} has no tau, found {self.tau:g}; leave out loss.tau, or set a "
                f"loss that has it: {having}"
            )
        return self


def build_loss(loss: LossConfig, log_prior: "Float64Array | None" = None) -> "LossFunction":
    """The function (logits float [N, K], labels int64 [N]) → mean over N, a scalar.

    log_prior: float64 [K], natural log of each class's share (`loading/prior.py`), for losses
    that allow for it.
    """
    offsets = None if log_prior is None else loss.tau * log_prior
    return LOSSES[loss.name].make(loss.label_smoothing, offsets)
