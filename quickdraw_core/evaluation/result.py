"""What an evaluation says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.metrics.metrics import Estimate


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation says of itself; the rest stands in the files of `report_dir`.

    scores: by the names of METRICS and `map_at_3_class_mean`. class_scores: word → those of
    METRICS. images_per_second, data_wait_share: of the predicting, whenever that was. precision:
    what the model computed in, a name of PRECISIONS. mlflow_page: address of the run's page, where
    MLflow has a server. skipped: it was judged so before, and nothing was to do.
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
