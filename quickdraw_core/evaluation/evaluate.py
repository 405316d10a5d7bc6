"""The evaluation stage: a model's guesses on the held-out drawings, judged and written down.

Out, in the report folder and in the model's MLflow run: `evaluation.json` (all numbers with
their intervals; written last, and so a sign that the rest is there), `predictions.parquet`,
`guesses.txt` (the table of guesses), `report.html` and `figures/`; in MLflow also the metrics
`test/…` and the table of classes.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from quickdraw_core.code_version import code_version
from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.bootstrap import LEVEL, RESAMPLES
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.ensemble import PREDICTING_CODE, Ensemble, load_models
from quickdraw_core.evaluation.facts import curves_of, facts_of, failure_of
from quickdraw_core.evaluation.guesses import guess_lines, sampled_guesses
from quickdraw_core.evaluation.held_out import (
    HeldOut,
    find_held_out,
    judged_on,
    predict_held_out,
    require_same_store,
)
from quickdraw_core.evaluation.judgement import Judgement, judge
from quickdraw_core.evaluation.predictions import PREDICTIONS_NAME, Predicted
from quickdraw_core.evaluation.publish import publish, tracking_uri_of
from quickdraw_core.evaluation.report import Report, evaluate_command, write_report
from quickdraw_core.evaluation.report_folder import report_folder
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.evaluation.reuse import read_if_same, write_predictions
from quickdraw_core.files import write_aside
from quickdraw_core.locks import held_folder
from quickdraw_core.output_files import is_stream, require_output, write_output
from quickdraw_core.outputs import OUTPUTS_NAME, note_outputs, result_of_outputs
from quickdraw_core.stage import Opened, Stage, key_of, options_of
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.tracking.runs import run_page
from quickdraw_core.training.gpus import gpus_locked

_JUDGING_CODE = (*PREDICTING_CODE, "evaluation")
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
        return key_of("evaluate", self._asked, str(self.folder))

    def finished(self) -> EvaluateResult | None:
        """The result, where the same model was judged on the same drawings before, by the same
        code, and all that came of it is still there and in MLflow.
        """
        if self.config.json_file is not None and is_stream(self.config.json_file):
            return None  # whoever reads there waits for the numbers
        found = result_of_outputs(self.folder, self._asked, EvaluateResult)
        return None if found is None else replace(found, skipped=True)

    def run(self, stopping: threading.Event | None = None) -> EvaluateResult:
        """Judges the models, and writes all of it down.

        stopping: once it is set, predicting ends as by Ctrl-C. Raises `BusyError` (another
        evaluation is at work in the folder) or `StoreError` before work, `EvaluationError` where
        the store changed, a process that predicts is lost, or a model gives no numbers.
        """
        with held_folder(self.folder, "evaluation"):
            return self.finished() or self._judged(stopping)

    @cached_property
    def _asked(self) -> str:
        """A digest of all that decides what an evaluation writes."""
        decisive = options_of(self.config, *_UNDECISIVE)
        if self.config.json_file is not None:
            decisive["json_file"] = str(self.config.json_file.absolute())
        decisive |= {"models": self.models.digest, "store": self.store.manifest.fingerprint}
        decisive |= {"tracking_uri": self._uri, "code": code_version(*_JUDGING_CODE)}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _uri(self) -> str:
        return tracking_uri_of(self.config.tracking_uri, self.models)

    def _judged(self, stopping: threading.Event | None) -> EvaluateResult:
        config, models, folder = self.config, self.models, self.folder
        held_out = find_held_out(config, self.store, self.opened)
        (folder / OUTPUTS_NAME).unlink(missing_ok=True)
        predicted = self._predicted(held_out, stopping)
        predictions = predicted.predictions
        judgement = judge(predictions, config.seed)
        guesses = sampled_guesses(predictions, held_out.rows, config.guesses, config.seed)
        result = EvaluateResult(
            scores=judgement.scores,
            class_scores={row.word: row.scores for row in judgement.classes},
            short_classes=held_out.short,
            guess_lines=guess_lines(guesses),
            report=folder / "report.html",
            model=models.name,
            images_per_second=len(held_out.rows) / predicted.seconds,
            data_wait_share=predicted.waited_seconds / predicted.seconds,
            mlflow_run_id=models.members[0].checkpoint.mlflow_run_id,
            tracking_uri=self._uri,
            precision=models.precision,
        )
        facts = facts_of(config, models, self.store.manifest.fingerprint)
        curves, curves_problem = curves_of(models, self._uri)
        write_predictions(folder / PREDICTIONS_NAME, predicted, facts)
        write_aside(folder / "guesses.txt", "\n".join(result.guess_lines) + "\n", sync=False)
        report = Report(
            model=result.model,
            facts=facts,
            judgement=judgement,
            predictions=predictions,
            rows=held_out.rows,
            drawings=held_out.pack.drawings,
            guesses=guesses,
            per_class=config.per_class,
            curves=curves,
            classes_trained=sum(n > 0 for n in models.members[0].checkpoint.train_counts),
            failure=failure_of(models),
            command=evaluate_command(config, [member.reference for member in models.members]),
        )
        figures = write_report(report, folder)
        _write_numbers(judgement, result, facts, config.json_file)
        run_id, problem = publish(models, judgement, self._uri, folder, figures)
        result = replace(
            result,
            mlflow_run_id=run_id,
            mlflow_page=run_page(self._uri, run_id),
            tracking_problem=problem or curves_problem,
        )
        if problem is None:
            note_outputs(folder, self._asked, self._written(figures), result)
        return result

    def _predicted(self, held_out: HeldOut, stopping: threading.Event | None) -> Predicted:
        """What an evaluation before left in the folder, if it is the same, else predicted now."""
        config, models = self.config, self.models
        found = read_if_same(self.folder / PREDICTIONS_NAME, config, models, held_out)
        if found is not None:
            return found
        with gpus_locked(config.ranks or 1):
            return predict_held_out(config, models, held_out, stopping)

    def _written(self, figures: list[Path]) -> list[Path]:
        names = ("evaluation.json", "guesses.txt", "report.html", PREDICTIONS_NAME)
        written = [*(self.folder / name for name in names), *figures]
        if self.config.json_file is not None and not is_stream(self.config.json_file):
            written.append(self.config.json_file)
        return written


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
    models = judged_on(models, store.manifest.fingerprint)
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


def _write_numbers(
    judgement: Judgement, result: EvaluateResult, facts: dict[str, str], json_file: Path | None
) -> None:
    value: dict[str, Any] = {
        **judgement.to_json(),
        "interval": {"level": LEVEL, "resamples": RESAMPLES},
        "short_classes": result.short_classes,
        "evaluated": facts,
    }
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_aside(result.report.with_name("evaluation.json"), text, sync=False)
    if json_file is not None:
        write_output(json_file, text)
