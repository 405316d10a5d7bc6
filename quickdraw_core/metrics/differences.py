"""Is one model better than another, or is it noise? Pure functions from predictions to an answer.

Both models see the same drawings, so that a drawing which is hard for both tells nothing: what
counts is the difference on each drawing. The differences are resampled as `bootstrap.py` resamples
values (a paired bootstrap), and their interval is often several times narrower than those of the
two models would suggest.

Of many classes some seem to change by chance alone: at 5 % about 17 of 340. Which classes changed
is therefore decided together, so that of those that are named at most 5 % are expected to be
named wrongly (Benjamini and Hochberg, "Controlling the false discovery rate", 1995).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array
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
from quickdraw_core.metrics.judgement import CLASS_MEAN
from quickdraw_core.metrics.metrics import (
    CALIBRATION,
    LOWER_IS_BETTER,
    MEANS,
    Estimate,
    bin_values,
    bins_of,
    values_of,
)

Floats = npt.NDArray[np.float64]

FALSE_DISCOVERIES = 1 - LEVEL
"""Share of the classes named as changed that may be expected to be named wrongly."""

_UNITS = 6
"""A drawing is worth 1, 1/2, 1/3 or 0: differences in MAP@3 are whole sixths."""

_IN_SIXTHS = ("map_at_3", "top_1", "top_3")
"""Metrics whose differences are few whole units, so that all signs can be counted."""

_DECIMALS = 12

# Standard normal quantiles: of the two-sided 95 % interval, and of the 95 % chance to tell.
_SURE, _TOLD = 1.959964, 1.644854


@dataclass(frozen=True)
class Named:
    """Predictions, and the model's name for people."""

    name: str
    predictions: Predictions


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same drawings.

    estimate: the second's value less the first's, and the interval of that. error: its standard
    error. lower_is_better: of the metric. p_value: the chance of a difference as large if it did
    not matter which model saw which drawing; None where it is not computed.
    """

    metric: str
    first: float
    second: float
    estimate: Estimate
    error: float
    lower_is_better: bool
    p_value: float | None = None

    @property
    def told(self) -> bool:
        """Whether it is beyond chance which of the two is better: the interval leaves out 0, and
        so does the exact test. Of models that differ on a handful of drawings the bootstrap
        alone is too sure.
        """
        beyond = self.estimate.low > 0 or self.estimate.high < 0
        return beyond and (self.p_value is None or self.p_value <= 1 - LEVEL)

    @property
    def gain(self) -> float:
        """The difference, above 0 where the second is better."""
        return -self.estimate.value if self.lower_is_better else self.estimate.value

    @property
    def half_width(self) -> float:
        """Of the 95 % interval: what stands after ±."""
        return (self.estimate.high - self.estimate.low) / 2

    @property
    def drawings_to_tell(self) -> int | None:
        """Drawings, as many of each class as of the others, on which a true difference of this
        size would be told with a chance of 95 %. None: it is 0.

        The error falls with the square root of their number (Snedecor and Cochran, "Statistical
        methods", 1989, chapter 4: sample size for paired differences).
        """
        if not self.estimate.value or not self.error:
            return None
        needed = self.estimate.n * ((_SURE + _TOLD) * self.error / self.estimate.value) ** 2
        return max(1, math.ceil(needed))


@dataclass(frozen=True)
class ClassChange:
    """MAP@3 of one word's drawings by two models.

    p_value: the chance of a difference as large, if neither model were better on this word.
    told: whether the change is beyond chance, of all words together.
    """

    word: str
    first: float
    second: float
    estimate: Estimate
    p_value: float
    told: bool


@dataclass(frozen=True)
class Comparison:
    """What can be said of a second model against a first, on the same drawings.

    differences: by the names of METRICS and CLASS_MEAN. classes: every word with drawings, in
    the order of the labels.
    """

    first: str
    second: str
    differences: Mapping[str, Difference]
    classes: Sequence[ClassChange] = field(repr=False)

    @property
    def n(self) -> int:
        """Drawings that both were judged on."""
        return self.differences["map_at_3"].estimate.n

    @property
    def changed(self) -> list[ClassChange]:
        """The words whose change is beyond chance, the greatest gain first."""
        told = [row for row in self.classes if row.told]
        return sorted(told, key=lambda row: (-row.estimate.value, row.word))

    @property
    def seeming(self) -> int:
        """Words whose own interval leaves out 0, many of them by chance."""
        return sum(row.estimate.low > 0 or row.estimate.high < 0 for row in self.classes)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "n": self.n,
            "differences": {
                name: {
                    "first": found.first,
                    "second": found.second,
                    **found.estimate._asdict(),
                    "p_value": found.p_value,
                    "told": found.told,
                    "second_is_better": found.told and found.gain > 0,
                    "drawings_to_tell": found.drawings_to_tell,
                }
                for name, found in self.differences.items()
            },
            "classes": {
                row.word: {
                    "first": row.first,
                    "second": row.second,
                    **row.estimate._asdict(),
                    "p_value": row.p_value,
                    "told": row.told,
                }
                for row in self.classes
            },
        }


def compare(first: Named, second: Named, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Compares two models' predictions of the same drawings, of at least one.

    seed decides the resamples. Raises `InputError` where the drawings or their words differ.
    """
    a, b = first.predictions, second.predictions
    _require_same_drawings(first, second)
    both = [np.hstack([values_of(p), bin_values(p)]) for p in (a, b)]
    values, columns = np.hstack(both), both[0].shape[1]
    sums = list(resampled_sums(values, a.labels, seed, resamples))
    n, total = len(a), sum(part.total for part in sums)
    resampled = sum(part.resampled for part in sums)
    means, drawn = np.asarray(total) / n, np.asarray(resampled) / n
    differences = {}
    for k, name in enumerate(MEANS):
        found = _difference(name, means[[k, k + columns]], drawn[:, [k, k + columns]], n)
        if name in _IN_SIXTHS:
            found = replace(found, p_value=sign_flip_p(_in_units(both[1][:, k] - both[0][:, k])))
        differences[name] = found
    by_class = np.mean([part.total / part.n for part in sums], 0)
    drawn_by_class = np.mean([part.resampled / part.n for part in sums], 0)
    pair = [0, columns]
    differences[CLASS_MEAN] = _difference(CLASS_MEAN, by_class[pair], drawn_by_class[:, pair], n)
    by_noise = [
        calibration_by_noise(p.confidences, bins_of(p), p.labels, seed, resamples) for p in (a, b)
    ]
    differences[CALIBRATION] = _calibration_difference(means, drawn, by_noise, n)
    gained = _in_units(both[1][:, 0] - both[0][:, 0])
    p_values = [sign_flip_p(gained[a.labels == part.label]) for part in sums]
    told = discoveries(np.array(p_values))
    classes = []
    for part, p_value, is_told in zip(sums, p_values, told, strict=True):
        mine = part.total[pair] / part.n
        found = _difference("map_at_3", mine, part.resampled[:, pair] / part.n, part.n)
        word = a.label_map.words[part.label]
        classes.append(
            ClassChange(word, found.first, found.second, found.estimate, p_value, bool(is_told))
        )
    return Comparison(first.name, second.name, differences, classes)


def _require_same_drawings(first: Named, second: Named) -> None:
    a, b = first.predictions, second.predictions
    if a.label_map != b.label_map or not np.array_equal(a.key_ids, b.key_ids):
        raise InputError(
            f"{first.name} and {second.name} were judged on different drawings or words "
            f"({len(a):,} and {len(b):,} drawings); judge both on the same store"
        )


def _in_units(differences: Floats) -> Int64Array:
    return np.rint(differences * _UNITS).astype(np.int64)


def _difference(name: str, means: Floats, resampled: Floats, n: int) -> Difference:
    """Of both models' means, float64 [2], and the same of each resample, [B, 2]."""
    # Products of matrices round their columns differently: of the same values, too, which then
    # seem to differ by 1e-17, and always in the same direction.
    value = round(float(means[1] - means[0]), _DECIMALS)
    drawn = np.round(resampled[:, 1] - resampled[:, 0], _DECIMALS)
    low, high = interval(drawn, value)
    return Difference(
        name,
        float(means[0]),
        float(means[1]),
        Estimate(value, float(low), float(high), n),
        float(drawn.std()),
        name in LOWER_IS_BETTER,
    )


def _calibration_difference(
    means: Floats, drawn: Floats, by_noise: Sequence[float], n: int
) -> Difference:
    """Of both models' means, float64 [2 * columns], the same of each resample, and the errors
    that noise alone explains.

    Each model's error is too large by noise, the less sure one's by more, and the resamples' by
    that again. The interval reaches over the difference as it is and as it is without that; and
    over 0 where the larger error may be noise alone.
    """
    count, columns = len(MEANS), len(means) // 2
    halves = [slice(count, columns), slice(columns + count, None)]
    errors = np.array([np.abs(means[half]).sum() for half in halves])
    resampled = np.stack([np.abs(drawn[:, half]).sum(1) for half in halves], 1)
    first, second = (bias_of_sizes(means[half], drawn[:, half]) for half in halves)
    found = _difference(CALIBRATION, errors, resampled - resampled.mean(0) + errors, n)
    value, low, high, _ = found.estimate
    moved = first - second
    low, high = min(low, low + moved), max(high, high + moved)
    worse = int(errors.argmax())
    if errors[worse] <= by_noise[worse]:
        low, high = min(low, 0.0), max(high, 0.0)
    around = Estimate(value, low, high, n)
    return replace(found, estimate=around)


def sign_flip_p(differences: Int64Array) -> float:
    """Chance of a sum as far from 0 as that of whole numbers, int64 [N], had each had either
    sign with the same chance.

    That is the case where it does not matter which of two models a drawing was shown to (Fisher,
    "The design of experiments", 1935, section 21). Of all 2^N ways, to within 1e-12, since with
    340 classes the chances that decide are smaller than any number of resamples could show: a
    sign for each is a factor cos(size · frequency) of the sum's transform.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    reach, far = int(sizes @ counts), abs(int(differences.sum()))
    if far == 0:
        return 1.0
    length = 1 << (2 * reach).bit_length()  # of a period that holds all sums, -reach to reach
    frequencies = 2 * np.pi * np.arange(length // 2 + 1) / length
    transform = np.ones(len(frequencies))
    for size, count in zip(sizes, counts, strict=True):
        transform *= np.cos(size * frequencies) ** count
    chances = np.fft.irfft(transform, length)
    # A sum below 0 stands as far from the period's end.
    return float(np.clip(2 * chances[far : reach + 1].sum(), 0.0, 1.0))


def discoveries(p_values: Floats, share: float = FALSE_DISCOVERIES) -> npt.NDArray[np.bool_]:
    """Which of several findings to believe, so that of these a `share` is expected to be wrong.

    Benjamini and Hochberg's step-up procedure: the largest k such that k chances, float64 [K],
    are at most k/K of the share.
    """
    order = np.sort(p_values)
    allowed = share * np.arange(1, len(order) + 1) / max(1, len(order))
    passing = np.flatnonzero(order <= allowed)
    limit = order[passing[-1]] if len(passing) else -1.0
    return np.asarray(p_values <= limit)


def chance(predictions: Predictions) -> float:
    """MAP@3 of whoever always guesses the three words that most of the drawings show."""
    counts = np.sort(np.bincount(predictions.labels))[::-1][:3]
    return float((counts / np.arange(1, len(counts) + 1)).sum() / len(predictions))
