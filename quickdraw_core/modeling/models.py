"""Networks: one row of `MODELS` a choice, each for any number of channels and classes."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.modeling.small_cnn import small_cnn

SMALL_IMAGE_PX = 64
"""Up to this side a network gets a small-image stem: the usual one would throw away 15 of 16
pixels of what little there is."""


class Model(NamedTuple):
    """A row of the table: builds a network for (channels, classes, side in px), and why."""

    build: Callable[[int, int, int], nn.Module]
    reason: str


def _small_cnn(channels: int, classes: int, side_px: int) -> nn.Module:
    return small_cnn(channels, classes)


def _resnet18(channels: int, classes: int, side_px: int) -> nn.Module:
    from torchvision.models import resnet18

    network: nn.Module = resnet18(num_classes=classes)
    if side_px <= SMALL_IMAGE_PX:
        network.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return network


MODELS: dict[str, Model] = {
    "small_cnn": Model(_small_cnn, "for CPUs: a narrow residual network, 1.2 M weights"),
    "resnet18": Model(_resnet18, "the original report's best, from torchvision; for GPUs"),
}


def build_model(name: str, channels: int, classes: int, side_px: int) -> nn.Module:
    """A fresh network: float [N, channels, side, side] → logits float [N, classes].

    Raises `ConfigError` for an unknown name.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: {nearest(name, MODELS)}")
    return MODELS[name].build(channels, classes, side_px)
