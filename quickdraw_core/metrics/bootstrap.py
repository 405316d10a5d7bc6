"""Intervals by the bootstrap: how much would the number differ with other drawings?

The drawings are sampled again, with replacement, and the number is computed again. After a
thousand such resamples the middle 95 % of the results are the interval (Efron and Tibshirani, "An
introduction to the bootstrap", 1993, chapter 13). Each class is resampled by itself, since its
number of drawings is chosen and not random.

Each resample has one drawing fewer of a class than there are, and each counts for a little more.
Otherwise the spread of a small class would be too small, by half for a class of two (McCarthy and
Snowden, "The bootstrap and finite population sampling", 1985; Rao and Wu, "Resampling inference
with complex survey data", 1988). A class of a single drawing has no spread of its own; it is
resampled from all such classes.

A resample is a count for each drawing, so all resamples of a class are one matrix product of
counts and values.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from quickdraw_core.drawing import Float64Array, Int64Array

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
    total: Float64Array
    resampled: Float64Array


@cache
def _blas() -> ThreadpoolController:
    """The library that numpy multiplies matrices with. The search takes longer than judging some
    hundred drawings, so it is done once.
    """
    return ThreadpoolController().select(user_api="blas")


def resampled_sums(
    values: Float64Array, labels: Int64Array, seed: int = 0, resamples: int = RESAMPLES
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
            with blas.limit(
                limits=1
            ):  # on several threads, products this small take three times as long
                resampled = counts @ mine / (n - 1) * n
        yield Sums(int(label), n, mine.sum(0), resampled)


def calibrated_sums(
    confidences: Float64Array,
    groups: Int64Array,
    labels: Int64Array,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Iterator[Float64Array]:
    """By class, in the order of `resampled_sums`: sums of confidence less correctness in each
    group if every guess were right with the probability that the model gave it.

    confidences: float64 [N]. groups: int64 [N], from 0. Yields float64 [B, groups].
    """
    blas = _blas()
    count = int(groups.max(initial=-1)) + 1
    for label in np.unique(labels):
        mine = labels == label
        sure, group = confidences[mine], np.eye(count)[groups[mine]]
        # A random stream of its own, independent of the resamples.
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
    confidences: Float64Array, groups: Int64Array, labels: Int64Array, seed: int, resamples: int
) -> float:
    """What a perfectly calibrated model's calibration error stays below in 39 of 40 cases."""
    total = sum(calibrated_sums(confidences, groups, labels, seed, resamples))
    sizes = np.abs(total / len(confidences)).sum(1)
    return float(np.quantile(sizes, 1 - TAIL))


def _counts(n: int, resamples: int, rng: np.random.Generator) -> Float64Array:
    """How often each of n drawings is in each resample of n - 1: float64 [B, n]."""
    counts = np.empty((resamples, n))
    at_once = max(1, _DRAWS_AT_ONCE // n)
    for first in range(0, resamples, at_once):
        some = min(at_once, resamples - first)
        drawn = rng.integers(0, n, (some, n - 1)) + np.arange(some)[:, None] * n
        counts[first : first + some] = np.bincount(drawn.ravel(), minlength=some * n).reshape(
            some, n
        )
    return counts


def interval(
    resampled: Float64Array, value: Float64Array | float
) -> tuple[Float64Array, Float64Array]:
    """Ends of the middle 95 % of the results, float64 [B, …] → two of […], widened to include
    the number itself, `value`.
    """
    ends = np.quantile(resampled, [TAIL, 1 - TAIL], axis=0)
    low, high = np.round(ends, _DECIMALS)  # sums of shares may come to 1.0000000000000002
    return np.minimum(low, value), np.maximum(high, value)


def bias_of_sizes(means: Float64Array, resampled: Float64Array) -> float:
    """By how much the sum of the absolute values of `means`, float64 [G], is likely too large.

    Noise makes an absolute value larger on average, the more so the smaller it is. So they are
    first reduced by their variance over the resamples, [B, G]; then the noise of the resamples is
    added again. What they gain is the bias.
    """
    noise = resampled - resampled.mean(0)
    less_noise = np.sign(means) * np.sqrt(np.maximum(0.0, means**2 - noise.var(0)))
    bias = np.abs(less_noise + noise).sum(1).mean() - np.abs(less_noise).sum()
    return max(0.0, float(bias))  # without noise, rounding may give less than 0
