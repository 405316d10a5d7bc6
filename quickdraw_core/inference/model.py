"""A trained model, ready to guess; its network is built when it is first asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quickdraw_core.inference.options import Looks, Precision
from quickdraw_core.labels import GUESSES, LabelMap
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
    """A checkpoint with all that its guesses mean.

    reference: what it was opened by, by number where it had an alias. opened: what has its
    network once that is built. path: None for one that was fetched from MLflow. average: the
    number of checkpoints whose mean it is. precision: what it computes in, a name of PRECISIONS.
    local_rank: which of the GPUs it is for. elsewhere: the fingerprint of another store than its
    own that it is judged on, empty for none.
    """

    reference: str
    checkpoint: Checkpoint
    config: TrainConfig
    opened: Opened = field(repr=False)
    path: Path | None
    average: int = 1
    tta: str = Looks.NONE
    precision: str = Precision.FP32
    local_rank: int = 0
    elsewhere: str = ""

    @property
    def label_map(self) -> LabelMap:
        """The words that it knows."""
        return self.checkpoint.label_map

    @cached_property
    def device(self) -> torch.device:
        """Where it computes: a GPU if there is one."""
        kind = choose_device("auto", 1)
        return torch.device(kind, self.local_rank) if kind == "cuda" else torch.device(kind)

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """How it computes there."""
        return choose_arithmetic(self.config.hardware, self.precision, self.device.type)

    @property
    def network(self) -> nn.Module:
        """In evaluation mode, on its device: built once for the same weights, used the same way.

        Raises `CheckpointError` where the weights do not fit the model that the checkpoint names.
        """
        weights = self.checkpoint.weights_sha256, self.config.as_text()
        name = ("network", *weights, self.tta, self.arithmetic, self.device)
        return self.opened.once(name, self._built)

    def _built(self) -> nn.Module:
        from quickdraw_core.modeling.flip_tta import FlipTTA
        from quickdraw_core.training.network import network_of

        network, _ = network_of(self.checkpoint)
        if self.tta == Looks.FLIP and not isinstance(network, FlipTTA):
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
        """How its batches are drawn: ahead of it, and for its device."""
        from quickdraw_core.loading.loader import Feed

        threads = choose_loader_threads(self.config.hardware, self.device.type)
        return Feed(threads, device=self.device)

    @property
    def run_dir(self) -> Path | None:
        """The run folder that its checkpoint stands in; None where it was taken elsewhere."""
        if self.path is None or not RunFolder.is_there(self.path.parent.parent):
            return None
        return self.path.parent.parent

    @property
    def variant(self) -> str:
        """How this differs from the plain use of its run's best checkpoint on its own store:
        `step400-flip`, `average3`, `bf16`, `store0a1b2c3d`; empty where it does not.
        """
        parts = [
            f"average{self.average}" if self.average > 1 else "",
            "" if self.average > 1 or self.is_best else f"step{self.checkpoint.step}",
            self.tta if self.tta != Looks.NONE else "",
            self.precision if self.precision != Precision.FP32 else "",
            f"store{self.elsewhere[:8]}" if self.elsewhere else "",
        ]
        return "-".join(filter(None, parts))

    @property
    def is_best(self) -> bool:
        """Whether it is known to be its run's best checkpoint: as fetched, or by its folder."""
        if self.path is None:
            return True
        best = find_checkpoint(self.run_dir, "best") if self.run_dir is not None else None
        return best is not None and best.name == self.path.name

    @property
    def report_name(self) -> str:
        """What the folder of its evaluation is called: `evaluation`, or with its variant."""
        return "-".join(filter(None, ["evaluation", self.variant]))

    @property
    def report_dir(self) -> Path | None:
        """Where its evaluation goes by default: into its run's folder, or beside a file that
        stands in none; None where it was fetched.
        """
        if self.path is None:
            return None
        return (self.run_dir or self.path.parent) / self.report_name

    @property
    def name(self) -> str:
        """For people: where it comes from."""
        run_dir = self.run_dir
        origin = str(run_dir.name if run_dir is not None else self.path or "")
        return origin or f"run {self.checkpoint.mlflow_run_id}"


@contextmanager
def full_float32() -> Iterator[None]:
    """A block in which products of float32 are rounded to nothing shorter on any processor.

    torch lets cuDNN round them to TF32 by default, and matrix products too where an environment
    (`TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`) or a program asks for it. What autocast makes bf16 is no
    product of float32 and stays so.
    """
    backends: Any = torch.backends  # whose types leave these out
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


def most_common_labels(models: Sequence[TrainedModel]) -> npt.NDArray[np.int64]:
    """The labels with most training drawings, int64 [3]: the answer where nothing is seen."""
    counts = np.array([model.checkpoint.train_counts for model in models]).sum(0)
    return np.argsort(-counts, kind="stable")[:GUESSES]
