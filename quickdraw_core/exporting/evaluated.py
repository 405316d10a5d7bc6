"""The evaluation of models that are exported: found, and of just these models."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from quickdraw_core.errors import CheckpointError, ConfigError, TrackingError
from quickdraw_core.evaluation.evaluate import default_report_folder
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.options import Precision
from quickdraw_core.serving.evaluated import (
    EVALUATION_NAME,
    Evaluated,
    evaluated_in,
    numbers_in,
)
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_file


def find_evaluation(
    models: Ensemble, folder: Path | None = None, tracking_uri: str | None = None
) -> Evaluated | None:
    """What an evaluation of just these models, used in just this way, found; None if there is
    none: in their default folder, or in the MLflow run of a model that was fetched.

    folder: of an evaluation that must be there. Raises `ConfigError` if it is none, or of
    something else.
    """
    with _evaluation_folder(models, folder, tracking_uri) as place:
        values = numbers_in(place / EVALUATION_NAME)
        problem = _problem_of(values, models)
        if values is None or problem:
            if folder is None:
                return None
            raise ConfigError(
                f"{folder} is no evaluation of {models.name}: {problem}; quickdraw evaluate "
                "makes one"
            )
        return evaluated_in(values)


@contextmanager
def _evaluation_folder(
    models: Ensemble, folder: Path | None, tracking_uri: str | None
) -> Iterator[Path]:
    """A folder with the files of an evaluation, which may lack them."""
    if folder is not None or len(models.members) > 1 or models.members[0].report_dir is not None:
        yield folder if folder is not None else default_report_folder(models)
        return
    model = models.members[0]
    uri, run_id = models.tracking_uri(tracking_uri), model.checkpoint.mlflow_run_id
    with tempfile.TemporaryDirectory() as temporary:
        if uri != NO_TRACKING and run_id:
            # Never evaluated, or MLflow is away.
            with suppress(CheckpointError, TrackingError):
                file = f"{model.report_name}/{EVALUATION_NAME}"
                fetch_file(uri, run_id, file, Path(temporary))
        yield Path(temporary)


def _problem_of(values: Mapping[str, Any] | None, models: Ensemble) -> str:
    """Why numbers are not those of the models as a bundle uses them, in float32; empty if they
    are.
    """
    if values is None:
        return f"it has no {EVALUATION_NAME} that can be read"
    judged = values.get("evaluated", {})
    if judged.get("model_digest") != models.digest:
        return f"it judged {judged.get('model')}, or other weights of it"
    if judged.get("precision") != Precision.FP32:
        return f"it was computed in {judged.get('precision')}, and a bundle computes in float32"
    return ""
