"""The evaluation stage's configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from quickdraw_core.config import Config
from quickdraw_core.errors import nearest
from quickdraw_core.evaluation.precision import PRECISIONS, Precision
from quickdraw_core.evaluation.tta import TTA, Looks
from quickdraw_core.store.location import Location


def _row_of(table: Mapping[str, str]) -> AfterValidator:
    """Refuses a name that is no row of the table, and says which was probably meant."""

    def check(value: str) -> str:
        if value not in table:
            raise ValueError(f"unknown name; {nearest(value, table)}")
        return value

    return AfterValidator(check)


class JudgedConfig(Config):
    """On which drawings models are judged, and how they look at them."""

    store: Location = Field(
        Path("store"), description="folder or address of the store with the held-out drawings"
    )
    per_class: int = Field(100, ge=1, description="held-out drawings a class")
    allow_short: bool = Field(
        False,
        description="judge classes with fewer drawings than per_class on what they have",
    )
    other_store: bool = Field(
        False, description="judge models that were trained on another store than this one"
    )
    tta: Annotated[str, _row_of(TTA)] = Field(
        Looks.NONE, description="test-time augmentation, row of TTA"
    )
    precision: Annotated[str, _row_of(PRECISIONS)] = Field(
        Precision.FP32,
        description="arithmetic of judging, whatever the training's: row of PRECISIONS",
    )
    seed: int = Field(
        0, ge=0, lt=1 << 63, description="of the resamples, and of the table of guesses"
    )
    ranks: int | None = Field(
        None, ge=1, description="processes that predict; none: one a GPU, or one"
    )
    batch_size: int = Field(256, ge=1, description="drawings computed at once by a process")
    tracking_uri: str | None = Field(
        None, description="MLflow; none: MLFLOW_TRACKING_URI, else mlflow.db in this folder"
    )


class EvaluateConfig(JudgedConfig):
    """Which model to judge, on what, and where the report goes."""

    model: str | None = Field(
        None,
        description="checkpoint file, run folder, MLflow run id or registered model; a pipeline "
        "fills it in",
    )
    ensemble: tuple[str, ...] = Field(
        (), description="further models; what is judged is the mean of all their probabilities"
    )
    average: int = Field(
        1, ge=1, description="latest checkpoints of the run folder whose mean weights are judged"
    )
    guesses: int = Field(64, ge=0, description="drawings in the printed table of guesses")
    report_dir: Path | None = Field(
        None, description="folder of the report; none: evaluation/ in the run's folder"
    )
    json_file: Path | None = Field(
        None, description="file that all numbers are written to, beside the report's"
    )

    @property
    def models(self) -> tuple[str, ...]:
        """All models that are judged together."""
        return (*((self.model,) if self.model is not None else ()), *self.ensemble)
