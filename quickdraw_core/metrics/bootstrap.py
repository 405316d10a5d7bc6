"""Intervals by the bootstrap: how much would the number differ with other drawings?

The drawings are drawn again, with replacement, as many of each class as there were, and the
number is computed anew; after a thousand such resamples the middle 95 % of the results are the
interval (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13). By class,
since the number of drawings of each class is chosen and not left to chance.

One drawing fewer of each class is drawn than there are, and counts for a little more: drawn as
often as there are, the spread of a small class would be told too small, by half for a class of
two (McCarthy and Snowden, "The bootstrap and finite population sampling", 1985; Rao and Wu,
"Resampling inference with complex survey data", 1988). A class of a single drawing tells nothing
of its own spread; it is drawn from all such classes.

A resample is a count for each drawing, so a mean over it is a product of counts and values: all
resamples of a class are one matrix product.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from quickdraw_core.drawing import Int64Array

Floats = npt.NDArray[np.float64]

RESAMPLES = 1_000
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
_DRAWS_AT_ONCE = 4_000_000
_DECIMALS = 12


class Sums(NamedTuple):
    """Sums of one class's values over its drawings and over each resample of them.

    label; n drawings; total: float64 [M]; resampled: float64 [B, M].
    """

    label: int
    n: int
    total: Floats
    resampled: Floats


@cache
def _blas() -> ThreadpoolController:
    """The library that numpy multiplies matrices with.

    Searched for once: the search goes through all libraries that the process has loaded, which
    takes longer than to judge some hundred drawings.
    """
    return ThreadpoolController().select(user_api="blas")


def resampled_sums(
    values: Floats, labels: Int64Array, seed: int = 0, resamples: int = RESAMPLES
) -> Iterator[Sums]:
    """Sums of the columns of `values` (float64 [N, M]) by class, for classes with drawings.

    The same seed and numbers of drawings give the same resamples, whatever is summed: two
    models' values of the same drawings are resampled together.
    """
    blas = _blas()
    present, sizes = np.unique(labels, return_counts=True)
    lone = values[np.isin(labels, present[sizes == 1])]
    for label in present:
        mine, rng = values[labels == label], np.random.default_rng((seed, int(label)))
        n = len(mine)
        if n == 1:
            resampled = lone[rng.integers(0, len(lone), resamples)]
        else:
            counts = _counts(n, resamples, rng)
            with blas.limit(limits=1):  # products this small take three times as long shared out
                resampled = counts @ mine / (n - 1) * n
        yield Sums(int(label), n, mine.sum(0), resampled)


def calibrated_sums(
    confidences: Floats,
    groups: Int64Array,
    labels: Int64Array,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Iterator[Floats]:
    """By class, in the order of `resampled_sums`: what the sums of confidence less correctness
    in each group would be, had every guess been right with the chance that it gave itself.

    confidences: float64 [N]; groups: int64 [N], from 0; returns float64 [B, groups] each.
    """
    blas = _blas()
    count = int(groups.max(initial=-1)) + 1
    for label in np.unique(labels):
        mine = labels == label
        sure, group = confidences[mine], np.eye(count)[groups[mine]]
        # A stream of its own: no luck is shared with the resamples.
        rng = np.random.default_rng((seed, int(label), 1))
        at_once = max(1, _DRAWS_AT_ONCE // len(sure))
        sums = np.empty((resamples, count))
        for first in range(0, resamples, at_once):
            some = min(at_once, resamples - first)
            right = rng.random((some, len(sure))) < sure
            with blas.limit(limits=1):
                sums[first : first + some] = (sure - right) @ group
        yield sums


def calibration_by_noise(
    confidences: Floats, groups: Int64Array, labels: Int64Array, seed: int, resamples: int
) -> float:
    """The calibration error that a model which is right just as often as it says stays below in
    39 of 40 cases. As for `calibrated_sums`.
    """
    total = sum(calibrated_sums(confidences, groups, labels, seed, resamples))
    sizes = np.abs(total / len(confidences)).sum(1)
    return float(np.quantile(sizes, 1 - TAIL))


def _counts(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each of n drawings stands in each resample of n - 1: float64 [B, n]."""
    counts = np.empty((resamples, n))
    at_once = max(1, _DRAWS_AT_ONCE // n)
    for first in range(0, resamples, at_once):
        some = min(at_once, resamples - first)
        drawn = rng.integers(0, n, (some, n - 1)) + np.arange(some)[:, None] * n
        counts[first : first + some] = np.bincount(drawn.ravel(), minlength=some * n).reshape(
            some, n
        )
    return counts


def interval(resampled: Floats, value: Floats | float) -> tuple[Floats, Floats]:
    """Ends of the middle 95 % of the results, float64 [B, …] → two of […], with the number
    itself, `value`, between them.
    """
    ends = np.quantile(resampled, [TAIL, 1 - TAIL], axis=0)
    low, high = np.round(ends, _DECIMALS)  # sums of shares may come to 1.0000000000000002
    return np.minimum(low, value), np.maximum(high, value)


def bias_of_sizes(means: Floats, resampled: Floats) -> float:
    """By how much the sum of the sizes of `means`, float64 [G], is likely to be too large.

    Noise makes a size larger on average, the more so the smaller it is. So the sizes are first
    made smaller by what their variance over the resamples, [B, G], accounts for, then given the
    noise of the resamples again: what they gain from it is the bias.
    """
    noise = resampled - resampled.mean(0)
    less_noise = np.sign(means) * np.sqrt(np.maximum(0.0, means**2 - noise.var(0)))
    bias = np.abs(less_noise + noise).sum(1).mean() - np.abs(less_noise).sum()
    return max(0.0, float(bias))  # where there is no noise, rounding may leave less than 0
