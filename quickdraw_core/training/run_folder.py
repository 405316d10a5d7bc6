"""A run's folder: what is being trained, for whoever starts, continues or reads it.

`RUN/run.json` is written by the launcher before the ranks start; the ranks read all they need
from it. Beside it: `journal.jsonl`, `log.txt` (what the processes printed), `checkpoints/`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.training.config import TrainConfig

_NAME = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """The facts of one run."""

    path: Path
    config: TrainConfig
    store_fingerprint: str
    tracking_uri: str
    mlflow_run_id: str

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        """Opens a run folder. Raises `CheckpointError` where it is none."""
        try:
            value = json.loads((path / _NAME).read_text())
            config = TrainConfig.parse(value["config"])
            return cls(
                path,
                config,
                value["store_fingerprint"],
                value["tracking_uri"],
                value["mlflow_run_id"],
            )
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is no run folder: it has no {_NAME}") from error
        except (ValueError, KeyError, ConfigError) as error:
            raise CheckpointError(
                f"{path / _NAME} cannot be read ({error}); train again with --fresh"
            ) from error

    def write(self) -> None:
        """Writes `run.json` aside and renames it."""
        self.path.mkdir(parents=True, exist_ok=True)
        value = {
            "config": self.config.model_dump(mode="json"),
            "store_fingerprint": self.store_fingerprint,
            "tracking_uri": self.tracking_uri,
            "mlflow_run_id": self.mlflow_run_id,
        }
        temporary = self.path / f".{_NAME}.tmp"
        temporary.write_text(json.dumps(value, indent=1) + "\n")
        temporary.replace(self.path / _NAME)

    @staticmethod
    def is_there(path: Path) -> bool:
        """Whether a run was begun in this folder."""
        return (path / _NAME).is_file()


@dataclass(frozen=True)
class Plan:
    """How many steps a run takes, and when it validates."""

    steps_an_epoch: int
    steps: int
    validate_every: int

    @classmethod
    def of(cls, config: TrainConfig, drawings: int) -> "Plan":
        """The plan for so many train drawings. Raises `ConfigError` where they are too few."""
        steps_an_epoch = drawings // config.global_batch_size
        if not steps_an_epoch:
            raise ConfigError(
                f"{drawings} drawings to train on do not fill one global batch of "
                f"{config.global_batch_size}; choose a smaller global_batch_size"
            )
        steps = max(1, round(config.epochs * steps_an_epoch))
        every = max(1, round(config.validate_every_epochs * steps_an_epoch))
        return cls(steps_an_epoch, steps, min(every, steps))
