"""The trainings of an audit: one a fold, which learns from nothing in it.

A fold is a part of all drawings, train, validation and test alike, by a hash of the key_id
(`store.holdout.fold_of`). Its model learns from train drawings of the other folds, and is chosen
on their validation drawings. So whatever it says of a drawing of its own fold, it has not seen it.
"""

from pathlib import Path

from quickdraw_core.assignments import flattened
from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.errors import ConfigError
from quickdraw_core.recipes import find_recipe
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.training.config import TrainConfig

_OURS = ("store", "run_dir", "fresh", "select.fold", "hosts")
"""What the audit itself sets in its trainings."""


def fold_folder(folder: Path, fold: int) -> Path:
    """The run folder of a fold's training."""
    return folder / f"fold-{fold}"


def fold_configs(config: AuditConfig, folder: Path) -> list[TrainConfig]:
    """The training of each fold, in a folder of its own within `folder`.

    Raises `ConfigError` for a wrong option, or one that the audit itself sets.
    """
    for key in flattened(config.changes):
        owner = next((name for name in _OURS if key == name or key.startswith(f"{name}.")), None)
        if owner is not None:
            raise ConfigError(
                f"--set {key}: an audit sets that itself, so that a training leaves out its fold; "
                "leave it out"
            )
    base = find_recipe(config.recipe).updated({"tracking": {"uri": NO_TRACKING}})
    base = base.updated(config.changes)
    if base.model.pretrained not in (None, "imagenet"):
        raise ConfigError(
            f"model.pretrained={base.model.pretrained}: these weights may have been trained on "
            "the drawings that they are to score; an audit takes imagenet, or none"
        )
    if base.distill is not None:
        raise ConfigError(
            "distill.teachers: these models may have been trained on the drawings that they are "
            "to score; leave distill out of an audit"
        )
    if config.per_class is not None:
        base = base.updated({"select": {"per_class": config.per_class}})
    return [
        base.updated(
            {
                "store": config.store,
                "run_dir": fold_folder(folder, fold),
                "select": {"fold": {"of": config.folds, "left_out": fold}},
            }
        )
        for fold in range(config.folds)
    ]
