"""A trained model, ready to predict; its network is built at first use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quickdraw_core.inference.options import Precision, Tta
from quickdraw_core.labels import LabelMap
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.stage import Opened
from quickdraw_core.training.checkpoint import Checkpoint, find_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import (
    Arithmetic,
    choose_arithmetic,
    choose_device,
    choose_loader_threads,
)
from quickdraw_core.training.run_folder import RunFolder

if TYPE_CHECKING:
    from quickdraw_core.loading.loader import Feed


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint with all that is needed to predict.

    reference: what it was opened by; by version number if that was an alias. opened: keeps its
    network. path: of the checkpoint, None if it was fetched from MLflow. average: the number of
    checkpoints whose mean it is. tta: a name of TTA. precision: what it computes in, a name of
    PRECISIONS. local_rank: which GPU it computes on. other_store: the fingerprint of the store
    that it is judged on, if it was trained on another; else empty.
    """

    reference: str
    checkpoint: Checkpoint
    config: TrainConfig
    opened: Opened = field(repr=False)
    path: Path | None
    average: int = 1
    tta: str = Tta.NONE
    precision: str = Precision.FP32
    local_rank: int = 0
    other_store: str = ""

    @property
    def label_map(self) -> LabelMap:
        """The words that it knows."""
        return self.checkpoint.label_map

    @cached_property
    def device(self) -> torch.device:
        """The device it computes on: a GPU if there is one."""
        kind = choose_device("auto", 1)
        return torch.device(kind, self.local_rank) if kind == "cuda" else torch.device(kind)

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """How it computes on its device."""
        return choose_arithmetic(self.config.hardware, self.precision, self.device.type)

    @property
    def network(self) -> nn.Module:
        """The network in evaluation mode, on its device; models with the same weights and options
        share it. Raises `CheckpointError` if the weights do not fit the architecture.
        """
        weights = self.checkpoint.weights_sha256, self.config.as_text()
        name = ("network", *weights, self.tta, self.arithmetic, self.device)
        return self.opened.once(name, self._built)

    def _built(self) -> nn.Module:
        from quickdraw_core.modeling.flip_tta import FlipTTA
        from quickdraw_core.training.network import network_of

        network, _ = network_of(self.checkpoint)
        if self.tta == Tta.FLIP and not isinstance(network, FlipTTA):
            network = FlipTTA(network, self.config.model.reads)
        self.arithmetic.place(network, self.device)
        return network

    def logits(self, images_nchw: Tensor) -> Tensor:
        """uint8 [N, C, S, S], as the model's encoding draws them → float32 [N, K] on the CPU."""
        with torch.inference_mode(), full_float32(), self.arithmetic.autocast(self.device):
            logits: Tensor = self.network(self.arithmetic.input(images_nchw, self.device))
        return logits.float().cpu()

    @property
    def image(self) -> ImageConfig:
        """What it is given, drawn by this host's processor, whatever drew it in its training."""
        return self.config.image.on_cpu

    @property
    def feed(self) -> "Feed":
        """How many threads prepare its batches, and for which device."""
        from quickdraw_core.loading.loader import Feed

        threads = choose_loader_threads(self.config.hardware, self.device.type)
        return Feed(threads, device=self.device)

    @property
    def run_dir(self) -> Path | None:
        """The run folder that holds its checkpoint; None if the checkpoint lies elsewhere."""
        if self.path is None or not RunFolder.is_there(self.path.parent.parent):
            return None
        return self.path.parent.parent

    @property
    def variant(self) -> str:
        """How this differs from its run's best checkpoint used plainly on its own store:
        `step400-flip`, `average3`, `bf16`, `store0a1b2c3d`; empty if it does not.
        """
        parts = [
            f"average{self.average}" if self.average > 1 else "",
            "" if self.average > 1 or self.is_best else f"step{self.checkpoint.step}",
            self.tta if self.tta != Tta.NONE else "",
            self.precision if self.precision != Precision.FP32 else "",
            f"store{self.other_store[:8]}" if self.other_store else "",
        ]
        return "-".join(filter(None, parts))

    @property
    def is_best(self) -> bool:
        """Whether it is its run's best checkpoint: fetched as that, or by its folder's pointer."""
        if self.path is None:
            return True
        best = find_checkpoint(self.run_dir, "best") if self.run_dir is not None else None
        return best is not None and best.name == self.path.name

    @property
    def report_name(self) -> str:
        """Name of its evaluation's folder: `evaluation`, with the variant if it has one."""
        return "-".join(filter(None, ["evaluation", self.variant]))

    @property
    def report_dir(self) -> Path | None:
        """Default folder of its evaluation: in its run's folder, or beside a checkpoint that is
        in none; None if the model was fetched.
        """
        if self.path is None:
            return None
        return (self.run_dir or self.path.parent) / self.report_name

    @property
    def name(self) -> str:
        """For people: its run's folder, its file or its MLflow run."""
        if self.run_dir is not None:
            return self.run_dir.name
        return str(self.path or f"run {self.checkpoint.mlflow_run_id}")


@contextmanager
def full_float32() -> Iterator[None]:
    """A block in which products of float32 keep full precision on every processor.

    By default torch lets cuDNN round them to TF32, and matrix products too if the environment
    (`TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`) or a program asks for it. Autocast's bf16 is not affected.
    """
    backends: Any = torch.backends  # its types lack these attributes
    kernels = [backends.cudnn.conv, backends.cuda.matmul]
    kernels += [backends.mkldnn.conv, backends.mkldnn.matmul]
    before = [kernel.fp32_precision for kernel in kernels]
    try:
        for kernel in kernels:
            kernel.fp32_precision = "ieee"
        yield
    finally:
        for kernel, precision in zip(kernels, before, strict=True):
            kernel.fp32_precision = precision
