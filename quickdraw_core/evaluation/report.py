"""The report: one self-contained HTML page, with the drawings as inline SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.evaluation.guesses import FAILED, Guess, guess_lines
from quickdraw_core.evaluation.metrics import ClassScores, Scores


class Report(NamedTuple):
    """All that the page says."""

    title: str
    subtitle: str
    overall: Scores
    classes: Sequence[ClassScores]
    guesses: Sequence[Guess]
    drawings: DrawingBatch
    per_class: int


def write_report(report: Report, path: Path) -> None:
    """Writes the page; nothing in it is loaded from outside."""
    environment = Environment(
        loader=PackageLoader("quickdraw_core.evaluation", ""), autoescape=True
    )
    short = [f"{c.word} ({c.scores.n})" for c in report.classes if c.scores.n < report.per_class]
    context: dict[str, Any] = {
        "title": report.title,
        "subtitle": report.subtitle,
        "overall": report.overall,
        "classes": sorted(report.classes, key=lambda row: (row.scores.map_at_3, row.word)),
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
        "short": ", ".join(short),
    }
    page = environment.get_template("report.html.jinja").render(context)
    path.write_text(page, encoding="utf-8")


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
