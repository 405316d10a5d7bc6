"""A trained model, by checkpoint, run folder or MLflow run id, ready to guess."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quickdraw_core.errors import CheckpointError, ConfigError, nearest
from quickdraw_core.evaluation.averaging import average_checkpoints
from quickdraw_core.evaluation.precision import PRECISIONS, Precision
from quickdraw_core.evaluation.tta import TTA, Looks
from quickdraw_core.labels import LabelMap
from quickdraw_core.loading.loader import Feed
from quickdraw_core.modeling.mirrored import Mirrored
from quickdraw_core.modeling.models import find_model
from quickdraw_core.modeling.ranking import GUESSES
from quickdraw_core.tracking.address import resolve_tracking_uri
from quickdraw_core.tracking.registry import Version, find_version, is_registered
from quickdraw_core.tracking.runs import fetch_file
from quickdraw_core.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import (
    Arithmetic,
    choose_arithmetic,
    choose_device,
    choose_loader_threads,
)
from quickdraw_core.training.loop import BEST_ARTIFACT
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.state import network_of

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode with all that its guesses mean. `path` is None for one that
    was fetched from MLflow; `average` is the number of checkpoints whose mean it is. `elsewhere`
    is the fingerprint of another store than its own that it is judged on, empty for none.
    """

    network: nn.Module
    config: TrainConfig
    label_map: LabelMap
    checkpoint: Checkpoint
    device: torch.device
    arithmetic: Arithmetic
    path: Path | None
    average: int = 1
    tta: str = Looks.NONE
    elsewhere: str = ""

    def logits(self, images_nchw: Tensor) -> Tensor:
        """uint8 [N, C, S, S], as the model's encoding draws them → float32 [N, K] on the CPU."""
        with torch.inference_mode(), full_float32(), self.arithmetic.autocast(self.device):
            logits: Tensor = self.network(self.arithmetic.input(images_nchw, self.device))
        return logits.float().cpu()

    @property
    def precision(self) -> str:
        """What it computes in, a name of PRECISIONS."""
        return Precision.BF16 if self.arithmetic.bf16 else Precision.FP32

    @property
    def feed(self) -> Feed:
        """How its batches are drawn: ahead of it, and for its device."""
        return Feed(choose_loader_threads(self.config, self.device.type), device=self.device)

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


def load_model(
    reference: str,
    tracking_uri: str | None = None,
    average: int = 1,
    tta: str = Looks.NONE,
    local_rank: int = 0,
    precision: str = Precision.FP32,
) -> TrainedModel:
    """Loads a checkpoint file, the best of a run folder or of an MLflow run, or a registered
    model, `models:/NAME@ALIAS` or `models:/NAME/3`.

    average: of so many latest checkpoints of a run folder, the mean weight by weight. tta: a
    name of TTA. local_rank: which of the GPUs it is for. precision: a name of PRECISIONS; what
    the checkpoint was trained in decides nothing. Raises `CheckpointError` where there is no
    such model, or it is torn or foreign.
    """
    if tta not in TTA:
        raise ConfigError(f"unknown test-time augmentation {tta!r}: {nearest(tta, TTA)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}: {nearest(precision, PRECISIONS)}")
    use = _Use(tta, local_rank, precision)
    if is_registered(reference):
        if average > 1:
            raise ConfigError(
                f"{reference} is one checkpoint, and {average} are to be averaged; give the run "
                "folder that it was trained in"
            )
        uri = resolve_tracking_uri(tracking_uri)
        return _of(_registered(uri, find_version(uri, reference)), None, 1, use)
    path = Path(reference)
    if average > 1:
        checkpoint, newest = average_checkpoints(path, average)
        return _of(checkpoint, newest, average, use)
    if path.is_dir():
        best = find_checkpoint(path, "best")
        if best is None:
            raise CheckpointError(f"{path} holds no checkpoint; give a run folder, file or run id")
        return _of(load_checkpoint(best), best, 1, use)
    if path.is_file():
        return _of(load_checkpoint(path), path, 1, use)
    if not _RUN_ID.fullmatch(reference):
        raise CheckpointError(
            f"no model {reference}: no such file or folder, and an MLflow run id has 32 digits "
            "and letters a-f; quickdraw train prints both"
        )
    fetched = best_of_run(resolve_tracking_uri(tracking_uri), reference)
    return _of(fetched, None, 1, use)


class _Use(NamedTuple):
    """How a model is used, by the names of `load_model`."""

    tta: str
    local_rank: int
    precision: str


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


def _registered(uri: str, version: Version) -> Checkpoint:
    """The best checkpoint of a version's run, if it is still the one that was registered."""
    checkpoint = best_of_run(uri, version.run_id)
    if checkpoint.weights_sha256 != version.weights_sha256:
        raise CheckpointError(
            f"{version.reference} was registered with weights {version.weights_sha256[:12]}, but "
            f"the best checkpoint of its run {version.run_id} has "
            f"{checkpoint.weights_sha256[:12]}: the run went on since; give its id to use it as "
            "it is now"
        )
    return checkpoint


def best_of_run(uri: str, run_id: str) -> Checkpoint:
    """The best checkpoint of an MLflow run. Raises `CheckpointError`: no run, no checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        found = load_checkpoint(fetch_file(uri, run_id, BEST_ARTIFACT, Path(folder)))
    # It knows no run where the server was away when it was written.
    return replace(found, mlflow_run_id=run_id)


def _of(checkpoint: Checkpoint, path: Path | None, average: int, use: _Use) -> TrainedModel:
    network, config = network_of(checkpoint)
    if use.tta == Looks.FLIP and not isinstance(network, Mirrored):
        network = Mirrored(network, find_model(config.model).reads)
    kind = choose_device("auto", 1)
    device = torch.device(kind, use.local_rank) if kind == "cuda" else torch.device(kind)
    arithmetic = choose_arithmetic(config.updated({"precision": use.precision}), device.type)
    arithmetic.place(network, device)
    return TrainedModel(
        network,
        config,
        checkpoint.label_map,
        checkpoint,
        device,
        arithmetic,
        path,
        average,
        use.tta,
    )


def most_common_labels(models: Sequence[TrainedModel]) -> npt.NDArray[np.int64]:
    """The labels with most training drawings, int64 [3]: the answer where nothing is seen."""
    counts = np.array([model.checkpoint.train_counts for model in models]).sum(0)
    return np.argsort(-counts, kind="stable")[:GUESSES]
