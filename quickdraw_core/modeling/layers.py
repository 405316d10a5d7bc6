"""Where a network begins and ends: what is replaced when its input or its classes change."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The layer that reads the picture, with its dotted name; None for a network of points."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    return None


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """The layer that gives the logits, with its dotted name: the last linear one."""
    *_, last = ((n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear))
    return last


def weight_layers(network: nn.Module) -> list[nn.Module]:
    """The convolutions and linear layers, first to last, in the order they are declared."""
    return [m for m in network.modules() if isinstance(m, _ConvNd | nn.Linear)]


def input_layers(network: nn.Module) -> list[nn.Module]:
    """The layers that read the input: the first one, or those that a network of several branches
    names in `input_layers`.
    """
    return list(getattr(network, "input_layers", weight_layers(network)[:1]))


def set_dropout(network: nn.Module, share: float) -> None:
    """Has each dropout layer leave out `share` of what it is given, 0 to less than 1."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def reinitialized_convolution(
    old: nn.Conv2d, channels: int, kernel: int, stride: int, padding: int
) -> nn.Conv2d:
    """A fresh convolution of another input and kernel, whose output is as strong as the old one's.

    Its weights are drawn with the spread of the old ones, corrected for how many are summed, so
    that each architecture keeps the initialisation its authors gave it.
    """
    new = nn.Conv2d(channels, old.out_channels, kernel, stride, padding, bias=old.bias is not None)
    _reinitialize(new.weight, new.bias, old.weight)
    return new


def reinitialized_linear(old: nn.Linear, inputs: int) -> nn.Linear:
    """A fresh linear layer of another number of inputs, see `reinitialized_convolution`."""
    new = nn.Linear(inputs, old.out_features, bias=old.bias is not None)
    _reinitialize(new.weight, new.bias, old.weight)
    return new


@torch.no_grad()
def _reinitialize(weight: Tensor, bias: Tensor | None, old: Tensor) -> None:
    summed, summed_before = weight[0].numel(), old[0].numel()
    # A tensor, not a number: on the meta device, where shapes are tried out, there is none.
    weight.normal_().mul_(old.std() * math.sqrt(summed_before / summed))
    if bias is not None:
        bias.zero_()
