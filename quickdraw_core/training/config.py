"""The training stage's configuration: groups of values by concern, each beside what it is for."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.config import AugmentConfig, BatchShape, SelectConfig
from quickdraw_core.loading.exclude import excluded_sha256
from quickdraw_core.loading.joined import also_fingerprint
from quickdraw_core.modeling.losses import LossConfig
from quickdraw_core.modeling.models import MODELS, ModelConfig, check_model
from quickdraw_core.modeling.optimizers import OptimizerConfig
from quickdraw_core.modeling.schedules import ScheduleConfig
from quickdraw_core.render.encodings import ENCODINGS, USUAL_ENCODINGS, ImageConfig
from quickdraw_core.storage.location import Location
from quickdraw_core.system.code_version import code_version, version_of_each
from quickdraw_core.training.checkpoint import CheckpointsConfig
from quickdraw_core.training.distill import DistillConfig, teachers_sha256
from quickdraw_core.training.former_keys import FORMER_KEYS
from quickdraw_core.training.hardware import HardwareConfig

AdjustBy = Literal["log_loss_class_mean", "map_at_3_class_mean"]
"""What a logit adjustment is chosen by, see `training/validation.py`."""


class ValidationConfig(Config):
    """How often a training is judged on the validation drawings, and what follows from it."""

    every_epochs: float = Field(1, gt=0, description="epochs between two validations")
    every_steps: int | None = Field(
        None, ge=1, description="steps between two validations, in place of epochs"
    )
    per_class: int | None = Field(
        100,
        ge=1,
        description="validation drawings of a class to judge on, at most, those with the smallest "
        "hashes of the holdout rule; none: all",
    )
    best_by: Literal["map_at_3", "map_at_3_class_mean"] = Field(
        "map_at_3", description="validation metric whose highest value makes the best checkpoint"
    )
    logit_adjustment: AdjustBy | None = Field(
        None,
        description="take from the logits what rich classes have by their number, as far as is "
        "best for this mean over classes; chosen at each validation, used with the checkpoint",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="stop after so many validations without a better one; default: never",
    )


class HostsConfig(ClusterConfig):
    """The hosts that train together: workers of a Dask cluster, or those on which the same command
    is given but for its number.
    """

    nodes: int = Field(1, ge=1, description="hosts that train together")
    node_rank: int = Field(0, ge=0, description="number of this host, from 0")
    rendezvous: str | None = Field(
        None, description="host:port of host 0, where all meet; needed for more than one host"
    )
    wait_seconds: int = Field(
        600, ge=1, description="how long hosts wait for each other before they start, seconds"
    )
    min_nodes: int = Field(
        1,
        ge=1,
        description="fewest hosts on which a run with a checkpoint goes on, if there are no more "
        "with Dask's workers",
    )

    @model_validator(mode="after")
    def _can_meet(self) -> Self:
        if self.node_rank >= self.nodes:
            raise ValueError(
                f"node_rank {self.node_rank} of {self.nodes} hosts; they are numbered from 0"
            )
        if self.dask is not None and (self.node_rank or self.rendezvous is not None):
            raise ValueError(
                "node_rank and rendezvous are for hosts that are each given the command; leave "
                "them out with dask, whose workers get theirs by themselves"
            )
        is_known = self.rendezvous is not None and ":" in self.rendezvous
        if self.nodes > 1 and self.dask is None and not is_known:
            found = "" if self.rendezvous is None else f", found rendezvous {self.rendezvous!r}"
            raise ValueError(
                f"{self.nodes} hosts need a way to meet{found}; give --dask tcp://SCHEDULER:8786, "
                "or --rendezvous HOST:PORT of host 0 to each of them"
            )
        return self


class TrackingConfig(Config):
    """What is recorded of a training, and where."""

    none_is: ClassVar[Mapping[str, str]] = {"uri": "none"}

    uri: str | None = Field(
        None, description="MLflow; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )
    log_every_steps: int = Field(10, ge=1, description="steps between two points of the curves")
    system_metrics_seconds: float = Field(
        10, gt=0, description="seconds between two samples of processor, memory and GPUs"
    )
    record_samples: bool = Field(
        False, description="write the key_ids of every micro-batch to samples/ in the run folder"
    )


class TrainConfig(Config):
    """What to train, on what, how long, and where its traces go."""

    store: Location = Field(
        Path("store"), description="folder or address of the store to train on"
    )
    run_dir: Path | None = Field(
        None, description="folder of checkpoints and logs; default: runs/<name of model and data>"
    )
    fresh: bool = Field(False, description="start over if the run folder holds a checkpoint")
    seed: int = Field(
        0, ge=0, lt=1 << 63, description="of weights, order, augmentation and dropout"
    )
    epochs: float | None = Field(20, gt=0, description="passes over the train drawings")
    max_steps: int | None = Field(None, ge=1, description="steps to train, in place of epochs")
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="minutes to train, in place of epochs: as many steps as a probe at the start "
        "says will fit, the validations between them included",
    )
    global_batch_size: int = Field(128, ge=1, description="drawings a step, over all ranks")
    micro_batch_size: int = Field(64, ge=1, description="drawings computed at once by a rank")

    model: ModelConfig = Field(ModelConfig(), description="the network")
    image: ImageConfig = Field(ImageConfig(), description="the images that it is given")
    select: SelectConfig = Field(SelectConfig(), description="which drawings are trained on")
    augment: AugmentConfig | None = Field(
        AugmentConfig(), description="random changes of the strokes; none: as they are stored"
    )
    loss: LossConfig = Field(LossConfig(), description="the loss function")
    distill: DistillConfig | None = Field(
        None, description="trained models to learn from as well; none: from the words alone"
    )
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="the optimizer")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="of the learning rate")
    validation: ValidationConfig = Field(ValidationConfig(), description="while it trains")
    checkpoints: CheckpointsConfig = Field(CheckpointsConfig(), description="of the run")
    hardware: HardwareConfig = Field(HardwareConfig(), description="ranks and their devices")
    hosts: HostsConfig = Field(HostsConfig(), description="the hosts that train together")
    tracking: TrackingConfig = Field(TrackingConfig(), description="the curves, and MLflow")

    @classmethod
    def layered(cls, *layers: Mapping[str, Any]) -> dict[str, Any]:
        """As of any configuration; a layer that says how long to train replaces what the layers
        before it say of that, in whatever unit. One that names a model replaces an encoding that
        this cannot read by one that it can, unless it names one itself.
        """
        whole = dict[str, Any]()
        for layer in layers:
            if any(not _is_none(layer.get(name)) for name in BUDGETS):
                whole |= {name: None for name in BUDGETS if whole.get(name) is not None}
            whole = super().layered(whole, layer)
            if _value(layer, "image", "encoding") is None:
                whole = super().layered(whole, _fitting(whole, super().layered(layer)))
        return whole

    @model_validator(mode="before")
    @classmethod
    def _has_one_budget(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {name: values[name] for name in BUDGETS if not _is_none(values.get(name))}
        if len(given) > 1:
            found = " and ".join(f"{name}={value}" for name, value in given.items())
            raise ConfigError(
                f"{found} each say how long to train; give one of {', '.join(BUDGETS)}"
            )
        if not given and "epochs" in values:
            raise ConfigError(f"nothing says how long to train; give one of {', '.join(BUDGETS)}")
        return values if "epochs" in given or not given else {**values, "epochs": None}

    @model_validator(mode="before")
    @classmethod
    def _has_no_former_key(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key in FORMER_KEYS and key not in cls.model_fields:
                raise ConfigError(f"option {key!r} is now {FORMER_KEYS[key]}")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        BatchShape(self.global_batch_size, self.micro_batch_size, self.world_size)
        check_model(self.model, self.image)
        return self

    @property
    def world_size(self) -> int:
        """Ranks of all hosts."""
        return self.hardware.ranks * self.hosts.nodes

    @property
    def shape(self) -> BatchShape:
        """How the global batch is cut."""
        return BatchShape(self.global_batch_size, self.micro_batch_size, self.world_size)

    def identity(self, store_fingerprint: str, code: str | None = None) -> str:
        """A short digest of all that decides the trained weights: options, data and code, not
        paths.

        code: as `training_code` gives it; None: that of now. Two runs of one identity are the
        same run, so that the same command continues it; also with another number of ranks or on
        another device, which changes the weights by rounding alone. Drawings to exclude, those of
        a second store and teachers count by their content. Raises `ConfigError` or `StoreError` if
        that cannot be read.
        """
        decisive = self.model_dump(mode="json", include=DECISIVE)
        decisive["select"] |= {"exclude": None, "exclude_sha256": excluded_sha256(self.select)}
        decisive["select"] |= {"also": None, "also_fingerprint": also_fingerprint(self.select)}
        if self.distill is not None:
            digests = {"teachers": None, "teachers_sha256": teachers_sha256(self.distill)}
            decisive["distill"] |= digests
        text = json.dumps([decisive, store_fingerprint, code or training_code()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


BUDGETS = ("epochs", "max_steps", "max_minutes")
"""What says how long to train: one of them, in a configuration."""


def _fitting(whole: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """The encoding that the model of a layer reads, if the values so far have another kind."""
    model = MODELS.get(_value(layer, "model", "name") or "")
    encoding = ENCODINGS.get(_value(whole, "image", "encoding") or "")
    if model is None or encoding is None or encoding.holds == model.reads:
        return {}
    return {"image": {"encoding": USUAL_ENCODINGS[model.reads]}}


def _value(values: Mapping[str, Any], group: str, name: str) -> str | None:
    """A group's text, not yet validated; None if there is none."""
    given = values.get(group)
    value = given.get(name) if isinstance(given, Mapping) else None
    return value if isinstance(value, str) else None


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.casefold() in ("none", "null"))


DECISIVE = {
    *("model", "image", "select", "augment", "loss", "distill"),
    *("optimizer", "schedule", "validation"),
    *("seed", *BUDGETS, "global_batch_size", "micro_batch_size"),
}
"""What decides the trained weights: these groups whole, and these values."""


def training_code() -> str:
    """The version of the code that decides the trained weights."""
    return code_version(*_DECISIVE_CODE)


def training_code_by_package() -> dict[str, str]:
    """The same by package, for whoever asks where two versions differ."""
    return version_of_each(*_DECISIVE_CODE)


_DECISIVE_CODE = (
    *("drawing.py", "labels.py", "store/holdout.py", "store/pack.py"),
    *("loading", "render", "modeling"),
    *(f"training/{name}.py" for name in ("config", "distill", "hardware", "loop")),
    *(f"training/{name}.py" for name in ("meter", "network", "plan", "rank")),
    *(f"training/{name}.py" for name in ("state", "step", "validation")),
)
