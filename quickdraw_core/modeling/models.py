"""Networks: one row of `MODELS` a choice, each for any number of classes.

In: float [N, C, S, S], values 0..1. Out: logits float [N, K]. A network reads a picture or, in
the same tensor, the points themselves; a row says which.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from quickdraw_core.config import NamedConfig, row_of
from quickdraw_core.errors import ConfigError
from quickdraw_core.render.encodings import ENCODINGS, Holds, ImageConfig

if TYPE_CHECKING:
    from torch import nn

SMALL_IMAGE_PX = 64
"""Up to this side a network gets a small-image stem: the usual one would throw away 15 of 16
pixels of what little there is."""


class Model(NamedTuple):
    """A row of the table: builds a network for (channels, classes, side in px, small stem), why.

    channels: numbers of input channels that it takes. reads: what they must hold. least_px: the
    smallest side that the usual stem can take; None: there is but one stem, and any side will
    do. imagenet: torchvision has weights for it, trained on ImageNet. weights: how many it has
    about, at (classes, side in px, small stem), known without torch. dropout: the share of its
    features that a training leaves out unless told otherwise; None: it has no layer for it.
    """

    build: "Callable[[int, int, int, bool], nn.Module]"
    reason: str
    weights: "Callable[[int, int, bool], int]"
    channels: tuple[int, ...] = (1, 3)
    reads: Holds = "picture"
    least_px: int | None = None
    imagenet: bool = False
    dropout: float | None = None


# torch, which the networks need, takes two seconds to load: not to look a row up.
def _small_cnn(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
    from quickdraw_core.modeling.small_cnn import small_cnn

    return small_cnn(channels, classes)


def _stroke_transformer(
    channels: int, classes: int, side_px: int, small_stem: bool
) -> "nn.Module":
    from quickdraw_core.modeling.stroke_transformer import StrokeTransformer

    return StrokeTransformer(classes)


def _sketch_fusion(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
    from quickdraw_core.modeling.sketch_fusion import sketch_fusion

    return sketch_fusion(channels, classes)


def _sketch_fusion_resnet34(
    channels: int, classes: int, side_px: int, small_stem: bool
) -> "nn.Module":
    from quickdraw_core.modeling.sketch_fusion import sketch_fusion_resnet34

    return sketch_fusion_resnet34(channels, classes, side_px, small_stem)


def _net(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
    from quickdraw_core.modeling.net import net

    return net(channels, classes, side_px)


def _body_and_last(body: int, features: int) -> Callable[[int, int, bool], int]:
    """Weights of a network whose last layer alone depends on the classes."""
    return lambda classes, side_px, small_stem: body + (features + 1) * classes


def _net_weights(classes: int, side_px: int, small_stem: bool) -> int:
    cells = ((side_px - 4) // 2 - 4) // 2
    return 13_032 + 1_920 * cells * cells + 85 * classes


def _vgg_weights(classes: int, side_px: int, small_stem: bool) -> int:
    cells = min(side_px // 16, 7) if small_stem else 7
    return 26_005_888 + (512 * 4_096) * cells * cells + 4_097 * classes


def _torchvision(
    name: str,
    reason: str,
    weights: Callable[[int, int, bool], int],
    least_px: int = 1,
    dropout: float | None = None,
) -> Model:
    def build(channels: int, classes: int, side_px: int, small_stem: bool) -> "nn.Module":
        from quickdraw_core.modeling.torchvision_models import torchvision_network

        return torchvision_network(name, channels, classes, side_px, small_stem)

    return Model(build, reason, weights, least_px=least_px, imagenet=True, dropout=dropout)


MODELS: dict[str, Model] = {
    "small_cnn": Model(
        _small_cnn,
        "for CPUs: a narrow residual network, 1.2 M weights",
        _body_and_last(1_226_400, 256),
        dropout=0.2,
    ),
    "stroke_transformer": Model(
        _stroke_transformer,
        "reads the points themselves, in the order they were drawn; 1.3 M weights",
        _body_and_last(1_272_800, 160),
        channels=(3,),
        reads="points",
        dropout=0.1,
    ),
    "sketch_fusion": Model(
        _sketch_fusion,
        "reads picture and points: small_cnn and a network along the strokes; 1.4 M weights",
        _body_and_last(1_368_864, 512),
        channels=(6,),
        reads="picture and points",
        dropout=0.2,
    ),
    "sketch_fusion_resnet34": Model(
        _sketch_fusion_resnet34,
        "reads picture and points: resnet34 and a network along the strokes; 21 M weights",
        _body_and_last(21_427_136, 768),
        channels=(6,),
        reads="picture and points",
        least_px=1,
        dropout=0.2,
    ),
    "net": Model(
        _net,
        "the report's own: two convolutions, three linear layers",
        _net_weights,
    ),
    "vgg11": _torchvision(
        "vgg11", "the report's; no norms, 130 M weights", _vgg_weights, 32, dropout=0.5
    ),
    "resnet18": _torchvision(
        "resnet18",
        "the report's best, 11 M weights; for GPUs",
        _body_and_last(11_176_512, 512),
    ),
    "resnet34": _torchvision(
        "resnet34",
        "the report's; twice as deep, 21 M weights",
        _body_and_last(21_284_672, 512),
    ),
    "resnext50_32x4d": _torchvision(
        "resnext50_32x4d",
        "near to the challenge's best single networks; 50 layers, 23 M weights",
        _body_and_last(22_979_904, 2_048),
    ),
    "densenet121": _torchvision(
        "densenet121",
        "the report's; 121 layers, 7 M",
        _body_and_last(6_953_856, 1_024),
        least_px=29,
    ),
    "mobilenet_v3_small": _torchvision(
        "mobilenet_v3_small",
        "for phones and CPUs, 1.9 M weights",
        _body_and_last(1_517_856, 1_024),
        dropout=0.2,
    ),
    "convnext_tiny": _torchvision(
        "convnext_tiny",
        "a newer one, 28 M weights",
        _body_and_last(27_820_128, 768),
        least_px=32,
    ),
}


class ModelConfig(NamedConfig):
    """The network, where its first weights come from, and how it is computed."""

    name: Annotated[str, row_of(MODELS)] = Field("small_cnn", description="row of MODELS")
    pretrained: str | None = Field(
        None,
        description="first weights: imagenet (torchvision's), or a file; default: drawn at random",
    )
    small_stem: bool | None = Field(
        None, description="a stem for small images; default: for images of up to 64 px"
    )
    flip_tta: bool = Field(
        False, description="judge and guess by each drawing and its mirror image together"
    )
    branch_drop_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="train on this share of the drawings without their picture, and on as many "
        "without their points; for networks with a branch for each",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="dropout: share of the features that each step leaves out, against learning "
        "the drawings by heart; default: the network's own, 0.1 to 0.5",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="of products; auto: bf16 on GPUs since Ampere and CPUs with AMX or "
        "AVX-512 BF16",
    )

    @property
    def reads(self) -> Holds:
        """What its images hold."""
        return MODELS[self.name].reads

    def has_small_stem(self, side_px: int) -> bool:
        """Whether it has the stem for small images: as set, else up to 64 px."""
        return side_px <= SMALL_IMAGE_PX if self.small_stem is None else self.small_stem


def check_model(model: ModelConfig, image: ImageConfig) -> None:
    """Refuses what `build_model` could not build, or could not feed, without building it.

    Raises `ConfigError` naming the remedy.
    """
    name, row = model.name, MODELS[model.name]
    if image.holds != row.reads:
        encodings = [key for key, other in ENCODINGS.items() if other.holds == row.reads]
        fitting = ", ".join(key for key, other in MODELS.items() if other.reads == image.holds)
        raise ConfigError(
            f"{name} reads a drawing's {row.reads}, the encoding gives its {image.holds}; set "
            f"image.encoding={' or image.encoding='.join(encodings)}, or a model that reads "
            f"{image.holds}: {fitting}"
        )
    if image.channels not in row.channels:
        takes = " or ".join(map(str, row.channels))
        raise ConfigError(
            f"{name} takes {takes} channels, the encoding gives {image.channels}; set another "
            "image.encoding"
        )
    small = model.has_small_stem(image.side_px)
    if row.least_px and image.side_px < row.least_px and not small:
        raise ConfigError(
            f"{name} takes no picture of {image.side_px} px with its usual stem; set "
            f"image.side_px of {row.least_px} or more, or model.small_stem=true"
        )
    if model.dropout and row.dropout is None:
        known = ", ".join(key for key, other in MODELS.items() if other.dropout is not None)
        raise ConfigError(
            f"{name} has no dropout layer, found model.dropout={model.dropout}; set "
            f"model.dropout=none, or a model that has one: {known}"
        )
    if model.pretrained == "imagenet" and not row.imagenet:
        known = ", ".join(key for key, other in MODELS.items() if other.imagenet)
        raise ConfigError(
            f"{name} has no weights trained on ImageNet, these have: {known}; leave out "
            "model.pretrained or give a file"
        )


def build_model(model: ModelConfig, image: ImageConfig, classes: int) -> "nn.Module":
    """A network: float [N, C, side_px, side_px] → logits float [N, classes].

    Networks with one stem have no use for `small_stem`. Pretrained weights are fitted to channels
    and stem, the last layer is fresh if its classes are others. Fresh weights come from
    torch's global generator.

    Raises `ConfigError` for what `check_model` refuses, and weights that cannot be had or do not
    fit.
    """
    check_model(model, image)
    row, small = MODELS[model.name], model.has_small_stem(image.side_px)
    network = row.build(image.channels, classes, image.side_px, small)
    if row.reads == "picture and points":
        network.branch_drop_share = model.branch_drop_share  # type: ignore[assignment]
    if model.dropout is not None:
        from quickdraw_core.modeling.layers import set_dropout

        set_dropout(network, model.dropout)
    if model.pretrained is not None:
        from quickdraw_core.modeling.pretrained import load_pretrained

        load_pretrained(network, model.name, model.pretrained)
    return network
