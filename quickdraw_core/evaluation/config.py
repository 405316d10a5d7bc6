"""The evaluation stage's configuration."""

from pathlib import Path

from pydantic import Field

from quickdraw_core.config import Config


class EvaluateConfig(Config):
    """Which model to judge, on what, and where the report goes."""

    model: str | None = Field(
        None, description="checkpoint file, run folder or MLflow run id; a pipeline fills it in"
    )
    store: Path = Field(
        Path("store"), description="folder of the store with the held-out drawings"
    )
    per_class: int = Field(100, ge=1, description="held-out drawings a class")
    guesses: int = Field(64, ge=0, description="drawings in the printed table of guesses")
    seed: int = Field(0, ge=0, description="chooses the drawings of that table")
    report_dir: Path | None = Field(
        None, description="folder of the report; none: evaluation/ in the run's folder"
    )
    tracking_uri: str | None = Field(
        None, description="MLflow; none: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )
