"""The sweep's configuration."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.storage.location import Location


class SweepConfig(ClusterConfig):
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
        None,
        ge=1,
        description="rows at once; default: as many as have GPUs, or one; elsewhere: one a host",
    )
    where: Literal["here", "pool"] = Field(
        "here",
        description="where a flow trains rows: here, or each as a run of its own in Prefect's "
        "pool of the deployment sweep-row/pool",
    )
    run_dir: Path | None = Field(
        None, description="folder of the sweep; default: runs/sweep-<table>-<digest>"
    )
    fresh: bool = Field(False, description="start the rows again from the beginning")
    tracking_uri: str | None = Field(
        None, description="MLflow; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )

    @model_validator(mode="after")
    def _rows_run_in_one_place(self) -> Self:
        if self.where == "pool" and self.dask is not None:
            raise ValueError("rows run in Prefect's pool or on Dask's workers; leave out one")
        return self

    @property
    def is_elsewhere(self) -> bool:
        """Whether the rows are trained by other hosts."""
        return self.where == "pool" or self.dask is not None
