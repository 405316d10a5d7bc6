"""Networks: one row of `MODELS` a choice, each for any number of classes.

In: float [N, C, S, S], values 0..1. Out: logits float [N, K]. A network reads a picture or, in
the same tensor, the points themselves; a row says which.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from quickdraw_core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import nn

SMALL_IMAGE_PX = 64
"""Up to this side a network gets a small-image stem: the usual one would throw away 15 of 16
pixels of what little there is."""

Reads = Literal["picture", "points"]


class Model(NamedTuple):
    """A row of the table: builds a network for (channels, classes, side in px, small stem), why.

    channels: numbers of input channels that it takes. reads: what they must hold. least_px: the
    smallest side that the usual stem can take; None: there is but one stem, and any side will
    do. imagenet: torchvision has weights for it, trained on ImageNet.
    """

    build: "Callable[[int, int, int, bool], nn.Module]"
    reason: str
    channels: tuple[int, ...] = (1, 3)
    reads: Reads = "picture"
    least_px: int | None = None
    imagenet: bool = False


# torch, which the networks need, takes two seconds to load: not for who looks a row up.
def _small_cnn(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
    from quickdraw_core.modeling.small_cnn import small_cnn

    return small_cnn(channels, classes)


def _stroke_transformer(
    channels: int, classes: int, side_px: int, small_stem: bool
) -> "nn.Module":
    from quickdraw_core.modeling.stroke_transformer import StrokeTransformer

    return StrokeTransformer(classes)


def _net(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
    from quickdraw_core.modeling.net import net

    return net(channels, classes, side_px)


def _torchvision(name: str, reason: str, least_px: int = 1) -> Model:
    def build(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
        from quickdraw_core.modeling.torchvision_models import torchvision_network

        return torchvision_network(name, channels, classes, side_px, small_stem)

    return Model(build, reason, least_px=least_px, imagenet=True)


MODELS: dict[str, Model] = {
    "small_cnn": Model(
        _small_cnn,
        "for CPUs: a narrow residual network, 1.2 M weights",
    ),
    "stroke_transformer": Model(
        _stroke_transformer,
        "reads the points themselves, in the order they were drawn; 1.3 M weights",
        channels=(3,),
        reads="points",
    ),
    "net": Model(
        _net,
        "the report's own: two convolutions, three linear layers",
    ),
    "vgg11": _torchvision("vgg11", "the report's; no norms, 130 M weights", least_px=32),
    "resnet18": _torchvision("resnet18", "the report's best, 11 M weights; for GPUs"),
    "resnet34": _torchvision("resnet34", "the report's; twice as deep, 21 M weights"),
    "densenet121": _torchvision("densenet121", "the report's; 121 layers, 7 M", least_px=29),
    "mobilenet_v3_small": _torchvision("mobilenet_v3_small", "for phones and CPUs, 1.9 M weights"),
    "convnext_tiny": _torchvision("convnext_tiny", "a newer one, 28 M weights", least_px=32),
}


def find_model(name: str) -> Model:
    """The row of `name`. Raises `ConfigError` for an unknown one."""
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: {nearest(name, MODELS)}")
    return MODELS[name]


def check_model(
    name: str,
    channels: int,
    reads: Reads,
    side_px: int = SMALL_IMAGE_PX,
    *,
    small_stem: bool | None = None,
    pretrained: str | None = None,
) -> None:
    """Refuses what `build_model` could not build, or could not feed, without building it.

    channels, reads: of the encoding. Raises `ConfigError` naming the remedy.
    """
    row = find_model(name)
    if reads != row.reads:
        wanted = "encoding=points" if row.reads == "points" else "encoding=gray or encoding=order"
        fitting = ", ".join(key for key, other in MODELS.items() if other.reads == reads)
        raise ConfigError(
            f"{name} reads a drawing's {row.reads}, the encoding gives its {reads}; set {wanted}, "
            f"or a model that reads {reads}: {fitting}"
        )
    if channels not in row.channels:
        takes = " or ".join(map(str, row.channels))
        raise ConfigError(
            f"{name} takes {takes} channels, the encoding gives {channels}; set another encoding"
        )
    if row.least_px and side_px < row.least_px and not _is_small(side_px, small_stem):
        raise ConfigError(
            f"{name} takes no picture of {side_px} px with its usual stem; set side_px of "
            f"{row.least_px} or more, or small_stem=true"
        )
    if pretrained == "imagenet" and not row.imagenet:
        known = ", ".join(key for key, other in MODELS.items() if other.imagenet)
        raise ConfigError(
            f"{name} has no weights trained on ImageNet, these have: {known}; leave out "
            "pretrained or give a file"
        )


def build_model(
    name: str,
    channels: int,
    classes: int,
    side_px: int,
    *,
    small_stem: bool | None = None,
    pretrained: str | None = None,
) -> "nn.Module":
    """A network: float [N, channels, side_px, side_px] → logits float [N, classes].

    small_stem: keep more of the picture at the beginning, for sides up to 64 px; None: there,
    and only there. Networks with one stem have no use for it. pretrained: "imagenet" for
    torchvision's weights, or a file with a state dict of this network; weights are fitted to
    channels and stem, the last layer is fresh where its classes are others. Fresh weights come
    from torch's global generator.

    Raises `ConfigError` for an unknown name, what `check_model` refuses, and weights that cannot
    be had or do not fit.
    """
    row = find_model(name)
    check_model(name, channels, row.reads, side_px, small_stem=small_stem, pretrained=pretrained)
    network = row.build(channels, classes, side_px, _is_small(side_px, small_stem))
    if pretrained is not None:
        from quickdraw_core.modeling.pretrained import load_pretrained

        load_pretrained(network, name, pretrained, has_imagenet=row.imagenet)
    return network


def _is_small(side_px: int, small_stem: bool | None) -> bool:
    return side_px <= SMALL_IMAGE_PX if small_stem is None else small_stem
