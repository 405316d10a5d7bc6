"""What an evaluation returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.metrics.by_strokes import UntilRight
from quickdraw_core.metrics.metrics import Estimate


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation found; the rest is in the files beside `report`.

    scores: by the names of METRICS. class_scores: word → scores. images_per_second,
    data_wait_share: of the predicting, which an earlier evaluation may have done. precision: what
    the model computed in, a name of PRECISIONS. mlflow_page: address of the run's page, if MLflow
    has a server. skipped: an earlier evaluation had done all of it. until_right: after how many
    strokes drawings are recognised; None if no partial drawing was judged.
    """

    scores: Mapping[str, Estimate]
    class_scores: Mapping[str, Mapping[str, Estimate]]
    short_classes: dict[str, int]
    guess_lines: list[str]
    report: Path
    model: str
    images_per_second: float
    data_wait_share: float
    mlflow_run_id: str
    tracking_uri: str
    precision: str
    mlflow_page: str | None = None
    tracking_problem: str | None = None
    skipped: bool = False
    until_right: UntilRight | None = None
