"""Stored configurations of earlier versions, and today's: the keys of before values were grouped,
and what an option that was not there yet was as good as.
"""

from collections.abc import Mapping
from typing import Any

from quickdraw_core.assignments import nested

_GROUPED = {
    "model": ("pretrained", "small_stem", "precision"),
    "image": ("encoding", "side_px", "draw_on"),
    "loss": ("label_smoothing",),
    "optimizer": ("learning_rate", "weight_decay", "clip_norm", "ema_decay"),
    "schedule": ("warmup_steps", "milestones", "gamma", "step_size"),
    "validation": ("best_by", "patience"),
    "hardware": (
        *("ranks", "device", "channels_last", "compile"),
        *("loader_threads", "prefetch_batches", "timeout_seconds"),
    ),
    "tracking": ("log_every_steps", "system_metrics_seconds", "record_samples"),
}
_RENAMED = {
    "model": "model.name",
    "mirror": "model.flip_tta",
    "loss": "loss.name",
    "optimizer": "optimizer.name",
    "schedule": "schedule.name",
    "validate_every_epochs": "validation.every_epochs",
    "validate_every_steps": "validation.every_steps",
    "save_every_steps": "checkpoints.every_steps",
    "keep_checkpoints": "checkpoints.keep",
    "tracking_uri": "tracking.uri",
}
FORMER_KEYS = _RENAMED | {
    key: f"{group}.{key}" for group, keys in _GROUPED.items() for key in keys
}
"""Former key → the key that `--set` takes now."""


def regrouped(config: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration in today's groups, also if it was stored before there were groups,
    or before `validation.per_class`: it was validated on all drawings then.
    """
    if not isinstance(config, Mapping):
        return config
    if not isinstance(config.get("model"), Mapping):
        config = nested({FORMER_KEYS.get(key, key): value for key, value in config.items()})
    validation = config.get("validation")
    if isinstance(validation, Mapping) and "per_class" not in validation:
        config = {**config, "validation": {**validation, "per_class": None}}
    return config
