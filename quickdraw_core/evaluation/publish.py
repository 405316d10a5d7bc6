"""An evaluation in MLflow: its numbers, tables and files, in the run of what was judged.

The scores of a run's best checkpoint go to `test/…` and `evaluation/`; those of anything else
(another checkpoint, an average, TTA, another store) beside them, as `test-flip/…` and
`evaluation-flip/`. An ensemble is a run of its own.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quickdraw_core.differences.text import why_tag
from quickdraw_core.differences.why import Why
from quickdraw_core.errors import ConfigError, TrackingError
from quickdraw_core.evaluation.config import CompareConfig
from quickdraw_core.evaluation.delivering import has_journal
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.metrics.by_strokes import StrokeJudgement
from quickdraw_core.metrics.comparison_text import sentence
from quickdraw_core.metrics.differences import Comparison
from quickdraw_core.metrics.judgement import Judgement
from quickdraw_core.metrics.metrics import MEANS, Estimate
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import deliver_rest, send_records
from quickdraw_core.tracking.delivery_process import Deliver
from quickdraw_core.tracking.journal import (
    Record,
    append,
    file_record,
    points_record,
    status_record,
    tags_record,
    write_table,
)
from quickdraw_core.tracking.run_record import RunRecord, tracked_run_id, tracking_uri_of_run
from quickdraw_core.tracking.start_run import start_run
from quickdraw_core.training.run_folder import RunFolder

_MODELS_PARAM = "models_sha256"
_NOT_IN_KEYS = re.compile(r"[^\w\-. /]+")
"""What the name of a tag may not hold in MLflow."""


class Publishing(NamedTuple):
    """What MLflow gets of an evaluation. folder: of the report; files, figures: what is in it."""

    judgement: Judgement
    by_strokes: StrokeJudgement | None
    folder: Path
    files: Sequence[Path]
    figures: Sequence[Path]


def publish(
    models: Ensemble, what: Publishing, uri: str, deliver: Deliver = deliver_rest
) -> tuple[str, str | None]:
    """Sends scores and files to the MLflow run; returns its id, and why that failed, or None.

    If the run's journal is here, they go through it: a server that is away gets them later. All
    is on disk in any case.
    """
    first = models.members[0]
    run_id, run_dir = first.checkpoint.mlflow_run_id, first.run_dir
    if uri == NO_TRACKING:
        return run_id, None
    if len(models.members) > 1:
        return _publish_ensemble(models, what, uri)
    if not (run_id or run_dir):
        return run_id, None
    records = _records(what, first.variant, first.report_name)
    return send_to_run(run_dir, uri, run_id, records, deliver)


def publish_why(
    model: TrainedModel,
    config: CompareConfig,
    comparison: Comparison,
    answer: Why,
    files: Sequence[Path],
) -> str | None:
    """Gives a model's MLflow run what differs from the first model: as a tag, and the files of
    the comparison as artifacts. Returns why that failed, or None.
    """
    run_id, run_dir = model.checkpoint.mlflow_run_id, model.run_dir
    uri = tracking_uri_of_run(config.tracking_uri, run_dir)
    if uri == NO_TRACKING or not (run_id or run_dir):
        return None
    name = _NOT_IN_KEYS.sub("_", comparison.first)
    split = "" if config.split == "test" else f"_on_{config.split}"
    tag = {f"compared{split}_with.{name}": f"{sentence(comparison)}\n{why_tag(answer)}"}
    folder = f"comparison{split}-{name}".replace("/", "_")
    artifacts = [file_record(path, f"{folder}/{path.name}") for path in files]
    return send_to_run(run_dir, uri, run_id, [tags_record(tag), *artifacts])[1]


def send_to_run(
    run_dir: Path | None,
    uri: str,
    run_id: str,
    records: list[Record],
    deliver: Deliver = deliver_rest,
) -> tuple[str, str | None]:
    """Adds records to a finished run: through its journal if that is here and belongs to the
    address, else directly. Returns the run's id, which a server that was away during the training
    gives only now, and why it failed, or None.
    """
    if run_dir is not None and has_journal(run_dir, uri):
        append(run_dir, *records)
        problem = deliver(run_dir).problem
        return tracked_run_id(run_dir) or run_id, problem
    if not run_id:
        return run_id, (
            f"the model has no run in MLflow at {uri}; the same training again, with "
            f"--tracking-uri {uri}, makes it there"
        )
    try:
        send_records(uri, run_id, records)
    except TrackingError as error:
        return run_id, str(error)
    return run_id, None


def require_own_folder(folder: Path, models: Ensemble) -> None:
    """Refuses a report folder that belongs to another ensemble or to a training: the scores would
    go into that run. Raises `ConfigError`.
    """
    record = RunRecord.read(folder)
    if RunFolder.is_there(folder) or (
        record is not None and record.params.get(_MODELS_PARAM) != models.digest
    ):
        raise ConfigError(
            f"{folder} belongs to another run; give an ensemble a --report-dir of its own"
        )


def _publish_ensemble(models: Ensemble, what: Publishing, uri: str) -> tuple[str, str | None]:
    """An ensemble's folder is a run folder to tracking: it has a run record and a journal."""
    params = {
        f"member_{number}": member.checkpoint.mlflow_run_id or member.name
        for number, member in enumerate(models.members, 1)
    }
    params |= {
        "tta": models.members[0].tta,
        "precision": models.precision,
        "average": str(models.members[0].average),
        _MODELS_PARAM: models.digest,
    }
    tags = {
        "mlflow.source.name": "quickdraw evaluate",
        "label_map_sha256": models.label_map.sha256,
        "store_fingerprint": models.members[0].checkpoint.store_fingerprint,
    }
    folder = what.folder
    opened = start_run(folder, uri, folder.parent.name, params, tags)
    append(folder, *_records(what, "", "evaluation"), status_record("FINISHED"))
    problem = deliver_rest(folder).problem or opened.problem
    record = RunRecord.read(folder)
    return record.run_id if record is not None else "", problem


