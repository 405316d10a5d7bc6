"""A trained model, by checkpoint, run folder or MLflow run id, ready to guess."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quickdraw_core.errors import CheckpointError
from quickdraw_core.labels import LabelMap
from quickdraw_core.modeling.ranking import GUESSES
from quickdraw_core.tracking.address import resolve_tracking_uri
from quickdraw_core.tracking.runs import fetch_file
from quickdraw_core.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import Arithmetic, choose_arithmetic, choose_device
from quickdraw_core.training.loop import BEST_ARTIFACT
from quickdraw_core.training.state import network_of

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode with all that its guesses mean. `path` is None for one that
    was fetched from MLflow.
    """

    network: nn.Module
    config: TrainConfig
    label_map: LabelMap
    checkpoint: Checkpoint
    device: torch.device
    arithmetic: Arithmetic
    path: Path | None

    def logits(self, images_nchw: Tensor) -> Tensor:
        """uint8 [N, C, S, S], as the model's encoding draws them → float32 [N, K] on the CPU."""
        with torch.inference_mode(), self.arithmetic.autocast(self.device):
            logits: Tensor = self.network(self.arithmetic.input(images_nchw, self.device))
        return logits.float().cpu()

    def most_common_labels(self) -> npt.NDArray[np.int64]:
        """The labels with most training drawings, int64 [3]: the answer where nothing is seen."""
        return np.argsort(-np.array(self.checkpoint.train_counts), kind="stable")[:GUESSES]


def load_model(reference: str, tracking_uri: str | None = None) -> TrainedModel:
    """Loads a checkpoint file, the best of a run folder, or the best of an MLflow run.

    Raises `CheckpointError` where there is none, or it is torn or foreign.
    """
    path = Path(reference)
    if path.is_dir():
        best = find_checkpoint(path, "best")
        if best is None:
            raise CheckpointError(f"{path} holds no checkpoint; give a run folder, file or run id")
        return _of(load_checkpoint(best), best)
    if path.is_file():
        return _of(load_checkpoint(path), path)
    if not _RUN_ID.fullmatch(reference):
        raise CheckpointError(
            f"no model {reference}: no such file or folder, and an MLflow run id has 32 digits "
            "and letters a-f; quickdraw train prints both"
        )
    uri = resolve_tracking_uri(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        return _of(load_checkpoint(fetch_file(uri, reference, BEST_ARTIFACT, Path(folder))), None)


def _of(checkpoint: Checkpoint, path: Path | None) -> TrainedModel:
    network, config = network_of(checkpoint)
    device = torch.device(choose_device("auto", 1))
    arithmetic = choose_arithmetic(config, device.type)
    arithmetic.place(network, device)
    return TrainedModel(
        network, config, checkpoint.label_map, checkpoint, device, arithmetic, path
    )
