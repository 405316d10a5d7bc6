"""Opens models by checkpoint, run folder, MLflow run id or registered version, each once."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from quickdraw_core.errors import CheckpointError, ConfigError, nearest
from quickdraw_core.inference.averaging import average_checkpoints
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import PRECISIONS, TTA, Precision, Tta
from quickdraw_core.stage import Opened
from quickdraw_core.tracking.address import resolve_tracking_uri
from quickdraw_core.tracking.registry import Version, find_version, is_registered
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.tracking.runs import fetch_file
from quickdraw_core.training.checkpoint import (
    BEST_ARTIFACT,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    open_checkpoint,
)
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def load_model(
    reference: str,
    tracking_uri: str | None = None,
    average: int = 1,
    tta: str = Tta.NONE,
    local_rank: int = 0,
    precision: str = Precision.FP32,
    opened: Opened | None = None,
) -> TrainedModel:
    """Opens a checkpoint file, the best of a run folder or of an MLflow run, or a registered
    model, `models:/NAME@ALIAS` or `models:/NAME/3`.

    average: how many of a run folder's latest checkpoints are averaged, weight by weight. tta: a
    name of TTA. local_rank: which GPU it computes on. precision: a name of PRECISIONS, whatever
    the training's. Raises `CheckpointError` if there is no such model, or its file is damaged or
    no checkpoint.
    """
    if tta not in TTA:
        raise ConfigError(f"unknown test-time augmentation {tta!r}: {nearest(tta, TTA)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}: {nearest(precision, PRECISIONS)}")
    opened = opened or Opened()
    reference, checkpoint, path = _find(reference, tracking_uri, average, opened)
    return TrainedModel(
        reference,
        checkpoint,
        TrainConfig.parse(checkpoint.config),
        opened,
        path,
        average,
        tta,
        precision,
        local_rank,
    )


def best_of_run(uri: str, run_id: str, opened: Opened | None = None) -> Checkpoint:
    """The best checkpoint of an MLflow run. Raises `CheckpointError`: no run, no checkpoint."""

    def fetch() -> Checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = load_checkpoint(fetch_file(uri, run_id, BEST_ARTIFACT, Path(folder)))
        # It has no run id if the server was away when it was written.
        return replace(checkpoint, mlflow_run_id=run_id)

    return (opened or Opened()).once(("best of run", uri, run_id), fetch)


class _Resolved(NamedTuple):
    """What a reference names. reference: by version number if it was an alias."""

    reference: str
    checkpoint: Checkpoint
    path: Path | None


def _find(reference: str, tracking_uri: str | None, average: int, opened: Opened) -> _Resolved:
    if is_registered(reference):
        if average > 1:
            raise ConfigError(
                f"{reference} is one checkpoint, and {average} are to be averaged; give the run "
                "folder that it was trained in"
            )
        return _registered(resolve_tracking_uri(tracking_uri), reference, opened)
    path = Path(reference)
    if average > 1:
        mean, newest = average_checkpoints(path, average, opened)
        return _Resolved(reference, _of_run(mean, path), newest)
    if path.is_dir():
        best = find_checkpoint(path, "best")
        if best is None:
            raise CheckpointError(f"{path} holds no checkpoint; give a run folder, file or run id")
        return _Resolved(reference, _of_run(open_checkpoint(best, opened), path), best)
    if path.is_file():
        return _Resolved(
            reference, _of_run(open_checkpoint(path, opened), path.parent.parent), path
        )
    if not _RUN_ID.fullmatch(reference):
        raise CheckpointError(
            f"no model {reference}: no such file or folder, and an MLflow run id has 32 digits "
            "and letters a-f; quickdraw train prints both"
        )
    uri = resolve_tracking_uri(tracking_uri)
    return _Resolved(reference, best_of_run(uri, reference, opened), None)


def _of_run(checkpoint: Checkpoint, run_dir: Path) -> Checkpoint:
    """With the MLflow run of its folder, which may be newer than the checkpoint."""
    if checkpoint.mlflow_run_id or not RunFolder.is_there(run_dir):
        return checkpoint
    return replace(checkpoint, mlflow_run_id=tracked_run_id(run_dir))


def _registered(uri: str, reference: str, opened: Opened) -> _Resolved:
    """The best checkpoint of a version's run. Raises `CheckpointError` if it changed since."""
    version = opened.once(_version_name(uri, reference), lambda: find_version(uri, reference))
    remember_version(uri, version, opened)
    checkpoint = best_of_run(uri, version.run_id, opened)
    if checkpoint.weights_sha256 != version.weights_sha256:
        raise CheckpointError(
            f"{version.reference} was registered with weights {version.weights_sha256[:12]}, but "
            f"the best checkpoint of its run {version.run_id} has "
            f"{checkpoint.weights_sha256[:12]}: the run went on since; give its id to use it as "
            "it is now"
        )
    return _Resolved(version.reference, checkpoint, None)


def remember_version(uri: str, version: Version, opened: Opened) -> None:
    """Keeps a version that the registry has just given, for `load_model` by its number."""
    opened.keep(_version_name(uri, version.reference), version)


def _version_name(uri: str, reference: str) -> tuple[str, str, str]:
    return "version", uri, reference
