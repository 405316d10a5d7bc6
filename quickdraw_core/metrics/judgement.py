"""Predictions → a model's scores, overall and by class, each with its interval. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.labels import LabelMap
from quickdraw_core.metrics.bootstrap import (
    RESAMPLES,
    TAIL,
    Sums,
    bias_of_sizes,
    calibrated_sums,
    interval,
    resampled_sums,
)
from quickdraw_core.metrics.metrics import (
    BINS,
    CALIBRATION,
    CLASS_MEAN,
    MEANS,
    CalibrationBin,
    ConfusedPair,
    Estimate,
    bin_values,
    bins_of,
    calibration_bins,
    confused_pairs,
    confusion,
    confusions_of,
    mistaken_for,
    values_of,
)

Estimates = Mapping[str, Estimate]

PAIRS = 30
WORST = 10


@dataclass(frozen=True)
class ClassJudgement:
    """One word's scores, and the wrong word most often guessed first; None if there is none."""

    word: str
    scores: Estimates
    mistaken_for: str | None

    @property
    def n(self) -> int:
        """Number of drawings."""
        return self.scores["map_at_3"].n


@dataclass(frozen=True)
class Judgement:
    """A model's scores.

    scores: over all drawings, by the names of METRICS. recognized, unrecognized: over those that
    the game's own model recognized at the time, or did not; empty if there are none. classes:
    every word that has drawings, in label order. confused: the pairs of words most often confused.
    confusion: int64 [K, K], right word by first guess.
    """

    label_map: LabelMap
    scores: Estimates
    recognized: Estimates
    unrecognized: Estimates
    classes: Sequence[ClassJudgement]
    confused: Sequence[ConfusedPair]
    confusion: Int64Array
    calibration: Sequence[CalibrationBin]

    @property
    def n(self) -> int:
        """Number of drawings."""
        return self.scores["map_at_3"].n

    @property
    def worst(self) -> list[ClassJudgement]:
        """The classes with the lowest MAP@3, worst first."""
        return sorted(self.classes, key=lambda row: (row.scores["map_at_3"].value, row.word))[
            :WORST
        ]

    def to_json(self) -> dict[str, Any]:
        """As plain values: `{value, low, high, n}` under each metric's name."""
        words = self.label_map.words
        return {
            **_plain(self.scores),
            "recognized": _plain(self.recognized),
            "unrecognized": _plain(self.unrecognized),
            "classes": {
                row.word: {**_plain(row.scores), "mistaken_for": row.mistaken_for}
                for row in self.classes
            },
            "confusions": confusions_of(self.confusion, words),
            "worst_classes": [row.word for row in self.worst],
            "confused_pairs": [
                {
                    "words": [words[pair.first], words[pair.second]],
                    "first_as_second": pair.first_as_second,
                    "second_as_first": pair.second_as_first,
                    "n": [pair.n_first, pair.n_second],
                }
                for pair in self.confused
            ],
            "calibration": [each._asdict() for each in self.calibration],
        }


def judge(predictions: Predictions, seed: int = 0, resamples: int = RESAMPLES) -> Judgement:
    """Judges predictions of at least one drawing. seed: of the resamples."""
    words = predictions.label_map.words
    counts = confusion(predictions)
    others = mistaken_for(counts)
    overall, classes = _estimates(predictions, seed, resamples)
    subsets: dict[int, Estimates] = {}
    for known in (1, 0):
        mine = predictions.where(predictions.recognized == known)
        subsets[known] = _estimates(mine, seed, resamples)[0] if len(mine) else {}
    return Judgement(
        label_map=predictions.label_map,
        scores=overall,
        recognized=subsets[1],
        unrecognized=subsets[0],
        classes=[
            ClassJudgement(
                words[label], scores, words[others[label]] if others[label] >= 0 else None
            )
            for label, scores in classes.items()
        ],
        confused=confused_pairs(counts, PAIRS),
        confusion=counts,
        calibration=calibration_bins(predictions),
    )


def _estimates(
    predictions: Predictions, seed: int, resamples: int
) -> tuple[dict[str, Estimate], dict[int, dict[str, Estimate]]]:
    """Scores over all drawings, and by label."""
    values = np.hstack([values_of(predictions), bin_values(predictions)])
    total = Sums(-1, 0, np.zeros(values.shape[1]), np.zeros((resamples, values.shape[1])))
    all_calibrated = np.zeros(1)
    mean_of_classes, resampled_mean = 0.0, np.zeros(resamples)
    classes: dict[int, dict[str, Estimate]] = {}
    drawn = resampled_sums(values, predictions.labels, seed, resamples)
    calibrated = calibrated_sums(
        predictions.confidences, bins_of(predictions), predictions.labels, seed, resamples
    )
    for sums, calibrated_sum in zip(drawn, calibrated, strict=True):
        classes[sums.label] = _of_sums(sums, calibrated_sum)
        all_calibrated = all_calibrated + calibrated_sum
        total = Sums(
            -1, total.n + sums.n, total.total + sums.total, total.resampled + sums.resampled
        )
        mean_of_classes += sums.total[0] / sums.n
        resampled_mean += sums.resampled[:, 0] / sums.n
    scores = _of_sums(total, all_calibrated)
    mean = mean_of_classes / len(classes)
    low, high = interval(resampled_mean / len(classes), mean)
    scores[CLASS_MEAN] = Estimate(mean, float(low), float(high), total.n)
    return scores, classes


def _of_sums(sums: Sums, calibrated: Float64Array) -> dict[str, Estimate]:
    """The metrics of one group of drawings. calibrated: its `calibrated_sums`."""
    means, resampled = sums.total / sums.n, sums.resampled / sums.n
    count = len(MEANS)
    lows, highs = interval(resampled[:, :count], means[:count])
    estimates = {
        name: Estimate(float(value), float(low), float(high), sums.n)
        for name, value, low, high in zip(MEANS, means[:count], lows, highs, strict=True)
    }
    gaps, drawn = means[count : count + BINS], resampled[:, count : count + BINS]
    error, errors = np.abs(gaps).sum(), np.abs(drawn).sum(1)
    low, high = interval(errors - (errors.mean() - error), error)
    # Noise alone gives an error above 0. Below this size the true error may be 0.
    by_noise = np.quantile(np.abs(calibrated / sums.n).sum(1), 1 - TAIL)
    least = 0.0 if error <= by_noise else max(0.0, float(low) - bias_of_sizes(gaps, drawn))
    estimates[CALIBRATION] = Estimate(float(error), least, float(high), sums.n)
    return estimates


def _plain(scores: Estimates) -> dict[str, dict[str, float]]:
    return {name: estimate._asdict() for name, estimate in scores.items()}
