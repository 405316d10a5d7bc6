"""Checkpoints: one file a save, all that a run needs to go on, whole or not there.

`RUN/checkpoints/step-<global step>.pt` is a temporary file until it is synced. `last` and `best`
beside it are small files with the name of one, written after it. Loaded with
`weights_only=True`: nothing in a checkpoint can run code.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from quickdraw_core.config import Config
from quickdraw_core.errors import CheckpointError
from quickdraw_core.labels import LabelMap
from quickdraw_core.loading.prior import log_prior
from quickdraw_core.stage import Opened
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.system.files import is_cause, open_atomic, write_atomic
from quickdraw_core.training.former_keys import regrouped

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_VERSION = 3
_VERSION_2 = {"model", "optimizer", "loader", "ema", "metrics", "best", "since_best", "step"}
"""Entries that tell a checkpoint of version 2 from another program's file."""
BEST_ARTIFACT, LAST_ARTIFACT = "checkpoints/best.pt", "checkpoints/last.pt"
"""Paths of a run's best and last checkpoint among its MLflow artifacts."""
CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"step-\d+\.pt")
_AVERAGED = "module."
"""Prefix of a weight's name in the state of torch's `AveragedModel`."""
_RUN_ID = re.compile(r"[0-9A-Za-z_-]*")


class CheckpointsConfig(Config):
    """How often a training is saved, and what is kept."""

    every_steps: int | None = Field(
        None, ge=1, description="steps between two checkpoints; default: at each validation alone"
    )
    keep: int = Field(2, ge=1, description="latest checkpoints kept, beside the best")


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps.

    states: the state of each part that advances, by name, see `TrainState`. train_counts:
    drawings of each label in the training split. finished: nothing is left to do. versions: of
    the packages that decide the numbers. provenance: code, data, environment and plan of the
    training, see `launching/provenance.py`; empty in older ones. adjustment: `tau` of the logit
    adjustment (`training/validation.py`) and `bias`, the weight that it changes; empty: none.
    """

    step: int
    states: dict[str, dict[str, Any]]
    config: dict[str, Any]
    labels: dict[str, Any]
    train_counts: list[int]
    store_fingerprint: str
    mlflow_run_id: str
    finished: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    version: int = CHECKPOINT_VERSION
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    adjustment: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def label_map(self) -> LabelMap:
        """Words and labels that the model was trained on."""
        return LabelMap.from_json(self.labels)

    @property
    def logit_adjustment(self) -> float:
        """Its tau; 0: none."""
        return float(self.adjustment.get("tau", 0))

    @property
    def weights(self) -> dict[str, "Tensor"]:
        """What is evaluated and used: as trained, with the logit adjustment in the last bias.

        Raises `CheckpointError` if it has no such weight.
        """
        trained, tau = self.trained_weights, self.logit_adjustment
        if not tau:
            return trained
        import torch

        name, select = self.adjustment.get("bias"), self.config.get("select", {})
        prior = log_prior(self.train_counts, float(select.get("class_balance", 0)))
        if name not in trained or len(trained[name]) != len(prior):
            raise CheckpointError(
                f"the checkpoint's logit adjustment is of {name!r}, which is no bias of "
                f"{len(prior)} classes: it is damaged; give another one"
            )
        bias = trained[name]
        return {**trained, name: bias - torch.from_numpy(tau * prior).to(bias)}

    @property
    def trained_weights(self) -> dict[str, "Tensor"]:
        """The running average if there is one, else the weights of the last step."""
        if "ema" not in self.states:
            return self.states["model"]
        average = self.states["ema"].items()
        return {k.removeprefix(_AVERAGED): v for k, v in average if k.startswith(_AVERAGED)}

    @property
    def validations(self) -> dict[str, Any]:
        """State of `Validations`."""
        return self.states["validations"]

    @property
    def metrics(self) -> dict[str, float]:
        """The last validation's, by plain name (`map_at_3`)."""
        return self.validations["metrics"]  # type: ignore[no-any-return]

    def with_weights(self, weights: dict[str, "Tensor"]) -> "Checkpoint":
        """The same training with other trained weights, which no validation has judged."""
        validations = {**self.validations, "metrics": {}}
        states = {name: state for name, state in self.states.items() if name != "ema"}
        return replace(self, states={**states, "model": weights, "validations": validations})

    @cached_property
    def weights_sha256(self) -> str:
        """Of names, types, shapes and bytes of the weights, whatever file they stand in."""
        import torch  # takes two seconds: not needed to look for a checkpoint

        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(data.numpy().data)
        return digest.hexdigest()


