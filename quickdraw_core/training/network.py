"""The network that a configuration describes, or a checkpoint holds."""

from torch import Tensor, nn

from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.labels import require_same_labels
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.modeling.models import build_model
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import Checkpoint, load_checkpoint
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


def require_teachers(config: TrainConfig, store: Store) -> None:
    """Raises `ConfigError` or `CheckpointError` if a training on a store cannot learn from its
    teachers: for what their files are, the words they know, the images they read, or the drawings
    they have learned.
    """
    if config.distill is None:
        return
    require_recorded(config.distill)
    for file in teacher_files(config.distill):
        try:
            checkpoint = load_checkpoint(file)
            image = TrainConfig.parse(checkpoint.config).image
            teacher_of(checkpoint)
        except (CheckpointError, ConfigError) as error:
            raise CheckpointError(f"the teacher {file}: {error}") from error
        names = f"the teacher {file}", f"the store {store.path}"
        require_same_labels(checkpoint.label_map, names[0], store.label_map, names[1], ConfigError)
        images = [f"{each.encoding} of {each.side_px} px" for each in (image, config.image)]
        if images[0] != images[1]:
            raise ConfigError(
                f"{names[0]} reads {images[0]}, and the training {images[1]}; give one of the "
                "same images, or set image.encoding and image.side_px as it has them"
            )
        here = store.manifest.fingerprint
        if checkpoint.store_fingerprint != here and not config.distill.other_store:
            raise ConfigError(
                f"{names[0]} was trained on store {checkpoint.store_fingerprint[:12]}, and "
                f"{store.path} is {here[:12]}: it may have learned drawings that are held out "
                "here; give one of this store, or distill.other_store=true if you know that it "
                "has not"
            )


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
