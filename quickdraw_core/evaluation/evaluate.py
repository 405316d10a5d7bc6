"""The evaluation stage: a model's guesses on the held-out drawings, judged and written down.

What it writes: `work.py`.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.report_folder import report_folder
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.inference.ensemble import PREDICTING_CODE, Ensemble, load_models
from quickdraw_core.inference.held_out import on_store, require_same_store
from quickdraw_core.outputs import result_of_outputs
from quickdraw_core.stage import Opened, Stage, key_of, options_of
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.code_version import code_version
from quickdraw_core.system.locks import held_folder
from quickdraw_core.system.output_files import is_stream, require_output

_JUDGING_CODE = (
    *PREDICTING_CODE,
    *("evaluation", "inference", "metrics", "reporting", "diagnosis"),
)
_UNDECISIVE = ("model", "ensemble", "store", "ranks", "batch_size", "report_dir", "tracking_uri")
"""Options that decide nothing of what is written, or only by what they lead to."""


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation that can begin: store and models are open and belong together.

    folder: of the report; an absolute path, which may not be there yet.
    """

    config: EvaluateConfig
    opened: Opened = field(repr=False)
    store: Store = field(repr=False)
    models: Ensemble = field(repr=False)
    folder: Path

    def key(self) -> str:
        """Of all that decides what is written, and where."""
        return key_of("evaluate", self.asked, str(self.folder))

    def finished(self) -> EvaluateResult | None:
        """The result, where the same model was judged on the same drawings before, by the same
        code, and all that came of it is still there and in MLflow.
        """
        if self.config.json_file is not None and is_stream(self.config.json_file):
            return None  # whoever reads there waits for the numbers
        found = result_of_outputs(self.folder, self.asked, EvaluateResult)
        return None if found is None else replace(found, skipped=True)

    def run(self, stopping: threading.Event | None = None) -> EvaluateResult:
        """Judges the models, and writes all of it down.

        stopping: once it is set, predicting ends as by Ctrl-C. Raises `BusyError` (another
        evaluation is at work in the folder) or `StoreError` before work, `EvaluationError` where
        the store changed, a process that predicts is lost, or a model gives no numbers.
        """
        # Here, since what is finished needs none of it.
        from quickdraw_core.evaluation.work import judge_and_write

        with held_folder(self.folder, "evaluation"):
            return self.finished() or judge_and_write(self, stopping)

    @cached_property
    def asked(self) -> str:
        """A digest of all that decides what an evaluation writes."""
        decisive = options_of(self.config, *_UNDECISIVE)
        if self.config.json_file is not None:
            decisive["json_file"] = str(self.config.json_file.absolute())
        decisive |= {"models": self.models.digest, "store": self.store.manifest.fingerprint}
        decisive |= {"tracking_uri": self.tracking_uri, "code": code_version(*_JUDGING_CODE)}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @cached_property
    def tracking_uri(self) -> str:
        """Where the model's run is."""
        return self.models.tracking_uri(self.config.tracking_uri)


def prepare(config: EvaluateConfig, opened: Opened) -> PreparedEvaluation:
    """Opens store and models and makes sure that they belong together.

    Raises `ConfigError`, `CheckpointError` (no such model, or of other classes or another store)
    or `StoreError`.
    """
    if not config.models:
        raise ConfigError("no model to evaluate: give a checkpoint, a run folder or a run id")
    if config.json_file is not None:
        require_output(config.json_file)
    store = open_store(config.store, opened)
    models = load_models(
        config.models,
        config.tracking_uri,
        config.average,
        config.tta,
        precision=config.precision,
        opened=opened,
    )
    require_same_store(config, models, store)
    models = on_store(models, store.manifest.fingerprint)
    return PreparedEvaluation(config, opened, store, models, report_folder(config, models))


EVALUATE_STAGE = Stage("evaluate", prepare)


def evaluate(
    config: EvaluateConfig,
    stopping: threading.Event | None = None,
    opened: Opened | None = None,
) -> EvaluateResult:
    """Judges a model, or several that guess together, on the held-out drawings; what is judged
    so already is not judged again. Raises what `prepare` and `PreparedEvaluation.run` do.
    """
    prepared = prepare(config, opened or Opened())
    return prepared.finished() or prepared.run(stopping)
