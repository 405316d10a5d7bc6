"""Networks of torchvision for any number of channels and classes, and their small-image stems.

The usual stems are made for pictures of 224 px: they keep one value of 16 pixels or more before
the first block looks at anything. A small stem keeps more of a picture of up to 64 px:

| network | usual stem | small stem |
| --- | --- | --- |
| resnet*, resnext50_32x4d, densenet121 | 7 × 7 stride 2, pooling | 3 × 3 stride 1, no pooling |
| mobilenet_v3_small | 3 × 3 stride 2, then a block of stride 2 | both of stride 1 |
| convnext_tiny | patches of 4 × 4 | patches of 2 × 2 |
| vgg11 | 3 × 3, pooling; grid stretched to 7 × 7 | no pooling; grid left as it is |

(vgg11 would otherwise repeat the 2 × 2 cells that are left of 64 px until they are 7 × 7, for a
layer of 25,088 inputs and 4,096 outputs.)

Fresh weights are torchvision's, but for vgg11, the one network without norms: nothing in it makes
up for a scale that is off. torchvision draws its convolutions by fan-out and its linear layers
with a spread of 0.01, after which the logits of 35 classes differ between drawings by 0.002, and
SGD stays at chance for hundreds of steps. Drawn by fan-in, which keeps the scale from layer to
layer (He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, section 2.2), they differ by
0.14.
"""

from typing import cast

from torch import Tensor, nn

from quickdraw_core.modeling.layers import (
    first_convolution,
    reinitialized_convolution,
    reinitialized_linear,
    weight_layers,
)

VGG_GRID = 7
"""Cells along a side that vgg11's classifier expects."""
VGG_GRID_LAYER = "classifier.0"


def torchvision_network(
    name: str, channels: int, classes: int, side_px: int, small_stem: bool
) -> nn.Module:
    """A fresh network of torchvision: float [N, channels, S, S] → logits float [N, classes]."""
    from torchvision.models import get_model

    own = {"init_weights": False} if name == "vgg11" else {}
    network: nn.Module = get_model(name, num_classes=classes, **own)
    if small_stem:
        _shrink_stem(name, network, side_px)
    first = first_convolution(network)
    assert first is not None
    layer_name, layer = first
    if layer.in_channels != channels:
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        new = reinitialized_convolution(layer, channels, kernel, stride, padding)
        network.set_submodule(layer_name, new)
    if name == "vgg11":
        _init_by_fan_in(network)
    return network


def _init_by_fan_in(network: nn.Module) -> None:
    for layer in weight_layers(network):
        nn.init.kaiming_normal_(cast(Tensor, layer.weight), nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, layer.bias))


def _shrink_stem(name: str, network: nn.Module, side_px: int) -> None:
    if name.startswith(("resnet", "resnext")):
        _finer(network, "conv1", kernel=3, stride=1, padding=1)
        network.set_submodule("maxpool", nn.Identity())
    elif name == "densenet121":
        _finer(network, "features.conv0", kernel=3, stride=1, padding=1)
        network.set_submodule("features.pool0", nn.Identity())
    elif name == "convnext_tiny":
        _finer(network, "features.0.0", kernel=2, stride=2, padding=0)
    elif name == "mobilenet_v3_small":
        for layer in ("features.0.0", "features.1.block.0.0"):
            cast(nn.Conv2d, network.get_submodule(layer)).stride = (1, 1)
    elif name == "vgg11":
        network.set_submodule("features.2", nn.Identity())
        cells = min(side_px // 16, VGG_GRID)
        network.set_submodule("avgpool", nn.AdaptiveAvgPool2d(cells))
        dense = cast(nn.Linear, network.get_submodule(VGG_GRID_LAYER))
        new = reinitialized_linear(dense, dense.in_features * cells**2 // VGG_GRID**2)
        network.set_submodule(VGG_GRID_LAYER, new)
    else:
        raise AssertionError(f"no small stem is known for {name}")


def _finer(network: nn.Module, name: str, kernel: int, stride: int, padding: int) -> None:
    layer = cast(nn.Conv2d, network.get_submodule(name))
    new = reinitialized_convolution(layer, layer.in_channels, kernel, stride, padding)
    network.set_submodule(name, new)
