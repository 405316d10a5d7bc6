"""`Muon`: torch's Muon for the matrices inside a network, AdamW for all else, as one optimiser.

Muon makes the step of a weight matrix orthogonal, so that no direction in it dominates (Jordan
et al., "Muon: an optimizer for hidden layers in neural networks", 2024). It is meant for hidden
matrices only; first and last layer, biases and norms stay with AdamW. Its steps are scaled to
AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), so one learning rate serves both.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from quickdraw_core.modeling.layers import weight_layers


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Weights of convolutions and linear layers, but the first and the last one's.

    Not those of grouped convolutions: a depthwise one is no matrix but a filter a channel.
    """
    between = weight_layers(network)[1:-1]
    weights = [m.weight for m in between if getattr(m, "groups", 1) == 1]
    return [w for w in weights if isinstance(w, nn.Parameter) and w.requires_grad]


class Muon(Optimizer):
    """Steps `matrices` by torch's Muon, the other parameters of `groups` by AdamW.

    A convolution [out, in, k, k] is stepped as a matrix [out, in·k·k], whatever its layout in
    memory: a view of it where that is possible, else a copy that is written back. So the state
    is the same on a device that keeps channels last and on one that does not.
    """

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
        self._parameters = matrices
        self._flat = [p.detach().flatten(1) for p in matrices]
        self._muon = torch.optim.Muon(
            self._flat, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(others, learning_rate, fused=fused or None)
        self._share_groups()

    def _share_groups(self) -> None:
        """Lets a caller set `lr` here for both."""
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. A closure is not called: no row of the table needs one."""
        for flat, parameter in zip(self._flat, self._parameters, strict=True):
            flat.data = parameter.detach().flatten(1)
            flat.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()
        for flat, parameter in zip(self._flat, self._parameters, strict=True):
            if flat.data_ptr() != parameter.data_ptr():
                parameter.copy_(flat.view(parameter.shape))
            flat.grad = None
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters."""
        self._adamw.zero_grad(set_to_none)
        for parameter in self._parameters:
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Both states: tensors and plain values alone."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, exactly."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()
