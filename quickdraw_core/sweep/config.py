"""The sweep's configuration."""

from pathlib import Path
from typing import Any

from pydantic import Field

from quickdraw_core.config import Config
from quickdraw_core.storage.location import Location


class SweepConfig(Config):
    """Which table to train and judge, on what, and where its traces go."""

    table: str = Field(description="name of a built-in table, or a TOML file")
    store: Location = Field(
        Path("store"), description="folder or address of the store to train and judge on"
    )
    per_class: int = Field(100, ge=1, description="held-out drawings a class to judge on")
    allow_short: bool = Field(
        False, description="judge classes with fewer drawings than per_class on all that they have"
    )
    rows: tuple[str, ...] = Field((), description="names of the rows to train; default: all")
    changes: dict[str, Any] = Field({}, description="options of TrainConfig to set in all rows")
    parallel: int | None = Field(
        None, ge=1, description="rows at once; default: as many as have GPUs, or one"
    )
    run_dir: Path | None = Field(
        None, description="folder of the sweep; default: runs/sweep-<table>-<digest>"
    )
    fresh: bool = Field(False, description="start the rows again from the beginning")
    tracking_uri: str | None = Field(
        None, description="MLflow; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )
