"""Options of every stage that judges models: on which held-out drawings, and how."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quickdraw_core.config import Config, row_of
from quickdraw_core.inference.options import PRECISIONS, TTA, Precision, Tta
from quickdraw_core.storage.location import Location


class HeldOutConfig(Config):
    """On which drawings models are judged, and how they predict."""

    store: Location = Field(
        Path("store"), description="folder or address of the store with the held-out drawings"
    )
    per_class: int = Field(100, ge=1, description="held-out drawings a class")
    allow_short: bool = Field(
        False,
        description="judge classes with fewer drawings than per_class on all that they have",
    )
    other_store: bool = Field(
        False, description="judge models that were trained on another store than this one"
    )
    tta: Annotated[str, row_of(TTA)] = Field(
        Tta.NONE,
        description="test-time augmentation: none, or flip (the mirrored drawing as well)",
    )
    precision: Annotated[str, row_of(PRECISIONS)] = Field(
        Precision.FP32,
        description="what models predict in, whatever they were trained in: fp32 or bf16",
    )
    seed: int = Field(
        0, ge=0, lt=1 << 63, description="seed of the bootstrap and of the table of guesses"
    )
    ranks: int | None = Field(
        None, ge=1, description="processes that predict; default: one per GPU, or one"
    )
    batch_size: int = Field(256, ge=1, description="drawings that a process computes at once")
    tracking_uri: str | None = Field(
        None,
        description="MLflow; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder",
    )
