"""On which held-out drawings models are judged, and how: of every stage that judges."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quickdraw_core.config import Config, row_of
from quickdraw_core.inference.options import PRECISIONS, TTA, Looks, Precision
from quickdraw_core.storage.location import Location


class HeldOutConfig(Config):
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
    tta: Annotated[str, row_of(TTA)] = Field(
        Looks.NONE,
        description="test-time augmentation: none, or flip (the mirrored drawing as well)",
    )
    precision: Annotated[str, row_of(PRECISIONS)] = Field(
        Precision.FP32,
        description="arithmetic of judging, whatever the training's: fp32 or bf16",
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
