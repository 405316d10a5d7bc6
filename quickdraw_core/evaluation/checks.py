"""What a pipeline can find wrong with an evaluation before there is a model, or even a store."""

from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.inference.held_out import find_held_out, require_same_store
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import open_store
from quickdraw_core.system.output_files import require_output
from quickdraw_core.training.config import TrainConfig


def check_asked(config: EvaluateConfig, training: TrainConfig) -> None:
    """Finds out before any work whether the model of a training can be judged as asked for.

    Raises `ConfigError`.
    """
    if config.model is not None:
        raise ConfigError(
            "a pipeline judges the model that it trains, but was given evaluate.model "
            f"{config.model}; leave it out, or put it into evaluate.ensemble"
        )
    if config.average > training.checkpoints.keep:
        raise ConfigError(
            f"evaluate.average={config.average} takes as many checkpoints, and the training "
            f"keeps {training.checkpoints.keep}; give train.checkpoints.keep={config.average}"
        )
    if config.json_file is not None:
        require_output(config.json_file)


def check_before_training(config: EvaluateConfig, opened: Opened) -> None:
    """Finds out before a model is trained whether the store, and those it is to guess together
    with, let it be judged. Raises `StoreError` or `CheckpointError`.
    """
    store = open_store(config.store, opened)
    find_held_out(config, store, opened)
    if config.ensemble:
        others = load_models(
            config.ensemble,
            config.tracking_uri,
            config.average,
            config.tta,
            precision=config.precision,
            opened=opened,
        )
        require_same_store(config, others, store)