def _records(what: Publishing, variant: str, artifacts: str) -> list[Record]:
    judgement = what.judgement
    prefix = "-".join(filter(None, ["test", variant]))
    table = what.folder / "classes.json"
    write_table(table, class_columns(judgement))
    files = [file_record(path, f"{artifacts}/{path.name}") for path in what.files]
    files += [file_record(path, f"{artifacts}/figures/{path.name}") for path in what.figures]
    note: dict[str, str] = {}
    if not variant:
        note = {"mlflow.note.content": _note(judgement), "test_drawings": str(judgement.n)}
    return [
        points_record(0, _points(prefix, judgement.scores), again=True),
        *(_curve_by_strokes(prefix, what.by_strokes) if what.by_strokes is not None else ()),
        *([tags_record(note)] if note else []),
        *files,
        file_record(table, f"{artifacts}/{table.name}", table=True),
    ]


def _points(prefix: str, scores: Mapping[str, Estimate]) -> dict[str, float]:
    points = {f"{prefix}/{name}": score.value for name, score in scores.items()}
    for name, score in scores.items():
        points |= {f"{prefix}/{name}_low": score.low, f"{prefix}/{name}_high": score.high}
    return points


def _curve_by_strokes(prefix: str, judged: StrokeJudgement) -> list[Record]:
    """Curves over the number of strokes, which stands for MLflow's step."""
    median = judged.until_right.value
    records = [
        points_record(
            each.strokes,
            _points(
                prefix, {"map_at_3_by_strokes": each.map_at_3, "top_1_by_strokes": each.top_1}
            ),
            again=True,
        )
        for each in judged.after
        if each.strokes is not None
    ]
    if median is not None:
        records.append(points_record(0, {f"{prefix}/strokes_until_right": median}, again=True))
    return records


def _note(judgement: Judgement) -> str:
    score, first, three = (judgement.scores[name] for name in ("map_at_3", "top_1", "top_3"))
    return (
        f"Held-out MAP@3 **{score.value:.4f}** ({score.low:.4f} to {score.high:.4f}), top-1 "
        f"{first.value:.1%}, top-3 {three.value:.1%} on {score.n:,} drawings; the report is "
        "`evaluation/report.html`."
    )


def class_columns(judgement: Judgement) -> dict[str, list[Any]]:
    """The table of classes as columns, for MLflow."""
    rows = judgement.classes
    columns: dict[str, list[Any]] = {"word": [row.word for row in rows]}
    for name in MEANS:
        columns[name] = [round(row.scores[name].value, 4) for row in rows]
    columns["map_at_3_low"] = [round(row.scores["map_at_3"].low, 4) for row in rows]
    columns["map_at_3_high"] = [round(row.scores["map_at_3"].high, 4) for row in rows]
    columns["drawings"] = [row.n for row in rows]
    columns["mistaken_for"] = [row.mistaken_for or "" for row in rows]
    return columns
