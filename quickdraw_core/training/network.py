"""The network that a configuration describes, or a checkpoint holds."""

from torch import Tensor, nn

from quickdraw_core.errors import CheckpointError
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.modeling.models import build_model, find_model
from quickdraw_core.render.encodings import find_encoding
from quickdraw_core.training.checkpoint import Checkpoint
from quickdraw_core.training.config import TrainConfig


def new_network(config: TrainConfig, classes: int, pretrained: str | None = None) -> nn.Module:
    """The configured network with first weights: by chance, or those of `pretrained`."""
    return build_model(
        config.model,
        find_encoding(config.encoding).channels,
        classes,
        config.side_px,
        small_stem=config.small_stem,
        pretrained=pretrained,
    )


def network_of(checkpoint: Checkpoint) -> tuple[nn.Module, TrainConfig]:
    """The network that a checkpoint holds, for use, on the CPU, and its configuration.

    Raises `CheckpointError` where its weights do not fit the model that it names.
    """
    config = TrainConfig.parse(checkpoint.config)
    network = new_network(config, len(checkpoint.label_map))
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint does not fit its own model {config.model}: it was written by another "
            "version; train again"
        ) from error
    return with_flip(network.eval(), config), config


def with_flip(network: nn.Module, config: TrainConfig) -> nn.Module:
    """The network as it is judged and used: with two looks at each drawing, if it takes them."""
    return FlipTTA(network, find_model(config.model).reads) if config.mirror else network


class Uint8Input(nn.Module):
    """A network that takes images as they are drawn: uint8 [N, C, S, S] → logits [N, K]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_nchw: Tensor) -> Tensor:
        """As `Arithmetic.input` and the network after it."""
        return self.network(images_nchw.float() / 255)  # type: ignore[no-any-return]
