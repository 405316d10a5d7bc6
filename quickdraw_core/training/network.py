"""The network that a configuration describes, or a checkpoint holds."""

from torch import Tensor, nn

from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.labels import LabelMap
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.modeling.models import build_model
from quickdraw_core.stage import Opened
from quickdraw_core.training.checkpoint import Checkpoint, open_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distill import require_recorded, teacher_files


def new_network(config: TrainConfig, classes: int, pretrained: str | None = None) -> nn.Module:
    """The configured network with first weights: drawn at random, or those of `pretrained`."""
    model = config.model.model_copy(update={"pretrained": pretrained})
    return build_model(model, config.image, classes)


def network_of(checkpoint: Checkpoint) -> tuple[nn.Module, TrainConfig]:
    """The network that a checkpoint holds, for use, on the CPU, and its configuration.

    Raises `CheckpointError` if its weights do not fit the model that it names.
    """
    config = TrainConfig.parse(checkpoint.config)
    return with_flip(_trained(checkpoint, config).eval(), config), config


def teacher_of(checkpoint: Checkpoint) -> nn.Module:
    """The network of a teacher, for use, on the CPU. Without flip TTA: it takes as long again, and
    a drawing comes mirrored now and then in training anyway.
    """
    return _trained(checkpoint, TrainConfig.parse(checkpoint.config)).eval().requires_grad_(False)


def require_teachers(config: TrainConfig, label_map: LabelMap, opened: Opened) -> None:
    """Raises `ConfigError` or `CheckpointError` if a training cannot learn from its teachers: from
    their files, or since they know other words, or read other images.
    """
    if config.distill is None:
        return
    require_recorded(config.distill)
    for file in teacher_files(config.distill):
        checkpoint = open_checkpoint(file, opened)
        if checkpoint.label_map != label_map:
            raise ConfigError(
                f"the teacher {file} knows {len(checkpoint.label_map)} words that are not the "
                f"{len(label_map)} of the store; give one that was trained on the same words"
            )
        images = [
            f"{image.encoding} of {image.side_px} px"
            for image in (TrainConfig.parse(checkpoint.config).image, config.image)
        ]
        if images[0] != images[1]:
            raise ConfigError(
                f"the teacher {file} reads {images[0]}, and the training {images[1]}; give one "
                "of the same images, or set image.encoding and image.side_px as it has them"
            )
        teacher_of(checkpoint)


def _trained(checkpoint: Checkpoint, config: TrainConfig) -> nn.Module:
    network = new_network(config, len(checkpoint.label_map))
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint does not fit its own model {config.model.name}: it was written by "
            "another version; train again"
        ) from error
    return network


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
