"""Named, complete training configurations: one row of `RECIPES` a choice.

Each says what it reaches, in what time, on what; `--set` changes single values of it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.training.config import TrainConfig


class Recipe(NamedTuple):
    """A row of the table: the values that differ from `TrainConfig`'s defaults, and why."""

    values: Mapping[str, Any]
    reason: str


RECIPES: dict[str, Recipe] = {
    "demo": Recipe(
        {"epochs": 8, "label_smoothing": 0.05}, "the generated doodles of `quickdraw demo`"
    ),
    "laptop": Recipe(
        {"epochs": 20, "label_smoothing": 0.05},
        "real drawings, some tens of classes, on two CPU cores",
    ),
    "resnet18": Recipe(
        {"model": "resnet18", "side_px": 64, "global_batch_size": 512, "micro_batch_size": 256},
        "ResNet-18 at 64 px with its small-image stem, for GPUs",
    ),
}


def find_recipe(name: str) -> TrainConfig:
    """The configuration of a recipe. Raises `ConfigError` for an unknown name."""
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
    return TrainConfig.parse(RECIPES[name].values)
