"""What a run takes on the disk, known before there is anything of it."""

from pathlib import Path

from quickdraw_core.modeling.models import MODELS
from quickdraw_core.modeling.optimizers import OPTIMIZERS
from quickdraw_core.store.pack import is_packed, pack_folder
from quickdraw_core.store.pack_arrays import pack_bytes
from quickdraw_core.store.store import Store
from quickdraw_core.system.disk import Need, size_of_files
from quickdraw_core.tracking.address import NO_TRACKING, artifact_root, resolve_tracking_uri
from quickdraw_core.tracking.logged_model import MODEL_FOLDER
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.training.checkpoint import CHECKPOINTS
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distill import TEACHERS_NAME, DistillConfig, teacher_files

_FLOAT32_BYTES = 4
_BUNDLE_FILES = 2
"""Files of a model for MLflow that hold all weights: the graph, and safetensors."""
_BUNDLES_AT_ONCE = 2
"""MLflow copies the bundle that it is given."""
_SENT_CHECKPOINTS = 2
"""The best and the last one."""


def checkpoint_bytes(config: TrainConfig, classes: int) -> int:
    """The size of a checkpoint, at least: the weights, what the optimizer keeps of each, and
    their running average.
    """
    copies = 1 + OPTIMIZERS[config.optimizer.name].numbers + bool(config.optimizer.ema_decay)
    return _weights_bytes(config, classes) * copies


def teachers_bytes(distill: DistillConfig) -> int:
    """The size of the copies of teachers. Raises `ConfigError` if one is missing."""
    return sum(file.stat().st_size for file in teacher_files(distill))


def pack_needs(store: Store, also: Store | None = None) -> list[Need]:
    """What the packs take that are not there yet. also: a second store."""
    needs = []
    stores = {"pack": (store, "--store")}
    if also is not None:
        stores["pack of the second store"] = (also, "select.also")
    for what, (one, option) in stores.items():
        folder = pack_folder(one)
        if not is_packed(folder):
            option = option if isinstance(one.path, Path) else "QUICKDRAW_CACHE"
            needs.append(Need(what, pack_bytes(one.manifest), folder, option))
    return needs


def training_needs(
    config: TrainConfig,
    path: Path,
    classes: int,
    size_bytes: int | None = None,
    written: int | None = None,
) -> list[Need]:
    """What is still to be written of a run: its checkpoints; if it is tracked, the best one as a
    model for MLflow; and if MLflow keeps its files beside a database file, its copies of all that.
    Of a server nobody here knows where it keeps them.

    size_bytes: of a checkpoint, if it is known better than by its weights. written: checkpoints
    of the whole run, if that is known.
    """
    size = checkpoint_bytes(config, classes) if size_bytes is None else size_bytes
    needs = [checkpoints_need(config, path, size, written)]
    if config.distill is not None:
        left = max(0, teachers_bytes(config.distill) - size_of_files(path / TEACHERS_NAME))
        needs.append(Need("copies of the teachers", left, path, "--run-dir"))
    uri = resolve_tracking_uri(config.tracking.uri)
    if uri == NO_TRACKING:
        return needs
    model = _BUNDLE_FILES * _weights_bytes(config, classes)
    left = max(0, _BUNDLES_AT_ONCE * model - size_of_files(path / MODEL_FOLDER))
    needs.append(Need("model for MLflow", left, path, "--run-dir"))
    root = artifact_root(uri)
    if root is not None:
        copies = _SENT_CHECKPOINTS * size + model - _sent_bytes(root, path)
        needs.append(Need("copies in MLflow", max(0, copies), root, "--tracking-uri"))
    return needs


def _weights_bytes(config: TrainConfig, classes: int) -> int:
    model, side_px = config.model, config.image.side_px
    weights = MODELS[model.name].weights(classes, side_px, model.has_small_stem(side_px))
    return _FLOAT32_BYTES * weights


def _sent_bytes(root: Path, path: Path) -> int:
    """Of a run's files that MLflow has already, and overwrites."""
    record = RunRecord.read(path)
    return size_of_files(root / record.run_id) if record is not None and record.run_id else 0


def kept_checkpoints(config: TrainConfig, written: int) -> int:
    """How many there are at once, at most: those that are kept, the best, and the one that is
    being written.

    written: in the whole run.
    """
    return min(written, config.checkpoints.keep + 1) + 1


def checkpoints_need(
    config: TrainConfig, path: Path, size_bytes: int, written: int | None = None
) -> Need:
    """What is still to be written to a run folder. written: checkpoints of the whole run, if
    that is known; there may be fewer than are kept.
    """
    number = kept_checkpoints(config, config.checkpoints.keep + 1 if written is None else written)
    there = size_of_files(path / CHECKPOINTS)  # what a run with --fresh deletes first
    return Need("checkpoints", max(0, number * size_bytes - there), path, "--run-dir")
