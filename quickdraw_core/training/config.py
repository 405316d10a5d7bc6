"""The training stage's configuration."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import nearest
from quickdraw_core.loading.augmentation import AugmentConfig
from quickdraw_core.loading.select import SelectConfig
from quickdraw_core.loading.shape import Shape
from quickdraw_core.modeling.losses import LOSSES, check_loss
from quickdraw_core.modeling.models import MODELS, check_model
from quickdraw_core.modeling.optimizers import OPTIMIZERS
from quickdraw_core.modeling.schedules import REPORT_GAMMA, REPORT_MILESTONES, SCHEDULES
from quickdraw_core.render.encodings import ENCODINGS
from quickdraw_core.storage.location import Location
from quickdraw_core.system.code_version import code_version


def _row_of(table: Mapping[str, object]) -> AfterValidator:
    """Refuses a name that is no row of the table, and says which was probably meant."""

    def check(value: str) -> str:
        if value not in table:
            raise ValueError(f"unknown name; {nearest(value, table)}")
        return value

    return AfterValidator(check)


class HostsConfig(Config):
    """The hosts that train together. Each is given the same command but for its number."""

    nodes: int = Field(1, ge=1, description="hosts that train together")
    node_rank: int = Field(0, ge=0, description="number of this host, from 0")
    rendezvous: str | None = Field(
        None, description="host:port of host 0, where all meet; needed for more than one host"
    )
    wait_seconds: int = Field(
        600, ge=1, description="how long hosts wait for each other before they start, seconds"
    )

    @model_validator(mode="after")
    def _can_meet(self) -> Self:
        if self.node_rank >= self.nodes:
            raise ValueError(
                f"node_rank {self.node_rank} of {self.nodes} hosts; they are numbered from 0"
            )
        if self.nodes > 1 and (self.rendezvous is None or ":" not in self.rendezvous):
            raise ValueError("several hosts need a rendezvous, host:port of host 0")
        return self


class TrainConfig(Config):
    """What to train, on what, how long, and where its traces go."""

    store: Location = Field(
        Path("store"), description="folder or address of the store to train on"
    )
    run_dir: Path | None = Field(
        None, description="folder of checkpoints and logs; none: runs/<name of model and data>"
    )
    fresh: bool = Field(False, description="start over where the run folder holds a checkpoint")

    model: Annotated[str, _row_of(MODELS)] = Field("small_cnn", description="row of MODELS")
    pretrained: str | None = Field(
        None, description="first weights: imagenet (torchvision's), or a file; none: by chance"
    )
    small_stem: bool | None = Field(None, description="stem for small images; none: up to 64 px")
    encoding: Annotated[str, _row_of(ENCODINGS)] = Field("order", description="row of ENCODINGS")
    side_px: int = Field(32, ge=24, le=256, description="side of the square image, pixels")
    select: SelectConfig = Field(SelectConfig(), description="which drawings are trained on")
    augment: AugmentConfig | None = Field(
        AugmentConfig(), description="changes of the strokes before drawing; none: none"
    )

    mirror: bool = Field(
        False, description="look at each drawing both ways round when judging or guessing"
    )

    loss: Annotated[str, _row_of(LOSSES)] = Field("cross_entropy", description="row of LOSSES")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the label spread over all classes"
    )
    optimizer: Annotated[str, _row_of(OPTIMIZERS)] = Field(
        "adamw", description="row of OPTIMIZERS"
    )
    learning_rate: float = Field(0.01, gt=0, description="at the schedule's factor 1")
    weight_decay: float | None = Field(
        None, ge=0, description="of weights, not of biases and norms; none: the optimizer's own"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="largest norm of the gradient, longer ones are scaled; none: any"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="of a running average of the weights, a step; none: none"
    )
    schedule: Annotated[str, _row_of(SCHEDULES)] = Field(
        "onecycle", description="row of SCHEDULES, stepped per iteration"
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear rise before the schedule")
    milestones: tuple[int, ...] = Field(
        REPORT_MILESTONES, description="steps at which multistep lowers the learning rate"
    )
    gamma: float = Field(
        REPORT_GAMMA, gt=0, le=1, description="factor of each lowering by multistep and step"
    )
    step_size: int = Field(5_000, ge=1, description="steps between two lowerings by step")

    epochs: float = Field(20, gt=0, description="passes over the train drawings")
    global_batch_size: int = Field(128, ge=1, description="drawings a step, over all ranks")
    micro_batch_size: int = Field(64, ge=1, description="drawings computed at once by a rank")
    seed: int = Field(
        0, ge=0, lt=1 << 63, description="of weights, order, augmentation and dropout"
    )
    best_by: Literal["map_at_3", "map_at_3_class_mean"] = Field(
        "map_at_3", description="validation metric whose highest value makes the best checkpoint"
    )
    patience: int | None = Field(
        None, ge=1, description="validations without a better one after which to stop; none: all"
    )

    ranks: int = Field(2, ge=1, description="training processes on each host")
    hosts: HostsConfig = Field(HostsConfig(), description="the hosts that train together")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cuda means nccl, cpu gloo; auto: cuda where every rank has a GPU"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of products; auto: bf16 on GPUs since Ampere and CPUs with AMX"
    )
    channels_last: bool | None = Field(
        None, description="memory layout of images and weights; none: channels last"
    )
    compile: bool | None = Field(None, description="torch.compile; none: on GPUs alone")
    draw_on: Literal["cpu", "device"] = Field(
        "cpu", description="where strokes become images: by threads, or on the training device"
    )
    loader_threads: int | None = Field(
        None,
        ge=0,
        description="threads a rank that draw ahead; 0: the model's own; none: 0, on GPUs more",
    )
    prefetch_batches: int = Field(4, ge=1, description="micro-batches drawn ahead of the model")
    timeout_seconds: int = Field(
        300, ge=10, description="of one exchange between the ranks, after which all end, seconds"
    )

    log_every_steps: int = Field(10, ge=1, description="steps between two points of the curves")
    validate_every_epochs: float = Field(1, gt=0, description="epochs between two validations")
    validate_every_steps: int | None = Field(
        None, ge=1, description="steps between two validations, in place of epochs"
    )
    save_every_steps: int | None = Field(
        None, ge=1, description="steps between two checkpoints; none: at each validation alone"
    )
    keep_checkpoints: int = Field(2, ge=1, description="latest checkpoints kept, beside the best")
    record_samples: bool = Field(
        False, description="write the key_ids of every micro-batch to samples/ in the run folder"
    )
    tracking_uri: str | None = Field(
        None, description="MLflow; none: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )
    system_metrics_seconds: float = Field(
        10, gt=0, description="seconds between two looks at processor, memory and GPUs"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        Shape(self.global_batch_size, self.micro_batch_size, self.world_size)
        encoding = ENCODINGS[self.encoding]
        check_model(
            self.model,
            encoding.channels,
            "picture" if encoding.is_picture else "points",
            self.side_px,
            small_stem=self.small_stem,
            pretrained=self.pretrained,
        )
        check_loss(self.loss, self.label_smoothing)
        return self

    @property
    def world_size(self) -> int:
        """Ranks of all hosts."""
        return self.ranks * self.hosts.nodes

    @property
    def shape(self) -> Shape:
        """How the global batch is cut."""
        return Shape(self.global_batch_size, self.micro_batch_size, self.world_size)

    def identity(self, store_fingerprint: str, code: str | None = None) -> str:
        """A short digest of all that decides the trained weights: options, data and code, not
        paths.

        code: as `training_code` gives it; None: that of now. Two runs of one identity are the
        same run, so that the same command continues it; also with another number of ranks or on
        another device, which changes the weights by rounding alone.
        """
        decisive = self.model_dump(mode="json", exclude=_NOT_DECISIVE)
        text = json.dumps([decisive, store_fingerprint, code or training_code()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def training_code() -> str:
    """The version of the code that decides the trained weights."""
    return code_version(*_DECISIVE_CODE)


_DECISIVE_CODE = (
    *("drawing.py", "labels.py", "store/holdout.py", "store/pack.py"),
    *("loading", "render", "modeling"),
    *(f"training/{name}.py" for name in ("config", "hardware", "loop", "meter", "plan")),
    *(f"training/{name}.py" for name in ("network", "rank", "state", "step")),
)


_NOT_DECISIVE = {
    *("store", "run_dir", "fresh", "tracking_uri", "system_metrics_seconds"),
    *("log_every_steps", "save_every_steps", "keep_checkpoints"),
    "record_samples",
    *("ranks", "hosts", "device", "channels_last", "compile", "timeout_seconds"),
    *("loader_threads", "prefetch_batches"),
}
