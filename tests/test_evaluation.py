"""The numbers of an evaluation: metrics, intervals, ranking, and what is made of them. Pure."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_predictions import UNSAID, predictions_of, sure_predictions, words

from quickdraw_core.errors import InputError
from quickdraw_core.inference.predictions import Predictions, joined
from quickdraw_core.metrics import bootstrap
from quickdraw_core.metrics.bootstrap import interval, resampled_sums
from quickdraw_core.metrics.judgement import judge
from quickdraw_core.metrics.metrics import (
    BINS,
    CLASS_MEAN,
    METRICS,
    calibration_bins,
    confused_pairs,
    confusion,
)
from quickdraw_core.reporting.guess_table import Guess, guess_lines


@st.composite
def whole_numbers(draw: st.DrawFn, shape: tuple[int, ...], below: int) -> npt.NDArray[np.int64]:
    """From 0. Drawn at once: number by number, that takes longer than all that is tested."""
    size = int(np.prod(shape))
    data = draw(st.binary(min_size=size, max_size=size))
    return np.frombuffer(data, np.uint8).astype(np.int64).reshape(shape) % below


@st.composite
def logits_and_labels(
    draw: st.DrawFn, min_size: int = 1, max_size: int = 30
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Logits of few values, so that many are equal."""
    n, classes = draw(st.integers(min_size, max_size)), draw(st.integers(2, 7))
    logits = draw(whole_numbers((n, classes), 7)) - 3.0
    return logits, draw(whole_numbers((n,), classes))


def some_predictions(min_size: int = 1) -> st.SearchStrategy[Predictions]:
    return logits_and_labels(min_size).map(lambda both: predictions_of(*both))


def plain_map_at_3(actual: list[int], ranked_lists: list[list[int]]) -> float:
    """MAP@k as it is written down: precision at each place that is right, for one right answer."""
    total = 0.0
    for right, guesses in zip(actual, ranked_lists, strict=True):
        hits, score = 0, 0.0
        for place, guess in enumerate(guesses[:3], 1):
            if guess == right and guess not in guesses[: place - 1]:
                hits += 1
                score += hits / place
        total += score / min(1, 3)
    return total / len(actual)


@given(logits_and_labels(max_size=20))
def test_map_at_3_is_the_plain_one_also_where_scores_are_equal(
    both: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
) -> None:
    logits, labels = both
    # Of equal scores the lower label is guessed first, everywhere in this project.
    lists = [
        sorted(range(len(row)), key=lambda k, row=row: (-row[k], k)) for row in logits.tolist()
    ]
    found = predictions_of(logits, labels)
    assert found.guesses.tolist() == [ranking[:3] for ranking in lists]
    assert found.ranks.tolist() == [
        ranking.index(label) for ranking, label in zip(lists, labels, strict=True)
    ]
    judged = judge(found, resamples=2)
    assert judged.scores["map_at_3"].value == pytest.approx(plain_map_at_3(list(labels), lists))


@given(some_predictions())
def test_metrics_are_their_definitions(found: Predictions) -> None:
    scores, ranks = judge(found, resamples=2).scores, found.ranks + 1
    assert set(scores) == {*METRICS}
    assert scores["top_1"].value == pytest.approx(np.mean(ranks == 1))
    assert scores["top_3"].value == pytest.approx(np.mean(ranks <= 3))
    assert scores["mean_rank"].value == pytest.approx(np.mean(ranks))
    assert scores["log_loss"].value == pytest.approx(-np.mean(found.label_log_probabilities))
    assert scores["top_1"].value <= scores["map_at_3"].value <= scores["top_3"].value
    by_class = [np.mean(1 / ranks[mine] * (ranks[mine] <= 3)) for mine in masks(found)]
    assert scores[CLASS_MEAN].value == pytest.approx(np.mean(by_class))


def masks(found: Predictions) -> list[npt.NDArray[np.bool_]]:
    return [found.labels == label for label in np.unique(found.labels)]


@given(some_predictions())
def test_calibration_error_compares_confidence_with_accuracy_in_each_bin(
    found: Predictions,
) -> None:
    error, right = 0.0, found.ranks == 0
    for place in range(BINS):
        last = place == BINS - 1
        upper = np.inf if last else (place + 1) / BINS
        mine = (found.confidences >= place / BINS) & (found.confidences < upper)
        if mine.any():
            gap = abs(found.confidences[mine].mean() - right[mine].mean())
            error += gap * mine.sum() / len(found)
    judged = judge(found, resamples=2)
    assert judged.scores["expected_calibration_error"].value == pytest.approx(error, abs=1e-9)
    assert sum(group.n for group in calibration_bins(found)) == len(found)


