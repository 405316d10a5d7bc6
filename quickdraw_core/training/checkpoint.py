"""Checkpoints: one file a save, all that a run needs to go on, whole or not there.

`RUN/checkpoints/step-<global step>.pt` holds model, optimiser, step, config, label map, store
fingerprint, MLflow run id and the last validation. `last` and `best` beside them are small
files with the name of one, written after it. Loaded with `weights_only=True`: nothing in a
checkpoint can run code.
"""

import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from quickdraw_core.errors import CheckpointError
from quickdraw_core.labels import LabelMap

CHECKPOINT_VERSION = 1
_FOLDER = "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after `step` steps; what schedule and loader need is the step alone.

    train_counts: drawings of each label in the training split. best: the highest validation
    MAP@3 so far. metrics: the validation's, by plain name (`map_at_3`).
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    config: dict[str, Any]
    labels: dict[str, Any]
    train_counts: list[int]
    store_fingerprint: str
    mlflow_run_id: str
    metrics: dict[str, float] = field(default_factory=dict)
    best: float = 0.0
    version: int = CHECKPOINT_VERSION

    @property
    def label_map(self) -> LabelMap:
        """Words and labels that the model was trained on."""
        return LabelMap.from_json(self.labels)


def save_checkpoint(run_dir: Path, checkpoint: Checkpoint, is_best: bool, keep: int) -> Path:
    """Writes a checkpoint, points `last` (and `best`) to it, deletes the oldest beyond `keep`."""
    folder = run_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:08d}.pt"
    temporary = path.with_suffix(".pt.tmp")
    # Not `asdict`, which would copy every tensor.
    values = {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}
    with temporary.open("wb") as file:
        torch.save(values, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _point(folder, "last", path)
    if is_best:
        _point(folder, "best", path)
    kept = {*sorted(folder.glob("step-*.pt"))[-keep:], find_checkpoint(run_dir, "best")}
    for old in folder.glob("step-*.pt"):
        if old not in kept:
            old.unlink()
    return path


def find_checkpoint(run_dir: Path, name: str) -> Path | None:
    """The checkpoint that `last` or `best` points to; None where there is none yet."""
    pointer = run_dir / _FOLDER / name
    if not pointer.is_file():
        return None
    path = pointer.parent / pointer.read_text().strip()
    return path if path.is_file() else None


def load_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """Reads a checkpoint. Raises `CheckpointError`: missing, torn, foreign, of another version."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}; give a .pt file or a run folder")
    try:
        # A file of another kind would go to torch's reader of old pickles, which warns and then
        # fails in its own ways; ours are zip archives.
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive")
        values = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} is no checkpoint that can be read ({type(error).__name__}): torn, or not "
            "made by this program; give another one"
        ) from error
    known = set(Checkpoint.__dataclass_fields__)
    if not isinstance(values, dict) or not known <= set(values):
        raise CheckpointError(
            f"{path} holds no checkpoint of this program; train with: quickdraw train"
        )
    if values["version"] != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {values['version']}, this program reads "
            f"{CHECKPOINT_VERSION}; train again"
        )
    return Checkpoint(**{name: values[name] for name in known})


def _point(folder: Path, name: str, path: Path) -> None:
    temporary = folder / f".{name}.tmp"
    temporary.write_text(path.name + "\n")
    temporary.replace(folder / name)
