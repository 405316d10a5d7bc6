"""The report: one self-contained HTML page, with figures and drawings as inline SVG."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from quickdraw_core import __version__
from quickdraw_core.diagnosis.curves import Curves
from quickdraw_core.diagnosis.diagnosis import Finding, diagnose
from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.formats.rows import UNKNOWN_RECOGNIZED
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.metrics.bootstrap import RESAMPLES
from quickdraw_core.metrics.by_strokes import ClassByStrokes, StrokeJudgement
from quickdraw_core.metrics.judgement import Judgement
from quickdraw_core.metrics.metrics import METRICS, Estimate
from quickdraw_core.reporting.evaluation_figures import FEW, FIGURES, draw_figures
from quickdraw_core.reporting.figure import RenderedFigure
from quickdraw_core.reporting.gallery import (
    Example,
    confused_examples,
    example_of,
    mistakes_of,
    most_confident_right,
    most_confident_wrong,
)
from quickdraw_core.reporting.guess_table import FAILED, Guess
from quickdraw_core.reporting.pages import render_page
from quickdraw_core.reporting.training_figures import CURVE_FIGURES
from quickdraw_core.system.files import open_atomic, write_atomic

_EXTREMES = 8
"""Classes in the table of strokes, of the quickest and of the slowest."""


class Report(NamedTuple):
    """All that the page shows.

    model: its name. facts: what was judged and how, name → value. rows: int64 [N], the row in
    `drawings` of each predicted drawing. curves: of the training; none for an ensemble.
    classes_trained: the number of classes that it was trained on. has_diverged: whether
    it ended on values that were not finite. command: that makes the page again. by_strokes: of
    partial drawings; None if there are none.
    """

    model: str
    facts: Mapping[str, str]
    judgement: Judgement
    predictions: Predictions
    rows: Int64Array
    drawings: DrawingBatch
    guesses: Sequence[Guess]
    per_class: int
    curves: Curves
    classes_trained: int
    has_diverged: bool = False
    command: str = ""
    by_strokes: StrokeJudgement | None = None


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes `report.html`, which loads nothing from outside, and `figures/*.png`, and removes
    figures of an earlier evaluation. Returns the paths of the figures.
    """
    figures = draw_figures(report.judgement, report.curves, report.by_strokes)
    findings = diagnose(report.curves, report.classes_trained, report.has_diverged)
    write_atomic(folder / "report.html", render(report, figures, findings), sync=False)
    paths = [folder / "figures" / f"{figure.name}.png" for figure in figures.values()]
    for path, figure in zip(paths, figures.values(), strict=True):
        with open_atomic(path, sync=False) as file:
            file.write(figure.png)
    for name in FIGURES:
        old = folder / "figures" / f"{name}.png"
        if old not in paths:
            old.unlink(missing_ok=True)
    return paths


def render(
    report: Report, figures: Mapping[str, RenderedFigure], findings: Sequence[Finding]
) -> str:
    """The page, as HTML. figures: of `draw_figures`; findings: of the training's curves."""
    return render_page("report.html.jinja", _context(report, figures, findings))


def _context(
    report: Report, figures: Mapping[str, RenderedFigure], findings: Sequence[Finding]
) -> dict[str, Any]:
    judgement, predictions = report.judgement, report.predictions
    words = judgement.label_map.words
    judged = {row.word for row in judgement.classes}

    def examples(indices: Iterable[int]) -> list[Example]:
        return [example_of(predictions, i, report.drawings, int(report.rows[i])) for i in indices]

    index_of = {int(row): index for index, row in enumerate(report.rows)}
    table = examples(index_of[guess.row] for guess in report.guesses)
    return {
        "model": report.model,
        "facts": {**report.facts, **_versions()},
        "command": report.command,
        "judgement": judgement,
        "words": words,
        "headline": judgement.scores["map_at_3"],
        "metrics": METRICS,
        "groups": _groups(judgement),
        "unknown": int((predictions.recognized == UNKNOWN_RECOGNIZED).sum()),
        "few": FEW,
        "classes": sorted(
            judgement.classes, key=lambda row: (row.scores["map_at_3"].value, row.word)
        ),
        "per_class": report.per_class,
        "short": [row for row in judgement.classes if row.n < report.per_class],
        "missing": [word for word in words if word not in judged],
        "figures": figures,
        "curve_figures": [figures[name] for name in CURVE_FIGURES if name in figures],
        "findings": findings,
        "right_examples": examples(most_confident_right(predictions)),
        "wrong_examples": examples(most_confident_wrong(predictions)),
        "pairs": [
            [
                (mistake, examples(confused_examples(predictions, mistake.label, mistake.guess)))
                for mistake in mistakes_of(pair)
            ]
            for pair in judgement.confused
        ],
        "table": table,
        "right": sum(example.is_right for example in table),
        "failed": FAILED,
        "resamples": RESAMPLES,
        "by_strokes": report.by_strokes,
        "strokes_table": _ends(report.by_strokes.classes) if report.by_strokes else [],
    }


def _ends(classes: Sequence[ClassByStrokes]) -> list[ClassByStrokes]:
    """The first and the last of the classes, or all if they are few."""
    if len(classes) <= 2 * _EXTREMES:
        return [*classes]
    return [*classes[:_EXTREMES], *classes[-_EXTREMES:]]


def _groups(judgement: Judgement) -> dict[str, Mapping[str, Estimate]]:
    """Columns of the table of numbers: all drawings, and those the game recognised or not."""
    subsets = {"recognised": judgement.recognized, "not recognised": judgement.unrecognized}
    return {"all drawings": judgement.scores, **{k: v for k, v in subsets.items() if v}}


def _versions() -> dict[str, str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy"))
    return {"versions": f"quickdraw {__version__}, Python {platform.python_version()}, {packages}"}
