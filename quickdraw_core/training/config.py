"""The training stage's configuration."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import nearest
from quickdraw_core.loading.augment import AugmentConfig
from quickdraw_core.loading.loader import Shape
from quickdraw_core.modeling.losses import LOSSES
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.modeling.optimizers import OPTIMIZERS
from quickdraw_core.modeling.schedules import SCHEDULES
from quickdraw_core.render.encodings import ENCODINGS


class TrainConfig(Config):
    """What to train, on what, how long, and where its traces go."""

    store: Path = Field(Path("store"), description="folder of the store to train on")
    run_dir: Path | None = Field(
        None, description="folder of checkpoints and logs; none: runs/<name of model and data>"
    )
    fresh: bool = Field(False, description="start over where the run folder holds a checkpoint")

    model: str = Field("small_cnn", description="row of MODELS")
    encoding: str = Field("order", description="row of ENCODINGS")
    side_px: int = Field(32, ge=24, le=256, description="side of the square image, pixels")
    loss: str = Field("cross_entropy", description="row of LOSSES")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share spread over all classes")
    optimizer: str = Field("adamw", description="row of OPTIMIZERS")
    learning_rate: float = Field(0.01, gt=0, description="at the schedule's factor 1")
    weight_decay: float = Field(0.02, ge=0, description="of weights; not of biases and norms")
    schedule: str = Field("onecycle", description="row of SCHEDULES, stepped per iteration")
    augment: AugmentConfig | None = Field(
        AugmentConfig(), description="changes of the strokes before drawing; none: none"
    )

    epochs: float = Field(20, gt=0, description="passes over the train drawings")
    global_batch_size: int = Field(128, ge=1, description="drawings a step, over all ranks")
    micro_batch_size: int = Field(64, ge=1, description="drawings computed at once by a rank")
    seed: int = Field(0, ge=0, description="of weights, order, augmentation and dropout")

    ranks: int = Field(2, ge=1, description="training processes on this host")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cuda means nccl, cpu gloo; auto: cuda where every rank has a GPU"
    )
    timeout_seconds: int = Field(300, ge=10, description="of one exchange between the ranks")

    log_every_steps: int = Field(10, ge=1, description="steps between two points of the curves")
    validate_every_epochs: float = Field(1, gt=0, description="epochs between two validations")
    keep_checkpoints: int = Field(2, ge=1, description="latest checkpoints kept, beside the best")
    tracking_uri: str | None = Field(
        None, description="MLflow; none: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )

    @field_validator("model")
    @classmethod
    def _model_is_known(cls, value: str) -> str:
        return _known(value, MODELS)

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str) -> str:
        return _known(value, ENCODINGS)

    @field_validator("loss")
    @classmethod
    def _loss_is_known(cls, value: str) -> str:
        return _known(value, LOSSES)

    @field_validator("optimizer")
    @classmethod
    def _optimizer_is_known(cls, value: str) -> str:
        return _known(value, OPTIMIZERS)

    @field_validator("schedule")
    @classmethod
    def _schedule_is_known(cls, value: str) -> str:
        return _known(value, SCHEDULES)

    @model_validator(mode="after")
    def _batches_share_out(self) -> Self:
        Shape(self.global_batch_size, self.micro_batch_size, self.ranks)
        return self

    @property
    def shape(self) -> Shape:
        """How the global batch is cut."""
        return Shape(self.global_batch_size, self.micro_batch_size, self.ranks)

    def identity(self, store_fingerprint: str) -> str:
        """A short digest of all that decides the trained weights: options and data, not paths.

        Two runs of one identity are the same run, so that the same command continues it; also
        with another number of ranks, which changes the weights by rounding alone.
        """
        elsewhere = {"store", "run_dir", "fresh", "timeout_seconds", "log_every_steps"}
        elsewhere |= {"keep_checkpoints", "tracking_uri", "ranks", "device"}
        decisive = self.model_dump(mode="json", exclude=elsewhere)
        text = json.dumps([decisive, store_fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def _known(value: str, table: Mapping[str, object]) -> str:
    if value not in table:
        raise ValueError(f"unknown name; {nearest(value, table)}")
    return value
