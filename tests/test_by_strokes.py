"""Partial drawings: what they are, and after how many strokes they are recognised."""

import json
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import predictions_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.formats.raw_drawing import drawing_of_raw
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.partial import (
    STROKE_COUNTS,
    Partial,
    partial_drawings,
    with_first_strokes,
)
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.metrics.by_strokes import StrokeJudgement, UntilRight, judge_by_strokes
from quickdraw_core.store.pack import Pack


def test_partial_drawings_are_those_that_the_game_would_give_the_model(pack: Pack) -> None:
    judged = HeldOut(pack, pack.test_rows(20), {})
    partial = partial_drawings(judged, 5)
    assert np.array_equal(judged.rows[partial.whole], pack.test_rows(5))
    rows = partial.held_out.rows
    assert len(rows)
    own = with_first_strokes(pack, rows, partial.strokes)
    assert np.array_equal(own.key_ids, pack.key_ids[rows])
    assert np.array_equal(own.labels, pack.labels[rows])
    for index, (row, count) in enumerate(zip(rows.tolist(), partial.strokes, strict=True)):
        strokes = pack.drawings.strokes(row)[:count]
        assert own.drawings.strokes(index) == drawing_of_raw(strokes).strokes(0)
        ends = slice(*own.drawings.point_offsets[index : index + 2])
        # As the game's: at the top left, as large as the square, but for what rounding drops.
        x, y = own.drawings.x[ends], own.drawings.y[ends]
        assert max(x.min(), y.min()) <= 2
        assert max(x.max(), y.max()) >= 250


def test_every_number_of_strokes_below_the_whole_is_asked_for_once(pack: Pack) -> None:
    judged = HeldOut(pack, pack.test_rows(20), {})
    partial = partial_drawings(judged, 20)
    found = set(zip(partial.of.tolist(), partial.strokes.tolist(), strict=True))
    assert len(found) == len(partial.of)
    for index, row in enumerate(judged.rows.tolist()):
        whole = len(pack.drawings.strokes(row))
        assert partial.whole_strokes[index] == whole
        assert {c for i, c in found if i == index} == {c for c in STROKE_COUNTS if c < whole}
    none = partial_drawings(judged, 0)
    assert len(none.whole) == len(none.of) == 0
    empty = with_first_strokes(pack, none.held_out.rows, none.strokes)
    assert len(empty) == len(empty.drawings) == 0


def ranked(ranks: list[int], labels: list[int], classes: int = 5) -> Predictions:
    """Predictions whose right word has these ranks, from 0."""
    n = len(ranks)
    found = predictions_of(np.zeros((n, classes)), np.array(labels, np.int64))
    return Predictions(**{**vars(found), "ranks": np.array(ranks, np.int64)})


def judged(steps: list[list[int]], labels: list[int], resamples: int = 40) -> StrokeJudgement:
    """steps: of each drawing the right word's rank after each of its strokes, at most 6."""
    strokes = np.array([len(each) for each in steps])
    of = np.repeat(np.arange(len(steps)), strokes - 1)
    counts = np.array([c for each in steps for c in range(1, len(each))], np.int64)
    partial = Partial(
        np.arange(len(steps)), strokes, of, HeldOut(cast(Pack, None), of, {}, counts)
    )
    found = ranked([r for each in steps for r in each[:-1]], [labels[i] for i in of])
    whole = ranked([each[-1] for each in steps], labels)
    return judge_by_strokes(whole, partial, found, resamples=resamples)


def plain_until_right(steps: list[int]) -> float:
    for count in range(1, len(steps) + 1):
        if all(rank == 0 for rank in steps[count - 1 :]):
            return count
    return np.inf


some_drawings = st.lists(
    st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 2)),
    min_size=1,
    max_size=12,
).filter(lambda all_: any(len(steps) > 1 for steps, _ in all_))


@settings(max_examples=60)
@given(some_drawings)
def test_scores_by_strokes_are_their_definitions(both: list[tuple[list[int], int]]) -> None:
    steps, labels = [each for each, _ in both], [label for _, label in both]
    found = judged(steps, labels)
    for after in found.after:
        at = [each[min(after.strokes or 99, len(each)) - 1] for each in steps]
        assert after.top_1.value == pytest.approx(np.mean([rank == 0 for rank in at]))
        worth = [1 / (rank + 1) if rank < 3 else 0 for rank in at]
        assert after.map_at_3.value == pytest.approx(np.mean(worth))
        assert after.map_at_3.low <= after.map_at_3.value <= after.map_at_3.high
        whole = [after.strokes is None or len(each) <= after.strokes for each in steps]
        assert after.whole_share == pytest.approx(np.mean(whole))
    longest = max(map(len, steps))
    assert [each.strokes for each in found.after] == [*range(1, longest), None]
    for until, mine in (
        (found.until_right, steps),
        *((row.until_right, [x for x, k in both if f"word {k:03}" == row.word])
          for row in found.classes),
    ):  # fmt: skip
        times = sorted(map(plain_until_right, mine))
        median = times[(len(times) - 1) // 2]  # the lower one of two
        assert until.n == len(mine)
        assert until.value == (None if median == np.inf else median)
        value, low, high = (np.inf if k is None else k for k in until[:3])
        assert low <= value <= high
    medians = [row.until_right.value or np.inf for row in found.classes]
    assert medians == sorted(medians)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_guess_counts_from_when_it_stays() -> None:
    found = judged([[0, 3, 0, 0], [0, 0, 2], [1, 0]], [0, 1, 2])
    times = {row.word: row.until_right.value for row in found.classes}
    assert times == {"word 000": 3, "word 001": None, "word 002": 2}
    assert found.to_json()["after_strokes"]["all"]["top_1"]["value"] == pytest.approx(2 / 3)
    assert found.until_right.value == 3


def test_the_interval_of_the_median_is_that_of_its_drawings() -> None:
    rng = np.random.default_rng(0)
    times = rng.integers(1, 6, 400)
    steps = [[4] * (k - 1) + [0] * (6 - k) for k in times.tolist()]
    found = judged(steps, [i % 5 for i in range(400)], resamples=300).until_right
    assert (found.value, found.low, found.high) == (3, 3, 3)
    few = judged(steps[:20], [0] * 20, resamples=300).until_right
    assert few.low is not None
    assert few.high is not None
    assert few.low < few.high
    assert UntilRight(2, 2, None, 9).interval_text() == "2 to never"


def test_a_drawing_whose_first_strokes_are_a_dot_is_given_as_a_dot(pack: Pack) -> None:
    drawings = DrawingBatch.from_strokes([[([40, 40], [7, 7]), ([0, 255], [0, 90])]])
    strokes, row = np.array([1]), np.array([0])
    (dot,) = with_first_strokes(
        Pack(**{**vars(pack), "drawings": drawings}), row, strokes
    ).drawings.strokes(0)
    assert dot == ([0, 0], [0, 0])
