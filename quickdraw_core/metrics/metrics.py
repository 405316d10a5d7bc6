"""The metrics: pure functions from predictions to numbers.

Each drawing has one right word. With `rank` its rank among all words by probability, from 1:

| name | value of a drawing; the metric is the mean over drawings |
| --- | --- |
| map_at_3 | 1 / rank if the rank is at most 3, else 0: the challenge's score |
| top_1 | 1 if the rank is 1, else 0 |
| top_3 | 1 if the rank is at most 3, else 0 |
| mean_rank | rank |
| log_loss | −ln of the probability of the right word, in nats |

`expected_calibration_error` has no value for a single drawing: it compares confidence with
accuracy over groups of drawings (Guo, Pleiss, Sun and Weinberger, "On calibration of modern
neural networks", 2017).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.inference.predictions import Predictions

MEANS = ("map_at_3", "top_1", "top_3", "mean_rank", "log_loss")
CALIBRATION = "expected_calibration_error"
CLASS_MEAN = "map_at_3_class_mean"
BINS = 15
"""Groups of equal width in confidence, as in the paper."""
CONFUSIONS = 3
"""Words that are named for each word that it is taken for."""


class Estimate(NamedTuple):
    """A metric over n drawings, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Metric(NamedTuple):
    """A metric's name and meaning for people.

    digits: after the point. is_share: a share of the drawings, shown in per cent.
    """

    name: str
    meaning: str
    digits: int = 3
    is_share: bool = False
    lower_is_better: bool = False

    def text(self, *values: float) -> str:
        """One number, or the two of an interval."""
        scale, unit = (100, "\N{NO-BREAK SPACE}%") if self.is_share else (1, "")
        return " to ".join(f"{scale * value:.{self.digits}f}" for value in values) + unit


METRICS = {
    "map_at_3": Metric(
        "MAP@3",
        "a right first guess counts 1, a right second 1/2, a right third 1/3, anything else 0; "
        "the mean over all drawings",
    ),
    CLASS_MEAN: Metric(
        "MAP@3, mean of classes", "every class counts the same, however many drawings it has"
    ),
    "top_1": Metric("top-1 accuracy", "drawings whose first guess is right", 1, True),
    "top_3": Metric("top-3 hit rate", "drawings with the right word among three guesses", 1, True),
    "mean_rank": Metric(
        "mean rank",
        "rank of the right word among all words; 1 is best",
        digits=2,
        lower_is_better=True,
    ),
    "log_loss": Metric(
        "log loss",
        "−ln of the probability given to the right word, in nats; 0 is best",
        lower_is_better=True,
    ),
    CALIBRATION: Metric(
        "calibration error",
        f"how far the confidence is from the accuracy, over {BINS} groups of drawings with like "
        "confidence; 0 is best",
        lower_is_better=True,
    ),
}
"""All metrics, in the order in which people read them."""


def values_of(predictions: Predictions) -> Float64Array:
    """Each drawing's value of the metrics of MEANS: float64 [N, 5]."""
    ranks = predictions.ranks + 1
    worth = np.where(ranks <= 3, 1 / ranks, 0.0)
    loss = -predictions.label_log_probabilities.astype(np.float64)
    return np.stack([worth, ranks == 1, ranks <= 3, ranks, loss], 1).astype(np.float64)


def chance_map_at_3(predictions: Predictions) -> float:
    """MAP@3 of always guessing the three words that most of the drawings show."""
    counts = np.sort(np.bincount(predictions.labels))[::-1][:3]
    return float((counts / np.arange(1, len(counts) + 1)).sum() / len(predictions))


def bins_of(predictions: Predictions) -> Int64Array:
    """The confidence group of each drawing's first guess: int64 [N]."""
    return np.minimum((predictions.confidences * BINS).astype(np.int64), BINS - 1)


def bin_values(predictions: Predictions) -> Float64Array:
    """Confidence less correctness of the first guess, in the column of its bin: [N, BINS].

    The calibration error is the sum over the columns of the absolute value of their means.
    """
    values = np.zeros((len(predictions), BINS))
    right = predictions.ranks == 0
    values[np.arange(len(predictions)), bins_of(predictions)] = predictions.confidences - right
    return values


class CalibrationBin(NamedTuple):
    """Drawings whose first guess has a confidence in [from_confidence, to_confidence)."""

    from_confidence: float
    to_confidence: float
    n: int
    confidence: float
    accuracy: float


def calibration_bins(predictions: Predictions) -> list[CalibrationBin]:
    """The groups that hold drawings, with mean confidence and accuracy of the first guess."""
    bins, right = bins_of(predictions), predictions.ranks == 0
    return [
        CalibrationBin(
            index / BINS,
            (index + 1) / BINS,
            int(mine.sum()),
            float(predictions.confidences[mine].mean()),
            float(right[mine].mean()),
        )
        for index in range(BINS)
        if (mine := bins == index).any()
    ]


class ConfusedPair(NamedTuple):
    """Two words that are confused, by labels: how often the drawings of one got the other as
    their first guess, and how many drawings of each there are.
    """

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    n_first: int
    n_second: int


def confusion(predictions: Predictions) -> Int64Array:
    """How often drawings of a word (row) got a word as first guess (column): int64 [K, K]."""
    classes = len(predictions.label_map)
    cells = predictions.labels * classes + predictions.guesses[:, 0]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def confused_pairs(counts: Int64Array, at_most: int) -> list[ConfusedPair]:
    """The pairs of words most often confused, of a `confusion` matrix."""
    either = np.triu(counts + counts.T, 1)
    order = np.argsort(-either, axis=None, kind="stable")[:at_most]
    drawings = counts.sum(1)
    pairs = [divmod(int(cell), len(counts)) for cell in order]
    return [
        ConfusedPair(
            a, b, int(counts[a, b]), int(counts[b, a]), int(drawings[a]), int(drawings[b])
        )
        for a, b in pairs
        if either[a, b]
    ]


def mistaken_for(counts: Int64Array) -> Int64Array:
    """The wrong word most often guessed first for each word: int64 [K]; -1 if there is none."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    return np.where(wrong.any(1), wrong.argmax(1), -1)


def confusions_of(counts: Int64Array, words: Sequence[str]) -> dict[str, list[str]]:
    """Word → up to three words that were guessed first in its place, most often first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=1, kind="stable")[:, :CONFUSIONS]
    named = {
        words[label]: [words[other] for other in row if wrong[label, other]]
        for label, row in enumerate(order)
    }
    return {word: others for word, others in named.items() if others}
