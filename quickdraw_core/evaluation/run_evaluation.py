"""Runs an evaluation: predicts the drawings, judges the predictions, writes numbers and report.

Out, in the report's folder and in the model's MLflow run: `evaluation.json` (all numbers with
their intervals), `predictions.parquet`, `partial_predictions.parquet` (of drawings after their
first strokes), `guesses.txt` (the table of guesses), `report.html` and `figures/`; in MLflow also
the metrics `test/…` and the table of classes.
"""

import json
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from quickdraw_core.cluster.computing import computing
from quickdraw_core.diagnosis.curves import Curves, curve_of, ended_diverged, read_curves
from quickdraw_core.errors import TrackingError
from quickdraw_core.evaluation.config import EvaluateConfig, evaluate_command
from quickdraw_core.evaluation.delivering import delivering_to
from quickdraw_core.evaluation.inputs import EvaluationInputs
from quickdraw_core.evaluation.publish import Publishing, publish
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.inference.cached_predictions import read_if_same, write_predictions
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.held_out import HeldOut, find_held_out
from quickdraw_core.inference.partial import PARTIAL_NAME, partial_drawings
from quickdraw_core.inference.predictions import PREDICTIONS_NAME, TimedPredictions
from quickdraw_core.launching.gpus import gpus_locked
from quickdraw_core.metrics.bootstrap import LEVEL, RESAMPLES
from quickdraw_core.metrics.by_strokes import StrokeJudgement, judge_by_strokes
from quickdraw_core.metrics.judgement import Judgement, judge
from quickdraw_core.outputs import OUTPUTS_NAME, note_outputs
from quickdraw_core.reporting.guess_table import guess_lines, sampled_guesses
from quickdraw_core.reporting.report import Report, write_report
from quickdraw_core.system.files import write_atomic
from quickdraw_core.system.output_files import is_stream, write_output
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery_process import Deliver
from quickdraw_core.tracking.runs import fetch_curves, run_page

_FILES = ("evaluation.json", "guesses.txt", "report.html")


def run_evaluation(prepared: EvaluationInputs, stopping: threading.Event | None) -> EvaluateResult:
    """Does the work of an evaluation; the caller holds the folder's lock."""
    held_out = find_held_out(prepared.config, prepared.store, prepared.opened)
    members, uri = prepared.models.members, prepared.tracking_uri
    run_dir = members[0].run_dir if len(members) == 1 else None
    with delivering_to(run_dir, uri, prepared.opened) as deliver:
        return _judged(prepared, held_out, stopping, deliver)


def _judged(
    prepared: EvaluationInputs,
    held_out: HeldOut,
    stopping: threading.Event | None,
    deliver: Deliver,
) -> EvaluateResult:
    config, models, folder = prepared.config, prepared.models, prepared.folder
    (folder / OUTPUTS_NAME).unlink(missing_ok=True)
    scores = _scores(prepared, held_out, stopping)
    judgement, by_strokes = scores.judgement, scores.by_strokes
    timed, predictions = scores.timed, scores.timed.predictions
    guesses = sampled_guesses(predictions, held_out.rows, config.guesses, config.seed)
    result = EvaluateResult(
        scores=judgement.scores,
        class_scores={row.word: row.scores for row in judgement.classes},
        short_classes=held_out.short,
        guess_lines=guess_lines(guesses),
        report=folder / "report.html",
        model=models.name,
        images_per_second=len(held_out.rows) / timed.seconds,
        data_wait_share=timed.waited_seconds / timed.seconds,
        mlflow_run_id=models.members[0].checkpoint.mlflow_run_id,
        tracking_uri=prepared.tracking_uri,
        precision=models.precision,
        until_right=by_strokes.until_right if by_strokes is not None else None,
    )
    facts = _facts(config, models, prepared.store.manifest.fingerprint)
    curves, curves_problem = training_curves(models, prepared.tracking_uri)
    scores.write_predictions(folder, facts)
    write_atomic(folder / "guesses.txt", "\n".join(result.guess_lines) + "\n", sync=False)
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
        has_diverged=_has_diverged(models),
        command=evaluate_command(config, [member.reference for member in models.members]),
        by_strokes=by_strokes,
    )
    figures = write_report(report, folder)
    _write_numbers(judgement, by_strokes, result, facts, config.json_file)
    files = [folder / name for name in (*_FILES, *scores.drawings)]
    publishing = Publishing(judgement, by_strokes, folder, files, figures)
    run_id, problem = publish(models, publishing, prepared.tracking_uri, deliver)
    result = replace(
        result,
        mlflow_run_id=run_id,
        mlflow_page=run_page(prepared.tracking_uri, run_id),
        tracking_problem=problem or curves_problem,
    )
    if result.tracking_problem is None:
        written = [*files, *figures, *_json_files(config)]
        note_outputs(folder, prepared.digest, written, result)
    return result