def save_checkpoint(run_dir: Path, checkpoint: Checkpoint, is_best: bool, keep: int) -> Path:
    """Writes a checkpoint, points `last` (and `best`) to it, deletes the oldest beyond `keep`."""
    import torch

    folder = run_dir / CHECKPOINTS
    path = folder / f"step-{checkpoint.step:08d}.pt"
    # Not `asdict`, which would copy every tensor.
    values = {entry.name: getattr(checkpoint, entry.name) for entry in fields(checkpoint)}
    with open_atomic(path) as file:
        torch.save(values, file)
    for name in ("last", "best") if is_best else ("last",):
        write_atomic(folder / name, path.name + "\n")
    kept = {*sorted(folder.glob("step-*.pt"))[-keep:], find_checkpoint(run_dir, "best")}
    for old in [*folder.glob("step-*.pt"), *folder.glob(".*.tmp")]:  # a kill leaves the latter
        if old not in kept:
            old.unlink()
    return path


def find_checkpoint(run_dir: Path, name: str) -> Path | None:
    """The checkpoint that `last` or `best` points to; None if there is none yet."""
    pointer = run_dir / CHECKPOINTS / name
    if not pointer.is_file():
        return None
    target = pointer.read_text("utf-8", "replace").strip()
    # A run folder may come from anywhere, and the pointer must not lead out of it.
    path = pointer.parent / target
    return path if _NAME.fullmatch(target) and path.is_file() else None


def step_of(path: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(path.stem.removeprefix("step-"))


@dataclass(frozen=True)
class Resumable:
    """From where a run goes on. refused: why later checkpoints than this one were not used."""

    checkpoint: Checkpoint | None
    refused: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Steps done."""
        return self.checkpoint.step if self.checkpoint else 0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.checkpoint is not None and self.checkpoint.finished


def latest_checkpoint(
    run_dir: Path,
    belongs: Callable[[Checkpoint], bool],
    load: Callable[[Path], Checkpoint] | None = None,
) -> Resumable:
    """The latest usable checkpoint of a run folder; torn and foreign ones are skipped.

    belongs: whether a checkpoint is this run's. load: reads one, as `load_checkpoint` does. Raises
    `CheckpointError` if there are checkpoints and none can be used: to start over in silence
    would lose what the user has.
    """
    load = load or load_checkpoint
    refused = []
    for path in sorted((run_dir / CHECKPOINTS).glob("step-*.pt"), reverse=True):
        try:
            checkpoint = load(path)
        except CheckpointError as error:
            refused.append(str(error))
            continue
        if belongs(checkpoint):
            return Resumable(checkpoint, tuple(refused))
        refused.append(f"{path} was written by a run with other options or data")
    if refused:
        raise CheckpointError(f"{refused[0]}; no earlier one is left: --fresh starts over")
    return Resumable(None)


def open_checkpoint(path: Path, opened: Opened) -> Checkpoint:
    """What `load_checkpoint` reads, on the CPU: once, until the file changes. Its tensors are
    shared and must not be changed.
    """
    name, version = ("checkpoint", path.resolve()), LocalStorage(path.parent).version(path.name)
    return opened.once(name, lambda: load_checkpoint(path), version)


def load_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """Reads a checkpoint. Raises `CheckpointError` if it is missing, torn, foreign or of an
    unknown version, `OSError` if this process cannot read it now.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}; give a .pt file or a run folder")
    import torch

    try:
        # A file of another kind would go to torch's reader of old pickles, which warns and then
        # fails in its own ways; ours are zip archives, whose checksums are looked at first.
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                if (torn := archive.testzip()) is not None:
                    raise ValueError(f"{torn} is damaged")
            file.seek(0)
            values = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and is_cause(error)):
            raise  # nothing is wrong with the file, which is not to be passed over
        raise CheckpointError(
            f"{path} is no checkpoint that can be read ({type(error).__name__}): torn, or not "
            "made by this program; give another one"
        ) from error
    if isinstance(values, dict) and values.get("version") == 2 and values.keys() >= _VERSION_2:
        values = _from_version_2(values)
    if not isinstance(values, dict) or "version" not in values or "states" not in values:
        raise CheckpointError(
            f"{path} holds no checkpoint of this program; train with: quickdraw train"
        )
    if values["version"] != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {values['version']}, this program reads 2 and "
            f"{CHECKPOINT_VERSION}; train again"
        )
    run_id = values.get("mlflow_run_id")  # names a folder of reports, and a run to write to
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise CheckpointError(f"{path} names {run_id!r} as its MLflow run: not an id of MLflow")
    checkpoint = Checkpoint(**values)
    return replace(checkpoint, config=regrouped(checkpoint.config))


def _from_version_2(values: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had the parts beside the facts, and of the running average the weights alone."""
    import torch

    states = {name: values.pop(name) for name in ("model", "optimizer", "loader")}
    names = ("metrics", "best", "since_best")
    states["validations"] = {name: values.pop(name) for name in names}
    average = values.pop("ema")
    if average is not None:
        states["ema"] = {f"{_AVERAGED}{name}": value for name, value in average.items()}
        states["ema"]["n_averaged"] = torch.tensor(values["step"])
    return {**values, "states": states, "version": CHECKPOINT_VERSION}
