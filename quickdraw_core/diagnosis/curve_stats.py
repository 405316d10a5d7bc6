"""What the rules of `diagnosis.py` measure on a training's curves: falls, jumps, levels. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quickdraw_core.diagnosis.curves import Curve, Curves

Floats = npt.NDArray[np.float64]

LEAST_POINTS, LEAST_VALIDATIONS, _LEAST_STEPS = 10, 5, 100
_BELOW = 0.7
"""Share of guessing's MAP@3, so low that 30 drawings are seldom there by chance."""
_FIRST_BELOW = 0.5
"""The same of top-1."""
_WILD, _WILD_RIGHT = 1.0, 0.035
"""Jumps of the validation loss and of MAP@3 that are too large also if something is learned."""


@dataclass(frozen=True)
class CurveStats:
    """Finite points of the curves that decide, and what guessing would reach.

    losses: of training and validation, with their points that are not finite. learning_rate: the
    highest; epochs: at the end; data_wait_share: its median. NaN if unknown.
    """

    losses: tuple[Curve, ...]
    train: Curve
    validation: Curve
    map_at_3: Curve
    top_1: Curve
    classes: int
    learning_rate: float
    epochs: float
    data_wait_share: float
    has_diverged: bool

    @classmethod
    def of(cls, curves: Curves, classes: int, has_diverged: bool) -> "CurveStats":
        """The measures of a run. has_diverged: whether an error about that ended it."""
        rates, epochs = _finite(curves, "train/learning_rate"), _finite(curves, "train/epoch")
        waits = _finite(curves, "train/data_wait_share")
        return cls(
            tuple(curves[name] for name in ("train/loss", "validation/loss") if name in curves),
            _finite(curves, "train/loss"),
            _finite(curves, "validation/loss"),
            _finite(curves, "validation/map_at_3"),
            _finite(curves, "validation/top_1"),
            classes,
            float(rates.values.max()) if len(rates) else math.nan,
            float(epochs.values[-1]) if len(epochs) else math.nan,
            float(np.median(waits.values)) if len(waits) >= LEAST_POINTS else math.nan,
            has_diverged,
        )

    @property
    def guessing(self) -> float:
        """MAP@3 of three random guesses: the first, second or third is right, 1/K each."""
        ranks = range(1, min(3, self.classes) + 1)
        return sum(1 / rank for rank in ranks) / max(self.classes, 1)

    @property
    def enough(self) -> bool:
        """Whether there is enough of it to judge the learning rate and the loss by."""
        return (
            len(self.train) >= LEAST_POINTS
            and min(len(self.validation), len(self.map_at_3)) >= LEAST_VALIDATIONS
            and int(self.train.steps[-1]) >= _LEAST_STEPS
            and self.classes > 3  # else the three guesses leave little to be missed
        )

    @property
    def reached(self) -> float:
        """MAP@3 over the last third of the validations."""
        return median_of_last_third(self.map_at_3.values)

    @property
    def lift(self) -> float:
        """Share of the way from guessing to all right."""
        return (self.reached - self.guessing) / (1 - self.guessing)

    @property
    def is_worse_than_guessing(self) -> bool:
        """Whether the guesses became worse than random ones: that has to be learned."""
        if self.reached < _BELOW * self.guessing:
            return True
        # A margin that is turned round leaves the right class second: MAP@3 does not show it.
        first = self.top_1.values
        return bool(len(first)) and median_of_last_third(first) < _FIRST_BELOW / self.classes

    @property
    def fifths(self) -> Floats:
        """Median train loss of each fifth of the points, [5]."""
        return np.array([np.median(part) for part in np.array_split(self.train.values, 5)])

    @property
    def jitter(self) -> float:
        """How much the validation loss jumps, as a share of itself."""
        return self._share(_jumps(self.validation.values))

    @property
    def is_unsettled(self) -> bool:
        """Whether validation loss and MAP@3 still jump after the first third of the training."""
        loss, right = (c.values[len(c) // 3 :] for c in (self.validation, self.map_at_3))
        return self._share(_jumps(loss)) > _WILD and _jumps(right) > _WILD_RIGHT

    def _share(self, distance: float) -> float:
        # A loss that is nearly 0 moves by little, whatever its share.
        median = abs(float(np.median(self.validation.values)))
        level = max(median, abs(float(self.fifths[0])) / 10)
        return distance / level if level else math.inf


def _jumps(values: Floats) -> float:
    """Mean distance of a point from the middle of its two neighbours.

    The drawings of a validation are always the same, so that this is no chance of theirs. A
    steady fall has none, nor has the drift of batch norm's statistics.
    """
    return float(np.abs(np.diff(values, n=2)).mean()) / 2 if len(values) > 2 else 0.0


def _finite(curves: Curves, name: str) -> Curve:
    curve = curves.get(name)
    if curve is None:
        return Curve(np.empty(0, np.int64), np.empty(0))
    finite = np.isfinite(curve.values)
    return Curve(curve.steps[finite], curve.values[finite])


def median_of_last_third(values: Floats) -> float:
    """The median of the last third of a curve's points."""
    return float(np.median(values[-max(1, len(values) // 3) :]))


def is_steady(values: Floats) -> bool:
    """Whether a curve goes down nearly all the time."""
    return bool(values[-1] < values[0]) and float((np.diff(values) > 0).mean()) <= 0.2


def smoothed(values: Floats) -> Floats:
    """Running median of three: one jump is no trend."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)  # type: ignore[no-any-return]
