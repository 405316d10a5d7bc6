"""What predictions are worth: pure functions from predictions to numbers.

Each drawing has one right word. With `rank` its place among all words by probability, from 1:

| name | value of a drawing; the metric is the mean over drawings |
| --- | --- |
| map_at_3 | 1 / rank where the rank is at most 3, else 0: the challenge's score |
| top_1 | 1 where the rank is 1, else 0 |
| top_3 | 1 where the rank is at most 3, else 0 |
| mean_rank | rank |
| log_loss | −ln of the probability of the right word, in nats |

`expected_calibration_error` is none of a single drawing: it compares confidence with accuracy
over groups of them (Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks",
2017).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quickdraw_core.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]

MEANS = ("map_at_3", "top_1", "top_3", "mean_rank", "log_loss")
CALIBRATION = "expected_calibration_error"
METRICS = (*MEANS, CALIBRATION)
LOWER_IS_BETTER = ("mean_rank", "log_loss", CALIBRATION)
BINS = 15
"""Groups of equal width in confidence, as in the paper."""


class Estimate(NamedTuple):
    """A metric over n drawings, and its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def values_of(predictions: Predictions) -> Floats:
    """Each drawing's part in the metrics of MEANS: float64 [N, 5]."""
    ranks = predictions.ranks + 1
    worth = np.where(ranks <= 3, 1 / ranks, 0.0)
    loss = -predictions.label_log_probabilities.astype(np.float64)
    return np.stack([worth, ranks == 1, ranks <= 3, ranks, loss], 1).astype(np.float64)


def bins_of(predictions: Predictions) -> npt.NDArray[np.int64]:
    """The group of confidence that each drawing's first guess falls into: int64 [N]."""
    return np.minimum((predictions.confidences * BINS).astype(np.int64), BINS - 1)


def bin_values(predictions: Predictions) -> Floats:
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
            place / BINS,
            (place + 1) / BINS,
            int(mine.sum()),
            float(predictions.confidences[mine].mean()),
            float(right[mine].mean()),
        )
        for place in range(BINS)
        if (mine := bins == place).any()
    ]


class ConfusedPair(NamedTuple):
    """Two words that are taken for each other, by labels: how often the drawings of one got the
    other as their first guess, and of how many drawings.
    """

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    n_first: int
    n_second: int

    @property
    def mistakes(self) -> int:
        """Drawings of either that were taken for the other."""
        return self.first_as_second + self.second_as_first


def confusion(predictions: Predictions) -> npt.NDArray[np.int64]:
    """How often a word (row) got another as its first guess (column): int64 [K, K]."""
    classes = len(predictions.label_map)
    cells = predictions.labels * classes + predictions.guesses[:, 0]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def confused_pairs(counts: npt.NDArray[np.int64], at_most: int) -> list[ConfusedPair]:
    """The pairs of words most often taken for each other, of a `confusion` matrix."""
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


def mistaken_for(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The word most often guessed first instead of each, of a `confusion` matrix: int64 [K]; -1
    where none was.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    return np.where(wrong.any(1), wrong.argmax(1), -1)
