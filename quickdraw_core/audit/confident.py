"""Confident learning: which drawings have another word than they were given, and how many.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021),
the method of the package `cleanlab`, for predictions of models that have not seen the drawing:

- The threshold of a class is the mean probability of it over the drawings that were given it.
- The confident joint counts drawings of given word i that are confidently of word j: of the words
  whose probability reaches their threshold, j has the highest.
- Off its diagonal stand the suspects.

`cleanlab` itself takes the whole matrix of probabilities, 68 GB at 50 million drawings of 340
classes, and imports pandas and scikit-learn. Here the three best guesses of a drawing and the
probability of its given word suffice, which are read block by block: a word that is not among
them has a probability of 1/4 at most, so that nothing is missed where thresholds are higher.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array
from quickdraw_core.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]
NOBODY = -1
"""The confident label of a drawing that reaches no threshold."""


@dataclass
class Thresholds:
    """Sums over the drawings of each class, added up block by block. classes: K, the number."""

    classes: int
    sums: Floats = field(init=False)
    counts: Int64Array = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros(self.classes)
        self.counts = np.zeros(self.classes, np.int64)

    def add(self, predictions: Predictions) -> None:
        """Counts the drawings of a block."""
        own = np.exp(predictions.label_log_probabilities.astype(np.float64))
        self.sums += np.bincount(predictions.labels, own, self.classes)
        self.counts += np.bincount(predictions.labels, minlength=self.classes)

    def values(self, judged: npt.NDArray[np.bool_]) -> Floats:
        """The threshold of each class, float64 [K]; above 1, which nothing reaches, of a class
        that is not judged or has no drawing.
        """
        means = self.sums / np.maximum(self.counts, 1)
        return np.where(judged & (self.counts > 0), means, 2.0)


def confident_labels(predictions: Predictions, thresholds: Floats) -> Int64Array:
    """Of each drawing the label that it is confidently of: int64 [N], or NOBODY.

    thresholds: float64 [K].
    """
    labels, guesses = predictions.labels, predictions.guesses
    own = np.exp(predictions.label_log_probabilities.astype(np.float64))
    confident = np.where(own >= thresholds[labels], labels, NOBODY)
    # From the worst guess to the best, so that the best that reaches its threshold stays. The
    # given word, if it is no guess, is less probable than all of them.
    for rank in reversed(range(guesses.shape[1])):
        guess = guesses[:, rank]
        reaches = predictions.probabilities[:, rank] >= thresholds[guess]
        confident = np.where(reaches, guess, confident)
    return confident


def confident_joint(labels: Int64Array, confident: Int64Array, classes: int) -> Int64Array:
    """Drawings by given and confident label: int64 [K, K]; those of NOBODY are left out."""
    is_known = confident != NOBODY
    cells = labels[is_known] * classes + confident[is_known]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def estimated_wrong(joint: Int64Array, counts: Int64Array) -> Floats:
    """How many drawings of each given word are estimated to be of another: float64 [K].

    The joint calibrated to `counts`, the drawings of each given word (int64 [K]): drawings without
    a confident label are taken to be wrong as often as the others of their word.
    """
    rows = joint.sum(1)
    off = rows - np.diag(joint)
    wrong: Floats = counts * off / np.maximum(rows, 1)
    return wrong
