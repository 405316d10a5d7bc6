"""Configurations of trainings, for tests: values by the keys that `--set` takes."""

from collections.abc import Mapping
from typing import Any

from quickdraw_core.assignments import nested
from quickdraw_core.modeling.models import ModelConfig, build_model
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.training.config import TrainConfig


def train_config(values: Mapping[str, Any], **changes: Any) -> TrainConfig:
    """Values with `changes`, nested by group, laid over them."""
    return TrainConfig.parse(TrainConfig.layered(nested(values), nested(changes)))


def image_of(encoding: str, side_px: int) -> ImageConfig:
    """An image of any side, also of one that no training takes."""
    return ImageConfig.model_construct(encoding=encoding, side_px=side_px, draw_on="cpu")


def network_of(name: str, channels: int, classes: int, side_px: int, **options: Any) -> Any:
    """A network for so many channels. options: of `ModelConfig`."""
    model = ModelConfig.parse({"name": name} | options)
    of_pictures = {1: "gray", 3: "order", 6: "order_points"}
    encoding = "points" if model.reads == "points" else of_pictures[channels]
    return build_model(model, image_of(encoding, side_px), classes)
