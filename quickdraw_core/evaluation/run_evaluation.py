"""Runs an evaluation: predicts the drawings, judges the predictions, writes numbers and report.

Out, in the report's folder and in the model's MLflow run: `evaluation.json` (all numbers with
their intervals), `predictions.parquet`, `guesses.txt` (the table of guesses), `report.html` and
`figures/`; in MLflow also the metrics `test/…` and the table of classes.
"""

import json
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from quickdraw_core.cluster.computing import computing
from quickdraw_core.diagnosis.curves import Curves, curve_of, ended_diverged, read_curves
from quickdraw_core.errors import TrackingError
from quickdraw_core.evaluation.config import EvaluateConfig, evaluate_command
from quickdraw_core.evaluation.delivering import delivering_to
from quickdraw_core.evaluation.inputs import EvaluationInputs
from quickdraw_core.evaluation.publish import publish
from quickdraw_core.evaluation.result import EvaluateResult
from quickdraw_core.inference.cached_predictions import read_if_same, write_predictions
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.held_out import HeldOut, find_held_out
from quickdraw_core.inference.predictions import PREDICTIONS_NAME, TimedPredictions
from quickdraw_core.launching.gpus import gpus_locked
from quickdraw_core.metrics.bootstrap import LEVEL, RESAMPLES
from quickdraw_core.metrics.judgement import Judgement, judge
from quickdraw_core.outputs import OUTPUTS_NAME, note_outputs
from quickdraw_core.reporting.guess_table import guess_lines, sampled_guesses
from quickdraw_core.reporting.report import Report, write_report
from quickdraw_core.system.files import write_atomic
from quickdraw_core.system.output_files import is_stream, write_output
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery_process import Deliver
from quickdraw_core.tracking.runs import fetch_curves, run_page


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
    predicted = _predicted(prepared, held_out, stopping)
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
        tracking_uri=prepared.tracking_uri,
        precision=models.precision,
    )
    facts = _facts(config, models, prepared.store.manifest.fingerprint)
    curves, curves_problem = training_curves(models, prepared.tracking_uri)
    write_predictions(folder / PREDICTIONS_NAME, predicted, facts)
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
    )
    figures = write_report(report, folder)
    _write_numbers(judgement, result, facts, config.json_file)
    run_id, problem = publish(models, judgement, prepared.tracking_uri, folder, figures, deliver)
    result = replace(
        result,
        mlflow_run_id=run_id,
        mlflow_page=run_page(prepared.tracking_uri, run_id),
        tracking_problem=problem or curves_problem,
    )
    if result.tracking_problem is None:
        note_outputs(folder, prepared.digest, _written(prepared, figures), result)
    return result


def _predicted(
    prepared: EvaluationInputs, held_out: HeldOut, stopping: threading.Event | None
) -> TimedPredictions:
    """The predictions of an earlier evaluation in the folder, if they hold; else new ones."""
    config, models = prepared.config, prepared.models
    cached = read_if_same(prepared.folder / PREDICTIONS_NAME, config, models, held_out)
    if cached is not None:
        return cached
    # Here, since cached predictions need none of what renders drawings.
    from quickdraw_core.inference.predict import predict_held_out

    gpus = gpus_locked(config.ranks or 1) if config.dask is None else nullcontext()
    with gpus, computing(config, else_do=", or leave out --dask") as workers:
        return predict_held_out(config, models, held_out, stopping, workers)


def _written(prepared: EvaluationInputs, figures: list[Path]) -> list[Path]:
    names = ("evaluation.json", "guesses.txt", "report.html", PREDICTIONS_NAME)
    written = [*(prepared.folder / name for name in names), *figures]
    if prepared.config.json_file is not None and not is_stream(prepared.config.json_file):
        written.append(prepared.config.json_file)
    return written


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
