"""What is cleaned up, and what stays."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from quickdraw_core.config import Config
from quickdraw_core.system.durations import seconds_of
from quickdraw_core.training.run_folder import RUNS


def _duration(text: str) -> str:
    seconds_of(text)
    return text


class CleanConfig(Config):
    """Where runs, stores and MLflow are, and how much of them stays."""

    runs: Path = Field(RUNS, description="folder of the runs")
    stores: tuple[Path, ...] = Field(
        (Path("store"),),
        description="folders of stores whose packs may go, beside those that runs were trained on",
    )
    keep: int = Field(5, ge=0, description="newest runs that stay, whatever their age")
    older_than: Annotated[str, AfterValidator(_duration)] = Field(
        "30d", description="how long a thing was not used before it may go, as 30d, 12h or 1d12h"
    )
    tracking_uri: str | None = Field(
        None, description="MLflow; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )
    results: Path | None = Field(
        None, description="folder of Prefect's kept results; default: as Prefect's settings say"
    )
    dry_run: bool = Field(False, description="say what would be removed, and remove nothing")

    @property
    def older_than_seconds(self) -> float:
        """`older_than` in seconds."""
        return seconds_of(self.older_than)