class _Scores(NamedTuple):
    """What was judged and predicted, by the name of the predictions' file, and the scores."""

    drawings: Mapping[str, HeldOut]
    predicted: Mapping[str, TimedPredictions]
    judgement: Judgement
    by_strokes: StrokeJudgement | None

    @property
    def timed(self) -> TimedPredictions:
        return self.predicted[PREDICTIONS_NAME]

    def write_predictions(self, folder: Path, facts: dict[str, str]) -> None:
        if PARTIAL_NAME not in self.predicted:  # of an evaluation with other options
            (folder / PARTIAL_NAME).unlink(missing_ok=True)
        for name, held_out in self.drawings.items():
            write_predictions(folder / name, self.predicted[name], facts, held_out)


def _scores(
    prepared: EvaluationInputs, held_out: HeldOut, stopping: threading.Event | None
) -> _Scores:
    seed = prepared.config.seed
    partial = partial_drawings(held_out, prepared.config.partial_per_class)
    drawings = {PREDICTIONS_NAME: held_out}
    drawings |= {PARTIAL_NAME: partial.held_out} if len(partial.of) else {}
    predicted = _predicted(prepared, drawings, stopping)
    predictions, by_strokes = predicted[PREDICTIONS_NAME].predictions, None
    if PARTIAL_NAME in predicted:
        partial_predictions = predicted[PARTIAL_NAME].predictions
        by_strokes = judge_by_strokes(predictions, partial, partial_predictions, seed)
    return _Scores(drawings, predicted, judge(predictions, seed), by_strokes)


def _predicted(
    prepared: EvaluationInputs,
    drawings: Mapping[str, HeldOut],
    stopping: threading.Event | None,
) -> dict[str, TimedPredictions]:
    """By the name of their file: the predictions of an earlier evaluation in the folder, if they
    hold; else new ones.
    """
    config, models = prepared.config, prepared.models
    cached = {
        name: read_if_same(prepared.folder / name, config, models, held_out)
        for name, held_out in drawings.items()
    }
    predicted = {name: timed for name, timed in cached.items() if timed is not None}
    missing = {name: held_out for name, held_out in drawings.items() if name not in predicted}
    if not missing:
        return predicted
    # Here, since cached predictions need none of what renders drawings.
    from quickdraw_core.inference.predict import predict_held_out

    gpus = gpus_locked(config.ranks or 1) if config.dask is None else nullcontext()
    with gpus, computing(config, else_do=", or leave out --dask") as workers:
        made = predict_held_out(config, models, [*missing.values()], stopping, workers)
    return predicted | dict(zip(missing, made, strict=True))


def _json_files(config: EvaluateConfig) -> list[Path]:
    """The further file of the numbers, if there is one that stays."""
    file = config.json_file
    return [] if file is None or is_stream(file) else [file]


def _write_numbers(
    judgement: Judgement,
    by_strokes: StrokeJudgement | None,
    result: EvaluateResult,
    facts: dict[str, str],
    json_file: Path | None,
) -> None:
    value: dict[str, Any] = {
        **judgement.to_json(),
        **({"by_strokes": by_strokes.to_json()} if by_strokes is not None else {}),
        "interval": {"level": LEVEL, "resamples": RESAMPLES},
        "short_classes": result.short_classes,
        "evaluated": facts,
    }
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_atomic(result.report.with_name("evaluation.json"), text, sync=False)
    if json_file is not None:
        write_output(json_file, text)


def _facts(config: EvaluateConfig, models: Ensemble, store_fingerprint: str) -> dict[str, str]:
    """What was judged, and how: enough to say whether two evaluations can be compared."""
    members = models.members
    kinds = {
        f"{m.config.model.name}, {m.image.side_px} px, {m.image.encoding} encoding"
        for m in members
    }
    return {
        "model": models.name,
        "model_digest": models.digest,
        "architecture": ", ".join(sorted(kinds)),
        "step": ", ".join(f"{m.checkpoint.step:,}" for m in members),
        "store_fingerprint": store_fingerprint,
        "trained_on": ", ".join(sorted({m.checkpoint.store_fingerprint for m in members})),
        "label_map_sha256": models.label_map.sha256,
        "per_class": str(config.per_class),
        "partial_per_class": str(config.partial_per_class),
        "average": str(config.average),
        "tta": config.tta,
        "precision": models.precision,
        "seed": str(config.seed),
        "mlflow_run_id": members[0].checkpoint.mlflow_run_id or "none",
    }


def training_curves(models: Ensemble, uri: str) -> tuple[Curves, str | None]:
    """The training's curves, from the run's folder, else from MLflow; none for an ensemble. And
    why they are missing if MLflow does not give them.
    """
    member = models.members[0]
    if len(models.members) > 1:
        return {}, None
    if member.run_dir is not None:
        return read_curves(member.run_dir), None
    run_id = member.checkpoint.mlflow_run_id
    if uri == NO_TRACKING or not run_id:
        return {}, None
    try:
        points = fetch_curves(uri, run_id)
    except TrackingError as error:
        return {}, str(error)
    return {name: curve_of(zip(*xy, strict=True)) for name, xy in points.items()}, None


def _has_diverged(models: Ensemble) -> bool:
    """Whether the training of a model diverged; False for an ensemble."""
    run_dir = models.members[0].run_dir
    return len(models.members) == 1 and run_dir is not None and ended_diverged(run_dir)
