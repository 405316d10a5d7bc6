"""The evaluation stage: prepares it, and checks it for a pipeline before the training.

What it does and writes: `run_evaluation.py`.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quickdraw_core.cluster.connect import check_certificates
from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.inputs import EvaluationInputs
from quickdraw_core.evaluation.publish import require_own_folder
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.held_out import find_held_out, on_store, require_same_store
from quickdraw_core.inference.partial import PARTIAL_NAME
from quickdraw_core.inference.predictions import PREDICTIONS_NAME
from quickdraw_core.outputs import OUTPUTS_NAME, result_of_outputs
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of
from quickdraw_core.store.store import open_store
from quickdraw_core.system.files import require_writable
from quickdraw_core.system.locks import held_folder
from quickdraw_core.system.output_files import is_stream, require_output
from quickdraw_core.training.config import TrainConfig

_REUSED = (OUTPUTS_NAME, PREDICTIONS_NAME, PARTIAL_NAME)
"""Files that an evaluation would use again."""


@dataclass(frozen=True)
class PreparedEvaluation(EvaluationInputs):
    """An evaluation that can begin."""

    def key(self) -> str:
        """A digest of all that decides what is written, and where."""
        return key_of("evaluate", self.digest, str(self.folder))

    def finished(self) -> EvaluateResult | None:
        """An earlier result of the same models, drawings and code, if whole and in MLflow."""
        if self.config.json_file is not None and is_stream(self.config.json_file):
            return None  # its reader waits for the numbers
        result = result_of_outputs(self.folder, self.digest, EvaluateResult)
        return None if result is None else replace(result, skipped=True)

    def unfinished(self) -> Outlook:
        """Why there is no report to use."""
        if self.config.json_file is not None and is_stream(self.config.json_file):
            return Outlook(Action.ANEW, f"{self.config.json_file} waits for the numbers")
        if not (self.folder / OUTPUTS_NAME).is_file():
            return Outlook(Action.ANEW, "the model has no whole report yet")
        why = "its report is of another model, store, options or code, or a file of it was changed"
        return Outlook(Action.ANEW, why)

    def run(self, stopping: threading.Event | None = None) -> EvaluateResult:
        """Judges the models, and writes numbers and report.

        stopping: once it is set, predicting ends as by Ctrl-C. Raises `BusyError` (another
        evaluation is at work in the folder), `StoreError` or `ConfigError` (Dask) before work,
        `EvaluationError` if the store changed, a process that predicts fails, or a model gives
        NaN, `ClusterError` if Dask is lost.
        """
        # Here, since a finished evaluation needs none of it.
        from quickdraw_core.evaluation.run_evaluation import run_evaluation

        with held_folder(self.folder, "evaluation"):
            return self.finished() or run_evaluation(self, stopping)


def prepare(config: EvaluateConfig, opened: Opened) -> PreparedEvaluation:
    """Opens store and models and checks that they belong together.

    Raises `ConfigError`, `CheckpointError` (no such model, or of other classes or another store)
    or `StoreError`.
    """
    if not config.models:
        raise ConfigError("no model to evaluate: give a checkpoint, a run folder or a run id")
    if config.json_file is not None:
        require_output(config.json_file)
    check_certificates(config.tls)
    store = open_store(config.store, opened)
    models = _load(config, config.models, opened)
    require_same_store(config, models, store)
    models = on_store(models, store.manifest.fingerprint)
    return PreparedEvaluation(config, opened, store, models, report_folder(config, models))


def _begun_at(config: EvaluateConfig, opened: Opened) -> float | None:
    """When the oldest of what an evaluation would use again was written."""
    folder = prepare(config, opened).folder
    files = [folder / name for name in _REUSED]
    return min((path.stat().st_mtime for path in files if path.is_file()), default=None)


def _forget(config: EvaluateConfig, opened: Opened, since: float) -> None:
    """Deletes the record of a report of before, and the predictions that it would use again."""
    folder = prepare(config, opened).folder
    for name in _REUSED:
        path = folder / name
        if path.is_file() and path.stat().st_mtime < since:
            path.unlink()


EVALUATE_STAGE = Stage("evaluate", prepare, _begun_at, _forget)


def evaluate(
    config: EvaluateConfig,
    stopping: threading.Event | None = None,
    opened: Opened | None = None,
) -> EvaluateResult:
    """Judges a model or an ensemble, unless that was done before. Raises what the stage does."""
    prepared = prepare(config, opened or Opened())
    return prepared.finished() or prepared.run(stopping)


def check_evaluable(config: EvaluateConfig, training: TrainConfig) -> None:
    """Checks before any work whether a pipeline can evaluate the model that it trains.

    Raises `ConfigError`.
    """
    if config.model is not None:
        raise ConfigError(
            "a pipeline judges the model that it trains, but was given evaluate.model "
            f"{config.model}; leave it out, or put it into evaluate.ensemble"
        )
    if config.average > training.checkpoints.keep:
        raise ConfigError(
            f"evaluate.average={config.average} takes as many checkpoints, and the training "
            f"keeps {training.checkpoints.keep}; give train.checkpoints.keep={config.average}"
        )
    if config.json_file is not None:
        require_output(config.json_file)


def check_before_training(config: EvaluateConfig, opened: Opened) -> None:
    """Checks before a model is trained whether store and ensemble allow to evaluate it.

    Raises `StoreError` or `CheckpointError`.
    """
    store = open_store(config.store, opened)
    find_held_out(config, store, opened)
    if config.ensemble:
        require_same_store(config, _load(config, config.ensemble, opened), store)


def report_folder(config: EvaluateConfig, models: Ensemble) -> Path:
    """Folder of the report: as configured, else in the run's folder; an ensemble has its own. An
    absolute path, which may not exist yet.

    Raises `ConfigError` if nothing can be written there, or it is another run's.
    """
    folder = config.report_dir or default_report_folder(models)
    if len(models.members) > 1:
        require_own_folder(folder, models)
    require_writable(folder)
    return folder.absolute()


def default_report_folder(models: Ensemble) -> Path:
    """Folder of a report where none is configured; it may not exist."""
    member = models.members[0]
    name = member.report_name
    if len(models.members) > 1:
        digest = hashlib.sha256(f"{models.digest} {name}".encode()).hexdigest()[:10]
        return Path("runs") / f"ensemble-{len(models.members)}models-{digest}" / name
    return member.report_dir or Path("runs") / member.checkpoint.mlflow_run_id / name


def _load(config: EvaluateConfig, references: Sequence[str], opened: Opened) -> Ensemble:
    return load_models(
        references,
        config.tracking_uri,
        config.average,
        config.tta,
        precision=config.precision,
        opened=opened,
    )
