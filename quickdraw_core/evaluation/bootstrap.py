"""Intervals by the bootstrap: how much would the number differ with other drawings?

The drawings are drawn again, with replacement, as many of each class as there were, and the
number is computed anew; after a thousand such resamples the middle 95 % of the results are the
interval (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13). By class,
since the number of drawings of each class is chosen and not left to chance.

A resample is a count for each drawing, so a mean over it is a product of counts and values: all
resamples of a class are one matrix product.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from quickdraw_core.drawing import Int64Array

Floats = npt.NDArray[np.float64]

RESAMPLES = 1_000
LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000


class Sums(NamedTuple):
    """Sums of one class's values over its drawings and over each resample of them.

    label; n drawings; total: float64 [M]; resampled: float64 [B, M].
    """

    label: int
    n: int
    total: Floats
    resampled: Floats


def resampled_sums(
    values: Floats, labels: Int64Array, seed: int = 0, resamples: int = RESAMPLES
) -> Iterator[Sums]:
    """Sums of the columns of `values` (float64 [N, M]) by class, for classes with drawings.

    The same seed and numbers of drawings give the same resamples, whatever is summed: two
    models' values of the same drawings are resampled together.
    """
    blas = ThreadpoolController().select(user_api="blas")
    for label in np.unique(labels):
        mine = values[labels == label]
        counts = _counts(len(mine), resamples, np.random.default_rng((seed, int(label))))
        with blas.limit(limits=1):  # products this small take three times as long when shared out
            resampled = counts @ mine
        yield Sums(int(label), len(mine), mine.sum(0), resampled)


def _counts(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each of n drawings stands in each resample: float64 [B, n]."""
    counts = np.empty((resamples, n))
    at_once = max(1, _DRAWS_AT_ONCE // n)
    for first in range(0, resamples, at_once):
        some = min(at_once, resamples - first)
        drawn = rng.integers(0, n, (some, n)) + np.arange(some)[:, None] * n
        counts[first : first + some] = np.bincount(drawn.ravel(), minlength=some * n).reshape(
            some, n
        )
    return counts


def interval(resampled: Floats, value: Floats | float | None = None) -> tuple[Floats, Floats]:
    """Ends of the middle 95 % of the results, float64 [B, …] → two of […].

    value: the number itself where its resamples are biased, as those of a sum of absolute
    values are, which noise only makes larger; they are then moved until their mean is there.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    if value is not None:
        bias = resampled.mean(0) - value
        low, high = np.minimum(low - bias, value), np.maximum(high - bias, value)
    return low, high
