from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.evaluation.guesses import Guess, guess_lines
from quickdraw_core.evaluation.metrics import class_mean, score, score_by_class
from quickdraw_core.evaluation.report import Report, svg_path, write_report

ranks_lists = st.lists(st.integers(-1, 2), min_size=1, max_size=40)


@given(ranks_lists)
def test_scores_are_their_definitions(ranks: list[int]) -> None:
    scores = score(np.array(ranks))
    assert scores.n == len(ranks)
    assert scores.top_1 == pytest.approx(ranks.count(0) / len(ranks))
    assert scores.top_3 == pytest.approx(1 - ranks.count(-1) / len(ranks))
    worth = {0: 1.0, 1: 1 / 2, 2: 1 / 3, -1: 0.0}
    assert scores.map_at_3 == pytest.approx(sum(worth[r] for r in ranks) / len(ranks))


@given(st.integers(1, 5), st.data())
def test_class_scores_add_up_to_the_whole(classes: int, data: st.DataObject) -> None:
    ranks = data.draw(ranks_lists)
    n = len(ranks)
    label = st.integers(0, classes - 1)
    labels = np.array(data.draw(st.lists(label, min_size=n, max_size=n)))
    guesses = np.where(np.array(ranks) == 0, labels, (labels + 1) % classes)
    words = [f"word {k}" for k in range(classes)]
    table = score_by_class(words, labels, np.array(ranks), guesses)
    assert [row.word for row in table] == words
    assert sum(row.scores.n for row in table) == n
    weighted = sum(row.scores.map_at_3 * row.scores.n for row in table) / n
    assert weighted == pytest.approx(score(np.array(ranks)).map_at_3)


def test_the_class_mean_leaves_out_what_was_not_judged() -> None:
    words = ["cat", "dog", "eye"]
    table = score_by_class(
        words, np.array([0, 0, 0, 1]), np.array([0, 0, 0, -1]), np.zeros(4, int)
    )
    assert class_mean(table) == pytest.approx(0.5)
    assert table[1].mistaken_for == "cat"
    assert table[0].mistaken_for is None


TABLE = [
    Guess(0, ("hot dog", "cat", "eye"), "hot dog"),
    Guess(1, ("cat", "eye", "hot dog"), "eye"),
    Guess(0, ("cat", "eye", "hot dog"), "door"),
]


def test_the_table_of_guesses_reads_as_the_report_prints_it() -> None:
    assert guess_lines(TABLE) == [
        "Guess: [hot_dog] [    cat] [    eye]  Expected [hot_dog]",
        "Guess: [    cat] [    eye] [hot_dog]  Expected [    eye]",
        "Guess: [    cat] [    eye] [hot_dog]  Expected [   door]",
        "Guess failed!",
        "Total: 3 test drawings, 2 right, accuracy 67%",
    ]
    assert guess_lines([]) == ["Total: 0 test drawings, 0 right, accuracy 0%"]


def test_the_report_is_whole_in_itself_and_shows_every_guess(tmp_path: Path) -> None:
    drawings = DrawingBatch.from_strokes([[([0, 9], [0, 9])], [([5], [5])]])
    ranks, labels = np.array([0, -1]), np.array([0, 1])
    classes = score_by_class(["<cat>", "eye"], labels, ranks, np.array([0, 0]))
    path = tmp_path / "report.html"
    write_report(
        Report("a title", "a subtitle", score(ranks), classes, TABLE, drawings, 100), path
    )
    page = path.read_text()
    assert page.count("<figure") == len(TABLE)
    assert page.count("Guess failed!") == 1
    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    for outside in ("http:", "https:", "src=", "url(", "@import"):
        assert outside not in page


def test_a_dot_is_a_line_of_no_length() -> None:
    assert svg_path([([5], [5])]) == "M127.5 127.5L127.5 127.5"
