"""The network that a configuration describes, or a checkpoint holds."""

from torch import Tensor, nn

from quickdraw_core.errors import CheckpointError
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.modeling.models import build_model
from quickdraw_core.training.checkpoint import Checkpoint
from quickdraw_core.training.config import TrainConfig


def new_network(config: TrainConfig, classes: int, pretrained: str | None = None) -> nn.Module:
    """The configured network with first weights: drawn at random, or those of `pretrained`."""
    model = config.model.model_copy(update={"pretrained": pretrained})
    return build_model(model, config.image, classes)


def network_of(checkpoint: Checkpoint) -> tuple[nn.Module, TrainConfig]:
    """The network that a checkpoint holds, for use, on the CPU, and its configuration.

    Raises `CheckpointError` if its weights do not fit the model that it names.
    """
    config = TrainConfig.parse(checkpoint.config)
    network = new_network(config, len(checkpoint.label_map))
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint does not fit its own model {config.model.name}: it was written by "
            "another version; train again"
        ) from error
    return with_flip(network.eval(), config), config


def with_flip(network: nn.Module, config: TrainConfig) -> nn.Module:
    """The network as it is judged and used: with flip TTA if its configuration says so."""
    return FlipTTA(network, config.model.reads) if config.model.flip_tta else network


class Uint8Input(nn.Module):
    """A network that takes images as they are drawn: uint8 [N, C, S, S] → logits [N, K]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_nchw: Tensor) -> Tensor:
        """As `Arithmetic.input` and the network after it."""
        return self.network(images_nchw.float() / 255)  # type: ignore[no-any-return]
