"""The evaluation stage: a model's guesses on the held-out drawings, judged and written down.

Out, in the report folder and in the model's MLflow run: `evaluation.json` (all numbers with
their intervals; written last, and so a sign that the rest is there), `predictions.parquet`,
`guesses.txt` (the table of guesses), `report.html` and `figures/`; in MLflow also the metrics
`test/…` and the table of classes.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_core.code_version import code_version
from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError, QuickdrawError, TrackingError
from quickdraw_core.evaluation.bootstrap import LEVEL, RESAMPLES
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.ensemble import Ensemble, load_models, pinned_references
from quickdraw_core.evaluation.guesses import Guess, guess_lines
from quickdraw_core.evaluation.held_out import (
    held_out_rows,
    judged_on,
    predict_held_out,
    require_enough_drawings,
    require_same_store,
    short_classes,
)
from quickdraw_core.evaluation.judgement import Judgement, judge
from quickdraw_core.evaluation.metrics import Estimate
from quickdraw_core.evaluation.predictions import PREDICTIONS_NAME, Predictions
from quickdraw_core.evaluation.publish import publish, require_own_folder, tracking_uri_of
from quickdraw_core.evaluation.report import Report, evaluate_command, write_report
from quickdraw_core.files import make_folder, require_writable, write_aside
from quickdraw_core.locks import held_folder
from quickdraw_core.output_files import is_stream, require_output, write_output
from quickdraw_core.outputs import OUTPUTS_NAME, note_outputs, outputs_hold
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_curves, run_page
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.curves import Curves, curve_of, read_curves, read_failure


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation says of itself; the rest stands in the files of `report_dir`.

    scores: by the names of METRICS and `map_at_3_class_mean`. class_scores: word → those of
    METRICS. precision: what the model computed in, a name of PRECISIONS. mlflow_page: address of
    the run's page, where MLflow has a server. skipped: it was judged so before, and nothing was
    to do.
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


def evaluate(config: EvaluateConfig, stopping: threading.Event | None = None) -> EvaluateResult:
    """Judges a model, or several that guess together, on the held-out drawings.

    stopping: once it is set, predicting ends as by Ctrl-C. Raises `CheckpointError` (no such
    model, or of other classes or another store), `ConfigError` or `StoreError` before work,
    `EvaluationError` where a process that predicts is lost or a model gives no numbers.
    """
    store, references, models = check(config)
    folder = _report_dir(config, models)
    with held_folder(folder, "evaluation"):
        return _evaluate(config, store, references, models, folder, stopping)


def _evaluate(
    config: EvaluateConfig,
    store: Store,
    references: Sequence[str],
    models: Ensemble,
    folder: Path,
    stopping: threading.Event | None,
) -> EvaluateResult:
    """Judges models into the folder of their report."""
    pack = open_pack(store)
    rows = held_out_rows(config, pack)
    (folder / OUTPUTS_NAME).unlink(missing_ok=True)

    predicted = predict_held_out(config, references, config.average, models, pack, stopping)
    predictions = predicted.predictions
    judgement = judge(predictions, config.seed)
    table = _sample(config, rows, predictions)
    result = EvaluateResult(
        scores=judgement.scores,
        class_scores={row.word: row.scores for row in judgement.classes},
        short_classes=short_classes(config, pack, rows),
        guess_lines=guess_lines(table),
        report=folder / "report.html",
        model=_name(models),
        images_per_second=len(rows) / predicted.seconds,
        data_wait_share=predicted.waited_seconds / predicted.seconds,
        mlflow_run_id=models.members[0].checkpoint.mlflow_run_id,
        tracking_uri=tracking_uri_of(config.tracking_uri, models),
        precision=models.precision,
    )
    facts = _facts(config, models, pack)
    curves, curves_problem = _curves(models, result.tracking_uri)
    predictions.write(folder / PREDICTIONS_NAME, facts)
    write_aside(folder / "guesses.txt", "\n".join(result.guess_lines) + "\n", sync=False)
    figures = write_report(
        Report(
            model=result.model,
            facts=facts,
            judgement=judgement,
            predictions=predictions,
            rows=rows,
            drawings=pack.drawings,
            guesses=table,
            per_class=config.per_class,
            curves=curves,
            classes_trained=sum(n > 0 for n in models.members[0].checkpoint.train_counts),
            failure=_failure(models),
            command=evaluate_command(config, references),
        ),
        folder,
    )
    _write_numbers(judgement, result, facts, folder, config.json_file)
    run_id, problem = publish(models, judgement, result.tracking_uri, folder, figures)
    if problem is None:
        written = [folder / name for name in ("evaluation.json", "guesses.txt", "report.html")]
        written += [folder / PREDICTIONS_NAME, *figures]
        if config.json_file is not None and not is_stream(config.json_file):
            written.append(config.json_file)
        note_outputs(folder, _asked(config, models, store), written)
    return replace(
        result,
        mlflow_run_id=run_id,
        mlflow_page=run_page(result.tracking_uri, run_id),
        tracking_problem=problem or curves_problem,
    )


def is_finished(config: EvaluateConfig) -> bool:
    """Whether the same model was judged on the same drawings before, by the same code, and all
    that came of it is still there and in MLflow.
    """
    try:
        store, _, models = check(config)
        if config.json_file is not None and is_stream(config.json_file):
            return False  # whoever reads there waits for the numbers
        return outputs_hold(_report_path(config, models), _asked(config, models, store))
    except (QuickdrawError, OSError):
        return False


def models_digest(config: EvaluateConfig) -> str:
    """SHA-256 of the weights to judge, and of how they look and compute. Raises
    `CheckpointError`.
    """
    return _loaded(config, config.models).digest


def _asked(config: EvaluateConfig, models: Ensemble, store: Store) -> str:
    """A digest of all that decides what an evaluation writes."""
    of = ("per_class", "allow_short", "other_store", "tta", "seed", "average", "guesses")
    decisive = {name: getattr(config, name) for name in (*of, "precision")}
    decisive |= {"models": models.digest, "store": store.manifest.fingerprint}
    decisive |= {"json_file": str(config.json_file), "code": code_version(*_DECISIVE_CODE)}
    decisive |= {"tracking_uri": tracking_uri_of(config.tracking_uri, models)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


_DECISIVE_CODE = ("drawing.py", "evaluation", "loading", "modeling", "render", "store/pack.py")


def check_asked(config: EvaluateConfig, training: TrainConfig) -> None:
    """Finds out before any work whether the model of a training can be judged as asked for.

    Raises `ConfigError`.
    """
    if config.model is not None:
        raise ConfigError(
            "a pipeline judges the model that it trains, but was given evaluate.model "
            f"{config.model}; leave it out, or put it into evaluate.ensemble"
        )
    if config.average > training.keep_checkpoints:
        raise ConfigError(
            f"evaluate.average={config.average} takes as many checkpoints, and the training "
            f"keeps {training.keep_checkpoints}; give train.keep_checkpoints={config.average}"
        )
    if config.json_file is not None:
        require_output(config.json_file)


def check_before_training(config: EvaluateConfig) -> None:
    """Finds out before a model is trained whether the store, and those it is to guess together
    with, let it be judged. Raises `StoreError` or `CheckpointError`.
    """
    require_enough_drawings(config)
    if config.ensemble:
        require_same_store(config, _loaded(config, config.ensemble), Store.open(config.store))


def check(config: EvaluateConfig) -> tuple[Store, tuple[str, ...], Ensemble]:
    """Opens store and models and makes sure that they belong together.

    Returns the store, the models' references, by number where they had an alias, and the models.
    """
    if not config.models:
        raise ConfigError("no model to evaluate: give a checkpoint, a run folder or a run id")
    if config.json_file is not None:
        require_output(config.json_file)
    store = Store.open(config.store)
    references = pinned_references(config.models, config.tracking_uri)
    models = _loaded(config, references)
    require_same_store(config, models, store)
    models = judged_on(models, store.manifest.fingerprint)
    require_writable(_report_path(config, models))
    return store, references, models


def _loaded(config: EvaluateConfig, references: Sequence[str]) -> Ensemble:
    return load_models(
        references,
        config.tracking_uri,
        config.average,
        config.tta,
        precision=config.precision,
    )


def _name(models: Ensemble) -> str:
    """For people: the model, or the models, and what is done beside their plain use."""
    names = [member.name for member in models.members]
    variant = models.members[0].variant
    return " + ".join(names) + (f" ({variant})" if variant else "")


def _facts(config: EvaluateConfig, models: Ensemble, pack: Pack) -> dict[str, str]:
    """Of what and on what: enough to tell whether two evaluations can be compared."""
    first = models.members[0]
    return {
        "model": _name(models),
        "model_digest": models.digest,
        "architecture": ", ".join(
            sorted(
                {
                    f"{m.config.model}, {m.config.side_px} px, {m.config.encoding} encoding"
                    for m in models.members
                }
            )
        ),
        "step": ", ".join(f"{m.checkpoint.step:,}" for m in models.members),
        "store_fingerprint": pack.fingerprint,
        "trained_on": ", ".join(sorted({m.checkpoint.store_fingerprint for m in models.members})),
        "label_map_sha256": models.label_map.sha256,
        "per_class": str(config.per_class),
        "average": str(config.average),
        "tta": config.tta,
        "precision": models.precision,
        "seed": str(config.seed),
        "mlflow_run_id": first.checkpoint.mlflow_run_id or "none",
    }


def _report_dir(config: EvaluateConfig, models: Ensemble) -> Path:
    """The folder of the report, which is made where it is missing."""
    folder = _report_path(config, models)
    if len(models.members) > 1:
        require_own_folder(folder, models)
    make_folder(folder)
    return folder.absolute()


def _report_path(config: EvaluateConfig, models: Ensemble) -> Path:
    """Where the report goes: as asked for; in the run's folder; an ensemble's is its own."""
    member = models.members[0]
    name = member.report_name
    if config.report_dir is not None:
        folder = config.report_dir
    elif len(models.members) > 1:
        digest = hashlib.sha256(f"{models.digest} {name}".encode()).hexdigest()[:10]
        folder = Path("runs") / f"ensemble-{len(models.members)}models-{digest}" / name
    else:
        folder = member.report_dir or Path("runs") / member.checkpoint.mlflow_run_id / name
    return folder


def _curves(models: Ensemble, uri: str) -> tuple[Curves, str | None]:
    """The training's curves, from the run's folder, else from MLflow; none of several models.
    And why there are none, where there should be: the report does without.
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
        found = fetch_curves(uri, run_id)
    except TrackingError as error:
        return {}, str(error)
    return {name: curve_of(zip(*points, strict=True)) for name, points in found.items()}, None


def _failure(models: Ensemble) -> str | None:
    run_dir = models.members[0].run_dir
    return read_failure(run_dir) if run_dir is not None and len(models.members) == 1 else None


def _sample(config: EvaluateConfig, rows: Int64Array, predictions: Predictions) -> list[Guess]:
    """The drawings of the printed table, chosen by chance."""
    words = predictions.label_map.words
    chosen = np.random.default_rng(config.seed).permutation(len(rows))[: config.guesses]
    return [
        Guess(
            int(rows[i]),
            tuple(words[g] for g in predictions.guesses[i]),
            words[predictions.labels[i]],
        )
        for i in chosen
    ]


def _write_numbers(
    judgement: Judgement,
    result: EvaluateResult,
    facts: dict[str, str],
    folder: Path,
    json_file: Path | None,
) -> None:
    value: dict[str, Any] = {
        **judgement.to_json(),
        "interval": {"level": LEVEL, "resamples": RESAMPLES},
        "short_classes": result.short_classes,
        "evaluated": facts,
    }
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_aside(folder / "evaluation.json", text, sync=False)
    if json_file is not None:
        write_output(json_file, text)
