"""Optimisers: one row of `OPTIMIZERS` a choice.

Whatever the row, the training loop sets `lr` of every parameter group at each step, and a state
dict holds tensors and plain values alone. The variants are the fastest measured on a CPU, one
thread, 1.3 M weights: AdamW fused 1.4 ms a step against 7.3 (foreach) and 9.7 (a loop), SGD
foreach 0.6 ms against 0.8 (a loop) and 1.0 (fused).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from quickdraw_core.config import NamedConfig, row_of
from quickdraw_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Groups = list[dict[str, object]]


class Trained(NamedTuple):
    """Parameters by what an optimiser does with them.

    weights: of convolutions and linear layers, decayed. vectors: biases, norms and the like, not
    decayed. matrices: those of the weights between the first and the last layer, as far as they
    are known: of a network, not of bare parameters.
    """

    weights: list["nn.Parameter"]
    vectors: list["nn.Parameter"]
    matrices: list["nn.Parameter"]

    def groups(self, weight_decay: float) -> Groups:
        """Two parameter groups: decayed and not."""
        return [
            {"params": self.weights, "weight_decay": weight_decay},
            {"params": self.vectors, "weight_decay": 0.0},
        ]

    @property
    def fusible(self) -> bool:
        """If torch has a fused kernel for where they are."""
        return all(p.device.type in ("cpu", "cuda") for p in (*self.weights, *self.vectors))


class OptimizerRow(NamedTuple):
    """A row of the table: makes the optimiser of (parameters, learning rate, decay), and why.

    weight_decay: if none is asked for. Decay that is part of the gradient wants far less of it
    than decay that is not: 0.02 keeps sgd and adam from learning at all. numbers: what is kept
    of each weight beside it, at least.
    """

    make: "Callable[[Trained, float, float], Optimizer]"
    reason: str
    weight_decay: float
    numbers: int


def _sgd(trained: Trained, learning_rate: float, weight_decay: float) -> "Optimizer":
    from torch.optim import SGD

    groups = trained.groups(weight_decay)
    return SGD(groups, learning_rate, momentum=0.9, foreach=True)


def _adam(trained: Trained, learning_rate: float, weight_decay: float) -> "Optimizer":
    from torch.optim import Adam

    groups = trained.groups(weight_decay)
    return Adam(groups, learning_rate, fused=trained.fusible or None)


def _adamw(trained: Trained, learning_rate: float, weight_decay: float) -> "Optimizer":
    from torch.optim import AdamW

    groups = trained.groups(weight_decay)
    return AdamW(groups, learning_rate, fused=trained.fusible or None)


def _muon(trained: Trained, learning_rate: float, weight_decay: float) -> "Optimizer":
    from quickdraw_core.modeling.muon import Muon

    if not trained.matrices:
        raise ConfigError(
            "muon needs matrices between the first and the last layer, and found none; give it "
            "a network that has some, or use adamw"
        )
    return Muon(
        trained.matrices,
        trained.groups(weight_decay),
        learning_rate,
        weight_decay,
        fused=trained.fusible,
    )


OPTIMIZERS: dict[str, OptimizerRow] = {
    "sgd": OptimizerRow(_sgd, "with momentum 0.9, as the original report", 0.0, 1),
    "adam": OptimizerRow(_adam, "the report's other; decay is part of the gradient", 0.0, 2),
    "adamw": OptimizerRow(_adamw, "decoupled weight decay (Loshchilov and Hutter, 2017)", 0.02, 2),
    "muon": OptimizerRow(
        _muon, "orthogonal steps for hidden matrices, AdamW for the rest (Jordan, 2024)", 0.05, 1
    ),
}


class OptimizerConfig(NamedConfig):
    """The optimizer of a training, and what is done to gradient and weights beside it."""

    name: Annotated[str, row_of(OPTIMIZERS)] = Field("adamw", description="row of OPTIMIZERS")
    learning_rate: float = Field(0.01, gt=0, description="the highest, at the schedule's factor 1")
    weight_decay: float | None = Field(
        None, ge=0, description="of weights, not of biases and norms; default: the optimizer's own"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="norm to which a larger gradient is scaled; default: no limit"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="a step, of an average of the weights; default: no average"
    )


def build_optimizer(
    optimizer: OptimizerConfig, network: "nn.Module | Iterable[nn.Parameter]"
) -> "Optimizer":
    """The optimiser of a network's parameters, on the device where they are.

    Biases, norms and other vectors are not decayed. Bare parameters do for all but muon, which
    must know what layers they are of.
    """
    row = OPTIMIZERS[optimizer.name]
    decay = row.weight_decay if optimizer.weight_decay is None else optimizer.weight_decay
    return row.make(_sorted(network), optimizer.learning_rate, decay)


def _sorted(network: "nn.Module | Iterable[nn.Parameter]") -> Trained:
    from torch import nn

    from quickdraw_core.modeling.muon import hidden_matrices

    if isinstance(network, nn.Module):
        parameters, matrices = list(network.parameters()), hidden_matrices(network)
    else:
        parameters, matrices = list(network), []
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return Trained(
        weights=[p for p in trained if not _is_vector(p)],
        vectors=[p for p in trained if _is_vector(p)],
        matrices=matrices,
    )


def _is_vector(parameter: "nn.Parameter") -> bool:
    """One number a channel, also written as [C, 1, 1], as ConvNeXt's scales are."""
    return parameter.ndim < 2 or (parameter.ndim == 3 and parameter.shape[1:].numel() == 1)
