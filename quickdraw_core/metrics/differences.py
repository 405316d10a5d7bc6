"""Is one model better than another, or is it noise? Pure functions from predictions to an answer.

Both models see the same drawings, so what counts is the difference on each drawing. The
differences are resampled as `bootstrap.py` resamples values (a paired bootstrap); their interval
is often several times narrower than those of the two models suggest. Which words changed is
decided for all together (`significance.py`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.errors import InputError
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.metrics.bootstrap import (
    LEVEL,
    RESAMPLES,
    bias_of_sizes,
    calibration_by_noise,
    interval,
    resampled_sums,
)
from quickdraw_core.metrics.metrics import (
    CALIBRATION,
    CLASS_MEAN,
    MEANS,
    METRICS,
    Estimate,
    bin_values,
    bins_of,
    values_of,
)
from quickdraw_core.metrics.significance import discoveries, sign_flip_p

_UNITS = 6
"""A drawing scores 1, 1/2, 1/3 or 0, so differences in MAP@3 are whole sixths."""

_IN_SIXTHS = ("map_at_3", "top_1", "top_3")
"""Metrics whose differences are few whole units, so that all signs can be enumerated."""

_DECIMALS = 12

# Standard normal quantiles: of the two-sided 95 % interval, and of 95 % power.
_LEVEL_QUANTILE, _POWER_QUANTILE = 1.959964, 1.644854


@dataclass(frozen=True)
class Candidate:
    """A model to compare: its name for people, and its predictions."""

    name: str
    predictions: Predictions


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same drawings.

    estimate: the second's value less the first's, with its interval. error: its standard error.
    p_value: the chance of a difference as large if it did not matter which model saw which
    drawing; None for metrics without an exact test.
    """

    metric: str
    first: float
    second: float
    estimate: Estimate
    error: float
    p_value: float | None = None

    @property
    def significant(self) -> bool:
        """Whether one of the two is better beyond chance: the interval excludes 0, and the exact
        test agrees. For models that differ on a handful of drawings the bootstrap alone is too
        sure.
        """
        excludes_0 = self.estimate.low > 0 or self.estimate.high < 0
        return excludes_0 and (self.p_value is None or self.p_value <= 1 - LEVEL)

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower value of the metric is better."""
        return METRICS[self.metric].lower_is_better

    @property
    def gain(self) -> float:
        """The difference, above 0 if the second is better."""
        return -self.estimate.value if self.lower_is_better else self.estimate.value

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval: what is printed after ±."""
        return (self.estimate.high - self.estimate.low) / 2

    @property
    def drawings_needed(self) -> int | None:
        """How many drawings, equally many of each class, would show a true difference of this
        size as significant in 95 % of cases. None if it is 0.

        The error falls with the square root of their number (Snedecor and Cochran, "Statistical
        methods", 1989, chapter 4: sample size for paired differences).
        """
        if not self.estimate.value or not self.error:
            return None
        errors = (_LEVEL_QUANTILE + _POWER_QUANTILE) * self.error / self.estimate.value
        return max(1, math.ceil(self.estimate.n * errors**2))


@dataclass(frozen=True)
class ClassChange:
    """MAP@3 of one word's drawings by two models.

    p_value: the chance of a difference as large if neither model were better on this word.
    significant: whether the change is beyond chance, with all words tested together.
    """

    word: str
    first: float
    second: float
    estimate: Estimate
    p_value: float
    significant: bool


@dataclass(frozen=True)
class Comparison:
    """A second model compared with a first, on the same drawings.

    differences: by the names of METRICS. classes: every word with drawings, in label order.
    """

    first: str
    second: str
    differences: Mapping[str, Difference]
    classes: Sequence[ClassChange] = field(repr=False)

    @property
    def n(self) -> int:
        """Number of drawings."""
        return self.differences["map_at_3"].estimate.n

    @property
    def changed(self) -> list[ClassChange]:
        """The words whose change is beyond chance, the greatest gain first."""
        changed = [row for row in self.classes if row.significant]
        return sorted(changed, key=lambda row: (-row.estimate.value, row.word))

    @property
    def excluding_0(self) -> int:
        """How many words' own intervals exclude 0, many of them by chance."""
        return sum(row.estimate.low > 0 or row.estimate.high < 0 for row in self.classes)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "n": self.n,
            "differences": {
                name: {
                    "first": difference.first,
                    "second": difference.second,
                    **difference.estimate._asdict(),
                    "p_value": difference.p_value,
                    "significant": difference.significant,
                    "second_is_better": difference.significant and difference.gain > 0,
                    "drawings_needed": difference.drawings_needed,
                }
                for name, difference in self.differences.items()
            },
            "classes": {
                row.word: {
                    "first": row.first,
                    "second": row.second,
                    **row.estimate._asdict(),
                    "p_value": row.p_value,
                    "significant": row.significant,
                }
                for row in self.classes
            },
        }


