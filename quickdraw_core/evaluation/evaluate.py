"""The evaluation stage: a model's guesses on the held-out drawings, judged and written down.

Out, in the report folder and in the model's MLflow run: `evaluation.json` (all numbers),
`guesses.txt` (the table of guesses), `report.html`; in MLflow also the metrics `test/…` and the
table of classes.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import CheckpointError, ConfigError, StoreError, TrackingError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.guesses import Guess, guess_lines
from quickdraw_core.evaluation.metrics import (
    ClassScores,
    Scores,
    class_mean,
    score,
    score_by_class,
)
from quickdraw_core.evaluation.model import TrainedModel, load_model
from quickdraw_core.evaluation.report import Report, write_report
from quickdraw_core.labels import require_same_labels
from quickdraw_core.loading.loader import drawn_rows
from quickdraw_core.modeling.ranking import hit_ranks, top_guesses
from quickdraw_core.progress import progress
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import NO_TRACKING, resolve_tracking_uri
from quickdraw_core.tracking.card import RunCard
from quickdraw_core.tracking.delivery import deliver_rest, send_records
from quickdraw_core.tracking.journal import (
    append,
    file_record,
    points_record,
    tags_record,
    write_table,
)
from quickdraw_core.training.run_folder import RunFolder

BATCH_SIZE = 256


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation says of itself; the rest stands in the files of `report_dir`."""

    scores: Scores
    class_mean_map_at_3: float
    short_classes: dict[str, int]
    guess_lines: list[str]
    report: Path
    mlflow_run_id: str
    tracking_uri: str
    tracking_problem: str | None = None


def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Judges a model on the held-out drawings.

    Raises `CheckpointError` (no such model, or of other classes) or `StoreError` before work.
    """
    store, model = check(config)
    pack = open_pack(store)
    rows = pack.test_rows(config.per_class)
    if not len(rows):
        raise StoreError(f"{config.store} holds no test drawing; ingest more rows a class")
    folder = _report_dir(config, model)

    guesses, ranks = _guess(model, pack, rows)
    labels = pack.labels[rows].astype(np.int64)
    words = pack.label_map.words
    overall = score(ranks)
    classes = score_by_class(words, labels, ranks, guesses[:, 0])
    table = _sample(config, words, rows, labels, guesses)
    result = EvaluateResult(
        scores=overall,
        class_mean_map_at_3=class_mean(classes),
        short_classes={c.word: c.scores.n for c in classes if c.scores.n < config.per_class},
        guess_lines=guess_lines(table),
        report=folder / "report.html",
        mlflow_run_id=model.checkpoint.mlflow_run_id,
        tracking_uri=_tracking_uri(config, model),
    )
    _write(result, classes, folder)
    train = model.config
    subtitle = (
        f"{train.model}, {train.side_px} px, {train.encoding} encoding, step "
        f"{model.checkpoint.step:,}; MLflow run {result.mlflow_run_id or 'none'}; "
        f"store {pack.fingerprint[:12]}"
    )
    title = f"{len(words)} kinds of doodles, judged on held-out drawings"
    write_report(
        Report(title, subtitle, overall, classes, table, pack.drawings, config.per_class),
        result.report,
    )
    problem = _track(result, classes, folder, _run_dir(model))
    return replace(result, tracking_problem=problem)


def check(config: EvaluateConfig) -> tuple[Store, TrainedModel]:
    """Opens store and model and makes sure that they are of the same classes."""
    if config.model is None:
        raise ConfigError("no model to evaluate: give a checkpoint, a run folder or a run id")
    store = Store.open(config.store)
    model = load_model(config.model, config.tracking_uri)
    require_same_labels(
        model.label_map,
        f"the model {config.model}",
        store.label_map,
        f"the store {config.store}",
        CheckpointError,
    )
    return store, model


def _run_dir(model: TrainedModel) -> Path | None:
    """The run folder that the model's checkpoint stands in; None where it was taken elsewhere."""
    if model.path is None or not RunFolder.is_there(model.path.parent.parent):
        return None
    return model.path.parent.parent


def _tracking_uri(config: EvaluateConfig, model: TrainedModel) -> str:
    """Where the model's run is: as asked for, else where its run folder says, else the default."""
    asked = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    run_dir = _run_dir(model)
    card = RunCard.read(run_dir) if run_dir is not None else None
    if asked is None and card is not None:
        return card.uri
    return resolve_tracking_uri(asked)


