"""Options of pseudo-labels."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.config import row_of
from quickdraw_core.inference.options import PRECISIONS, TTA, Precision, Tta


class PseudoLabelConfig(ClusterConfig):
    """Which drawings, what models must be sure of, and where it is written."""

    drawings: str = Field(
        description="CSV of drawings without labels, as Kaggle's test_simplified.csv"
    )
    out: Path = Field(Path("pseudo-labels"), description="new folder for a CSV of each word")
    at_least: float = Field(
        0.8, gt=0, le=1, description="probability that a drawing's best word must have"
    )
    correct_prior: bool = Field(
        True,
        description="find out how often each class comes among the drawings, and correct the "
        "probabilities for it",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="divides the logits: below 1 the models are surer, as suits label smoothing",
    )
    tta: Annotated[str, row_of(TTA)] = Field(
        Tta.NONE,
        description="test-time augmentation: none, or flip (the mirrored drawing as well)",
    )
    precision: Annotated[str, row_of(PRECISIONS)] = Field(
        Precision.FP32, description="what models predict in: fp32 or bf16"
    )
    average: int = Field(
        1, ge=1, description="how many of the run folder's latest checkpoints to average"
    )
    tracking_uri: str | None = Field(
        None,
        description="MLflow; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder",
    )