def compare(
    first: Candidate, second: Candidate, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Compares two models' predictions of the same drawings, of at least one.

    seed: of the resamples. Raises `InputError` if the drawings or their words differ.
    """
    a, b = first.predictions, second.predictions
    _require_same_drawings(first, second)
    both = [np.hstack([values_of(p), bin_values(p)]) for p in (a, b)]
    values, columns = np.hstack(both), both[0].shape[1]
    sums = list(resampled_sums(values, a.labels, seed, resamples))
    n, total = len(a), sum(part.total for part in sums)
    resampled = sum(part.resampled for part in sums)
    means, resampled_means = np.asarray(total) / n, np.asarray(resampled) / n
    differences = {}
    for k, name in enumerate(MEANS):
        pair = [k, k + columns]
        differences[name] = _difference(name, means[pair], resampled_means[:, pair], n)
        if name in _IN_SIXTHS:
            p_value = sign_flip_p(_in_units(both[1][:, k] - both[0][:, k]))
            differences[name] = replace(differences[name], p_value=p_value)
    pair = [0, columns]  # MAP@3 of both
    by_class = np.mean([part.total / part.n for part in sums], 0)
    resampled_by_class = np.mean([part.resampled / part.n for part in sums], 0)[:, pair]
    differences[CLASS_MEAN] = _difference(CLASS_MEAN, by_class[pair], resampled_by_class, n)
    by_noise = [
        calibration_by_noise(p.confidences, bins_of(p), p.labels, seed, resamples) for p in (a, b)
    ]
    differences[CALIBRATION] = _calibration_difference(means, resampled_means, by_noise, n)
    gained = _in_units(both[1][:, 0] - both[0][:, 0])
    p_values = [sign_flip_p(gained[a.labels == part.label]) for part in sums]
    classes = []
    for part, p, changed in zip(sums, p_values, discoveries(np.array(p_values)), strict=True):
        mine, resamples_mine = part.total[pair] / part.n, part.resampled[:, pair] / part.n
        change = _difference("map_at_3", mine, resamples_mine, part.n)
        word = a.label_map.words[part.label]
        classes.append(
            ClassChange(word, change.first, change.second, change.estimate, p, bool(changed))
        )
    return Comparison(first.name, second.name, differences, classes)


def _require_same_drawings(first: Candidate, second: Candidate) -> None:
    a, b = first.predictions, second.predictions
    if a.label_map != b.label_map or not np.array_equal(a.key_ids, b.key_ids):
        raise InputError(
            f"{first.name} and {second.name} were judged on different drawings or words "
            f"({len(a):,} and {len(b):,} drawings); judge both on the same store"
        )


def _in_units(differences: Float64Array) -> Int64Array:
    return np.rint(differences * _UNITS).astype(np.int64)


def _difference(name: str, means: Float64Array, resampled: Float64Array, n: int) -> Difference:
    """From both models' means, float64 [2], and those of each resample, [B, 2]."""
    # Matrix products round equal columns differently: they then seem to differ by 1e-17, always in
    # the same direction.
    value = round(float(means[1] - means[0]), _DECIMALS)
    drawn = np.round(resampled[:, 1] - resampled[:, 0], _DECIMALS)
    low, high = interval(drawn, value)
    return Difference(
        name,
        float(means[0]),
        float(means[1]),
        Estimate(value, float(low), float(high), n),
        float(drawn.std()),
    )


def _calibration_difference(
    means: Float64Array, drawn: Float64Array, by_noise: Sequence[float], n: int
) -> Difference:
    """From both models' means, float64 [2 * columns], those of each resample, and the errors that
    noise alone explains.

    Noise makes each model's error too large, more so if it is less sure, and the resamples' again.
    So the interval covers the difference with and without that bias; and 0 if the larger error
    may be noise alone.
    """
    count, columns = len(MEANS), len(means) // 2
    halves = [slice(count, columns), slice(columns + count, None)]
    errors = np.array([np.abs(means[half]).sum() for half in halves])
    resampled = np.stack([np.abs(drawn[:, half]).sum(1) for half in halves], 1)
    first, second = (bias_of_sizes(means[half], drawn[:, half]) for half in halves)
    difference = _difference(CALIBRATION, errors, resampled - resampled.mean(0) + errors, n)
    value, low, high, _ = difference.estimate
    moved = first - second
    low, high = min(low, low + moved), max(high, high + moved)
    worse = int(errors.argmax())
    if errors[worse] <= by_noise[worse]:
        low, high = min(low, 0.0), max(high, 0.0)
    return replace(difference, estimate=Estimate(value, low, high, n))