@given(some_predictions(), st.integers(0, 5))
@example(predictions_of(np.zeros((5, 3)), np.array([0, 0, 0, 0, 1])), 0)  # by rounding, once not
def test_every_interval_holds_its_value_and_every_class_its_drawings(
    found: Predictions, seed: int
) -> None:
    judged = judge(found, seed, resamples=50)
    for scores in (judged.scores, judged.recognized, *(row.scores for row in judged.classes)):
        for name, estimate in scores.items():
            assert estimate.low <= estimate.value <= estimate.high, name
            assert estimate.n > 0
        assert scores["expected_calibration_error"].low >= 0
        for name in ("map_at_3", "top_1", "top_3"):
            assert 0 <= scores[name].low <= scores[name].high <= 1
    assert judged.n == len(found) == sum(row.n for row in judged.classes)


@given(some_predictions(min_size=2))
def test_recognised_and_unrecognised_are_judged_apart(found: Predictions) -> None:
    halves = np.arange(len(found)) % 3  # known, unknown to the game, unsaid
    mixed = Predictions(**{**vars(found), "recognized": halves.astype(np.uint8)})
    judged = judge(mixed, resamples=2)
    for part, value in ((judged.recognized, 1), (judged.unrecognized, 0)):
        mine = mixed.where(halves == value)
        assert part["top_1"].n == len(mine)
        assert part["top_1"].value == pytest.approx(np.mean(mine.ranks == 0))
    assert judge(found, resamples=2).unrecognized == {}


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 100)
    logits = rng.normal(size=(2_000, 20))
    logits[np.arange(2_000), labels] += 2
    judged = judge(predictions_of(logits, labels))
    for name in ("top_1", "top_3"):
        found = judged.scores[name]
        shares = np.array([row.scores[name].value for row in judged.classes])
        # Drawn by class: the variance within the classes alone.
        expected = 1.96 * np.sqrt(np.mean(shares * (1 - shares)) / found.n)
        assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)


def held(values: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], truth: float) -> float:
    """The share of the columns of `values`, [N, repetitions], whose interval holds the truth.

    A resample says how often each drawing stands in it, whatever is summed: all repetitions of a
    seed are summed at once. Three seeds, so that no resamples decide alone.
    """
    hits = 0
    for seed, some in enumerate(np.array_split(values, 3, axis=1)):
        parts = list(resampled_sums(some, labels, seed, resamples=400))
        low, high = interval(sum(part.resampled for part in parts) / len(labels), some.mean(0))
        hits += int(((low <= truth) & (truth <= high)).sum())
    return hits / values.shape[1]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, truth = np.random.default_rng(1), 0.7
    values = (rng.random((300, 300)) < truth).astype(float)
    assert 0.91 <= held(values, np.repeat(np.arange(5), 60), truth) <= 0.98


