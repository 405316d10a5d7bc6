"""`Muon`: orthogonal steps for the matrices inside a network, AdamW for the rest, in one.

Muon makes the step of a weight matrix orthogonal, so that no direction in it dominates (Jordan
et al., "Muon: an optimizer for hidden layers in neural networks", 2024). It is meant for hidden
matrices only; first and last layer, biases and norms stay with AdamW. Its steps are scaled to
AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), so one learning rate serves both.

`torch.optim.Muon` computes in bfloat16, for GPUs that have instructions for it. A processor
without them took 2.1 s for a step of `small_cnn`, fourteen times what the network itself took for
64 images. Here products are in float32, and of matrices as small as they can be: 0.04 s there.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from quickdraw_core.modeling.layers import input_layers, weight_layers

_MOMENTUM = 0.95
_RMS = 0.2
"""Of the values of a step, at a learning rate of 1: about that of AdamW's (Liu et al.)."""
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of a quintic that is as steep at 0 as it can be and stays between 0.7 and 1.2 after (Jordan)."""
_ITERATIONS = 5
_LEAST_NORM = 1e-7


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Weights of convolutions and linear layers, but the last one's and those that read the input.

    Not those of grouped convolutions: a depthwise one is no matrix but a filter a channel.
    """
    first = input_layers(network)
    between = [m for m in weight_layers(network)[:-1] if m not in first]
    weights = [m.weight for m in between if getattr(m, "groups", 1) == 1]
    return [w for w in weights if isinstance(w, nn.Parameter) and w.requires_grad]


def orthogonalized(matrix: Tensor) -> Tensor:
    """About the nearest matrix with orthonormal rows (or columns, if those are fewer): float
    [R, C] → [R, C], all singular values near 1 but those that were nearly 0.

    Five Newton-Schulz steps X ← aX + b(XXᵀ)X + c(XXᵀ)²X. All of them are polynomials of the first
    XXᵀ, so it is iterated on that small square matrix, and X is multiplied once, at the end: two
    fifths of the work for a matrix nine times as wide as high ("Gram Newton-Schulz", Zhang, Amsel,
    Chen and Dao, 2026). In half precision that needs restarts, which float32 does not: the error
    is below 1e-3, where bfloat16's is 0.02 and more.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=_LEAST_NORM)
    gram = wide @ wide.T
    product = _factor(gram)
    factor = product
    for _ in range(_ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        product = factor @ product
    result: Tensor = product @ wide
    return result if matrix.shape[0] <= matrix.shape[1] else result.T


def _factor(gram: Tensor) -> Tensor:
    """What a step multiplies X with: aI + bG + cG² of its G = XXᵀ, float [R, R]."""
    a, b, c = _COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


class Orthogonal(Optimizer):
    """Steps matrices as `torch.optim.Muon` does, see `orthogonalized`.

    A convolution [out, in, k, k] is stepped as a matrix [out, in·k·k], whatever its layout in
    memory. So the state is the same on a device that keeps channels last and on one that does
    not.
    """

    def __init__(
        self, matrices: list[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step. A closure is not called: no row of the table needs one."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient, state = parameter.grad.flatten(1), self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                buffer: Tensor = state["momentum_buffer"]
                buffer.lerp_(gradient, 1 - _MOMENTUM)
                step = orthogonalized(gradient.lerp(buffer, _MOMENTUM))
                scale = _RMS * math.sqrt(max(step.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.reshape(parameter.shape), alpha=-group["lr"] * scale)
        return None


class Muon(Optimizer):
    """Steps `matrices` by `Orthogonal`, the other parameters of `groups` by AdamW."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        groups: list[dict[str, Any]],
        learning_rate: float,
        weight_decay: float,
        *,
        fused: bool,
    ) -> None:
        chosen = {id(parameter) for parameter in matrices}
        others = [
            {**group, "params": [p for p in group["params"] if id(p) not in chosen]}
            for group in groups
        ]
        super().__init__([{"params": matrices}, *others], {"lr": learning_rate})
        self._orthogonal = Orthogonal(matrices, learning_rate, weight_decay)
        self._adamw = torch.optim.AdamW(others, learning_rate, fused=fused or None)
        self._share_groups()

    def _share_groups(self) -> None:
        """Lets a caller set `lr` here for both."""
        self.param_groups = [*self._orthogonal.param_groups, *self._adamw.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. A closure is not called: no row of the table needs one."""
        self._orthogonal.step()
        self._adamw.step()
        return None

    def state_dict(self) -> dict[str, Any]:
        """Both states: tensors and plain values alone."""
        return {"muon": self._orthogonal.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, exactly."""
        self._orthogonal.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()
