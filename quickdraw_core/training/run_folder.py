"""A run's folder: what is being trained, for whoever starts, continues or reads it.

`RUN/run.json` is written by the launcher before the ranks start; the ranks read all they need
from it. Beside it: `rows/` (which drawings), `teachers/` (`distill.py`), `journal.jsonl`,
`log.txt` (what the processes printed), `checkpoints/`, and what MLflow's side needs
(`tracking/run_record.py`).
"""

import json
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.stage import Opened
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.storage.location import Location
from quickdraw_core.store.manifest import MANIFEST_NAME
from quickdraw_core.system.files import write_atomic
from quickdraw_core.training.checkpoint import Checkpoint, find_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.former_keys import regrouped

RUN_NAME = "run.json"
RUNS = Path("runs")
"""Where runs are that are given no folder."""


@dataclass(frozen=True)
class RunFolder:
    """The facts of one run.

    key: random, made once for each run. micro_split: into how many pieces a micro-batch is
    cut since the memory did not suffice for a whole one. code: the version of the code that it
    was begun with, as `training_code` gives it; empty for older runs. provenance: of the last
    attempt, as `Checkpoint` has it. steps: of the whole run, fixed when it began; None in older
    runs, whose configuration says it. begun_by: the job that began it, if it may start it again.
    """

    path: Path
    config: TrainConfig
    store_fingerprint: str
    key: str
    micro_split: int = 1
    code: str = ""
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    steps: int | None = None
    begun_by: str = ""

    @property
    def identity(self) -> str:
        """Of options, data and code, as `TrainConfig.identity`."""
        return self.config.identity(self.store_fingerprint, self.code or "unknown")

    def owns(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint was written with this run's options and data."""
        try:
            config = TrainConfig.parse(checkpoint.config)
        except ConfigError:  # of a version with other options
            return False
        code = self.code or "unknown"
        return config.identity(checkpoint.store_fingerprint, code) == self.identity

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        """Opens a run folder. Raises `CheckpointError` for another folder."""
        try:
            value = json.loads((path / RUN_NAME).read_text("utf-8"))
            config = TrainConfig.parse(regrouped(value.pop("config")))
            return cls(path=path, config=config, **value)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is no run folder: it has no {RUN_NAME}") from error
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise CheckpointError(
                f"{path / RUN_NAME} cannot be read ({error}); train again with --fresh"
            ) from error

    def write(self) -> None:
        """Writes `run.json`, whole or not at all."""
        value = asdict(self) | {"config": self.config.model_dump(mode="json")}
        del value["path"]  # it may be moved
        write_atomic(self.path / RUN_NAME, json.dumps(value, indent=1) + "\n")

    @staticmethod
    def is_there(path: Path) -> bool:
        """Whether a run was begun in this folder."""
        return (path / RUN_NAME).is_file()


def newest_run(runs: Path = RUNS) -> Path | None:
    """The run in a folder of runs whose best checkpoint is the newest; None if there is none."""
    best = {run.parent: find_checkpoint(run.parent, "best") for run in runs.glob(f"*/{RUN_NAME}")}
    written = {run: path.stat().st_mtime_ns for run, path in best.items() if path is not None}
    return max(written, key=lambda run: (written[run], run), default=None)


def store_of_model(model: Path) -> Location | None:
    """The store that a run folder, or the run of a checkpoint, was trained on, if it is there."""
    folders = (model, *model.parents[:2])
    run = next((folder for folder in folders if RunFolder.is_there(folder)), None)
    if run is None:
        return None
    store = RunFolder.read(run).config.store
    return store if storage_of(store).is_file(MANIFEST_NAME) else None


def open_run_folder(path: Path, opened: Opened) -> RunFolder:
    """What `RunFolder.read` reads: once, until `run.json` changes."""
    return opened.once(_opened_name(path), lambda: RunFolder.read(path), _version(path))


def keep_run_folder(run: RunFolder, opened: Opened) -> None:
    """Notes a run that this process has just written, for `open_run_folder`."""
    opened.keep(_opened_name(run.path), run, _version(run.path))


def _opened_name(path: Path) -> Hashable:
    return "run", path.resolve()


def _version(path: Path) -> Hashable:
    return LocalStorage(path).version(RUN_NAME)