def _report_dir(config: EvaluateConfig, model: TrainedModel) -> Path:
    if config.report_dir is not None:
        folder = config.report_dir
    elif model.path is not None:
        parent = model.path.parent
        folder = (parent.parent if parent.name == "checkpoints" else parent) / "evaluation"
    else:
        folder = Path("runs") / str(config.model) / "evaluation"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the report folder {folder}: {error.strerror}") from error
    return folder.absolute()


def _guess(model: TrainedModel, pack: Pack, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Labels guessed, best first, int64 [n, 3], and the right one's place, int64 [n]."""
    guesses, ranks = [], []
    encoding, side_px = model.config.encoding, model.config.side_px
    with progress("evaluate", len(rows), "drawings") as bar:
        for batch in drawn_rows(pack, rows, encoding, side_px, BATCH_SIZE):
            best = top_guesses(model.logits(batch.images_nchw))
            guesses.append(best)
            ranks.append(hit_ranks(best, batch.labels_n))
            bar.advance(len(best))
    return torch.cat(guesses).numpy(), torch.cat(ranks).numpy()


def _sample(
    config: EvaluateConfig,
    words: tuple[str, ...],
    rows: Int64Array,
    labels: Int64Array,
    guesses: Int64Array,
) -> list[Guess]:
    """The drawings of the printed table, chosen by chance."""
    rng = np.random.default_rng(config.seed)
    chosen = rng.permutation(len(rows))[: config.guesses]
    return [
        Guess(int(rows[i]), tuple(words[g] for g in guesses[i]), words[labels[i]]) for i in chosen
    ]


def _write(result: EvaluateResult, classes: list[ClassScores], folder: Path) -> None:
    value = {
        **result.scores._asdict(),
        "map_at_3_class_mean": result.class_mean_map_at_3,
        "classes": {
            row.word: {**row.scores._asdict(), "mistaken_for": row.mistaken_for} for row in classes
        },
    }
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    (folder / "guesses.txt").write_text("\n".join(result.guess_lines) + "\n", encoding="utf-8")


def _track(
    result: EvaluateResult, classes: list[ClassScores], folder: Path, run_dir: Path | None
) -> str | None:
    """Puts scores and files into the model's MLflow run; returns what hindered it.

    By way of the run's journal where it is here: what a server that is away does not get is sent
    later. The work is done and on disk in any case.
    """
    run_id, uri = result.mlflow_run_id, result.tracking_uri
    if uri == NO_TRACKING or not (run_id or run_dir):
        return None
    records = _records(result, classes, folder)
    card = RunCard.read(run_dir) if run_dir is not None else None
    if run_dir is not None and card is not None and card.uri == uri:
        append(run_dir, *records)
        return deliver_rest(run_dir).problem
    try:
        send_records(uri, run_id, records)
    except TrackingError as error:
        return str(error)
    return None


def _records(
    result: EvaluateResult, classes: list[ClassScores], folder: Path
) -> list[dict[str, Any]]:
    scores = result.scores
    metrics = {
        "test/map_at_3": scores.map_at_3,
        "test/top_1": scores.top_1,
        "test/top_3": scores.top_3,
        "test/map_at_3_class_mean": result.class_mean_map_at_3,
    }
    note = (
        f"Held-out MAP@3 **{scores.map_at_3:.4f}**, top-1 {scores.top_1:.1%}, top-3 "
        f"{scores.top_3:.1%} on {scores.n:,} drawings; the report is `evaluation/report.html`."
    )
    columns: dict[str, list[Any]] = {
        "word": [row.word for row in classes],
        "map_at_3": [row.scores.map_at_3 for row in classes],
        "top_1": [row.scores.top_1 for row in classes],
        "top_3": [row.scores.top_3 for row in classes],
        "drawings": [row.scores.n for row in classes],
        "mistaken_for": [row.mistaken_for or "" for row in classes],
    }
    write_table(folder / "classes.json", columns)
    files = [
        file_record(folder / name, f"evaluation/{name}")
        for name in ("evaluation.json", "guesses.txt", "report.html")
    ]
    return [
        points_record(0, metrics, again=True),
        tags_record({"mlflow.note.content": note, "test_drawings": str(scores.n)}),
        *files,
        file_record(folder / "classes.json", "evaluation/classes.json", table=True),
    ]