@pytest.mark.parametrize("each", [1, 2, 5, 100])
def test_intervals_are_as_wide_for_small_classes_as_their_drawings_ask_for(each: int) -> None:
    labels = np.repeat(np.arange(max(40, 400 // each)), each)
    values = np.random.default_rng(2).normal(size=(len(labels), 300))
    assert 0.91 <= held(values, labels, 0) <= 0.985


def test_a_calibrated_model_is_not_said_to_be_wrong_about_itself() -> None:
    rng, zero, told, repetitions, n = np.random.default_rng(3), 0, 0, 60, 480
    for repetition in range(repetitions):
        logits = rng.normal(size=(n, 8)) * 3
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        drawn = (rng.random((n, 1)) < chances.cumsum(1)).argmax(1)
        errors = [
            judge(found, repetition, 300).scores["expected_calibration_error"]
            for found in (predictions_of(logits * sharper, drawn, UNSAID) for sharper in (1, 3))
        ]
        zero += errors[0].low == 0
        told += errors[1].low > 0
    assert zero / repetitions >= 0.9
    assert told == repetitions, "three times as sure as it should be"


def test_the_interval_of_the_calibration_error_holds_the_truth() -> None:
    """Of a model that is surer than right by 3 %, where noise adds half as much again."""
    rng, truth, repetitions = np.random.default_rng(4), 0.03 * 3 / 5, 80
    labels = np.repeat(np.arange(4), 300)
    missed = [0, 0]
    for repetition in range(repetitions):
        sure = rng.beta(3, 2, len(labels))
        found = sure_predictions(labels, sure, rng.random(len(labels)) < 0.97 * sure)
        error = judge(found, repetition, 200).scores["expected_calibration_error"]
        missed[0] += error.low > truth
        missed[1] += error.high < truth
    # Each in 2.5 % of the cases, if exact: more than 9 of 80 in 1 of 10,000.
    assert max(missed) <= 9, missed


def test_resamples_are_of_each_class_as_many_and_the_same_for_any_values() -> None:
    labels = np.array([0, 0, 0, 2, 2, 5, 7])
    rng = np.random.default_rng(0)
    values = np.hstack([np.ones((7, 1)), rng.normal(size=(7, 2))])
    found = list(resampled_sums(values, labels, seed=3, resamples=40))
    assert [(part.label, part.n) for part in found] == [(0, 3), (2, 2), (5, 1), (7, 1)]
    for part in found:
        assert part.resampled[:, 0] == pytest.approx(part.n)
        # Single drawings are drawn from all such classes.
        mine = values[labels == part.label] if part.n > 1 else values[-2:]
        assert part.total == pytest.approx(values[labels == part.label].sum(0))
        assert part.resampled.min() >= mine.min() * part.n - 1e-9
        assert part.resampled.max() <= mine.max() * part.n + 1e-9
    others = list(resampled_sums(values[:, 1:2], labels, seed=3, resamples=40))
    for part, other in zip(found, others, strict=True):
        assert other.resampled[:, 0] == pytest.approx(part.resampled[:, 1])


def test_resamples_do_not_depend_on_how_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.repeat(np.arange(3), 7)
    values = np.random.default_rng(0).normal(size=(21, 2))

    def resampled() -> npt.NDArray[np.float64]:
        return np.stack([part.resampled for part in resampled_sums(values, labels, 1, 50)])

    expected = resampled()
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 30)
    assert (resampled() == expected).all()


@given(some_predictions())
def test_confused_pairs_are_counted_in_both_directions(found: Predictions) -> None:
    counts = confusion(found)
    assert counts.sum() == len(found)
    pairs = confused_pairs(counts, at_most=100)
    seen = {frozenset((pair.first, pair.second)) for pair in pairs}
    assert len(seen) == len(pairs)
    mistakes = [pair.first_as_second + pair.second_as_first for pair in pairs]
    assert sum(mistakes) == (found.ranks > 0).sum()
    assert mistakes == sorted(mistakes, reverse=True)
    for pair in pairs:
        taken = (found.labels == pair.first) & (found.guesses[:, 0] == pair.second)
        assert pair.first_as_second == taken.sum()
        assert pair.n_second == (found.labels == pair.second).sum()


def test_a_word_is_mistaken_for_what_is_guessed_most_often_instead() -> None:
    logits = np.eye(3)[[0, 1, 1, 2, 1, 2]] * 5
    judged = judge(predictions_of(logits, np.array([0, 0, 0, 0, 1, 2])), resamples=2)
    assert [row.mistaken_for for row in judged.classes] == ["word 001", None, None]
    assert [row.word for row in judged.worst] == ["word 000", "word 001", "word 002"]


@given(some_predictions())
def test_all_numbers_are_in_the_json_under_their_names(found: Predictions) -> None:
    judged = judge(found, resamples=3)
    value = json.loads(json.dumps(judged.to_json()))
    for name, estimate in judged.scores.items():
        assert value[name] == estimate._asdict()
    assert list(value["classes"]) == [row.word for row in judged.classes]
    for row in value["classes"].values():
        assert {*METRICS} - {CLASS_MEAN} <= set(row)
        assert set(row["map_at_3"]) == {"value", "low", "high", "n"}


@settings(max_examples=30)
@given(some_predictions())
def test_predictions_come_back_from_their_file(
    tmp_path_factory: pytest.TempPathFactory, found: Predictions
) -> None:
    path = tmp_path_factory.mktemp("predictions") / "predictions.parquet"
    unsaid = Predictions(
        **{**vars(found), "recognized": (np.arange(len(found)) % 3).astype(np.uint8)}
    )
    unsaid.write(path, {"model": "a model"})
    again, facts = Predictions.read(path, found.label_map)
    assert facts["model"] == "a model"
    for name, column in vars(unsaid).items():
        if name != "label_map":
            assert (getattr(again, name) == column).all(), name
            assert getattr(again, name).dtype == column.dtype, name
    halves = [again.where(np.arange(len(again)) % 2 == side) for side in (0, 1)]
    assert len(joined(halves)) == len(again)


def test_a_damaged_or_foreign_file_of_predictions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    rng = np.random.default_rng(0)
    found = predictions_of(rng.normal(size=(500, 4)), rng.integers(0, 4, 500))
    found.write(path, {})
    with pytest.raises(InputError, match="its words are others"):
        Predictions.read(path, words(5))
    data = bytearray(path.read_bytes())
    data[200] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot read the predictions"):
        Predictions.read(path, found.label_map)
    path.write_text("no parquet")
    with pytest.raises(InputError, match="cannot read the predictions"):
        Predictions.read(path, found.label_map)


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
