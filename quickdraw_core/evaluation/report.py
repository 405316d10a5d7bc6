"""The report: one self-contained HTML page, with the drawings as inline SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader

from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.evaluation.guesses import FAILED, Guess, guess_lines
from quickdraw_core.evaluation.judgement import Judgement
from quickdraw_core.evaluation.predictions import Predictions


class Report(NamedTuple):
    """All that the page says.

    model: its name. facts: of what and on what, name → value. rows: int64 [N], where each
    predicted drawing stands in `drawings`. run_dir: the run folder whose curves are shown; None
    where it is not here, or where several models guess together.
    """

    model: str
    facts: Mapping[str, str]
    judgement: Judgement
    predictions: Predictions
    rows: Int64Array
    drawings: DrawingBatch
    guesses: Sequence[Guess]
    per_class: int
    run_dir: Path | None


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes `report.html`, of which nothing is loaded from outside, and `figures/*.png`.

    Returns the paths of the figures.
    """
    environment = Environment(
        loader=PackageLoader("quickdraw_core.evaluation", ""), autoescape=True
    )
    judgement = report.judgement
    context: dict[str, Any] = {
        "model": report.model,
        "facts": report.facts,
        "scores": judgement.scores,
        "classes": judgement.classes,
        "guesses": [
            {
                "guesses": guess.guesses,
                "expected": guess.expected,
                "is_right": guess.is_right,
                "path": svg_path(report.drawings.strokes(guess.row)),
            }
            for guess in report.guesses
        ],
        "guess_total": guess_lines(report.guesses)[-1],
        "failed": FAILED,
        "per_class": report.per_class,
    }
    page = environment.get_template("report.html.jinja").render(context)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return []


def svg_path(strokes: Sequence[tuple[Sequence[int], Sequence[int]]]) -> str:
    """An SVG path of a drawing, centred in the square 0..255; a dot is a line of no length."""
    xs = [x for stroke in strokes for x in stroke[0]]
    ys = [y for stroke in strokes for y in stroke[1]]
    left, top = (255 - min(xs) - max(xs)) / 2, (255 - min(ys) - max(ys)) / 2
    pieces = []
    for stroke_x, stroke_y in strokes:
        points = [f"{x + left:g} {y + top:g}" for x, y in zip(stroke_x, stroke_y, strict=True)]
        pieces.append("M" + "L".join(points if len(points) > 1 else points * 2))
    return "".join(pieces)
