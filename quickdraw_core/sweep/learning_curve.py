"""A metric against the drawings a class: measured points, a fit, what more drawings would give.

The error is 1 less the metric, or the metric itself if lower is better. It is fitted by a power
of the drawings above a floor, c + a·n^(−b) with a and c of at least 0 (Hestness et al., "Deep
learning scaling is predictable, empirically", 2017). For a given b the best a and c have a closed
form, so b is looked for on a grid (variable projection, Golub and Pereyra, 1973). That needs no
first guess, always ends, and takes all resamples at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Float64Array
from quickdraw_core.metrics.metrics import METRICS, Estimate
from quickdraw_core.sweep.table import PublishedValue

FEWEST = 4
"""Points of a fit: it has three unknowns."""
FAR = 10
"""Times the most drawings that were tried, beyond which a prediction is a guess."""
ASKED = (1_000, 4_000, 100_000)
"""Drawings a class for which each curve has a prediction."""

_RESAMPLES = 1_000
_EXPONENTS = np.geomspace(0.02, 3, 400)
_SIGMAS = 2 * 1.96
"""Standard deviations of a normal distribution in its 95 % interval."""


class Point(NamedTuple):
    """What a row reached. drawings: train drawings a class that it used, the mean over classes."""

    row: str
    drawings: float
    measured: Estimate


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Prediction(NamedTuple):
    """What the fit gives for so many drawings a class. published: what others measured there.

    times: the most drawings a class that were tried.
    """

    drawings: float
    expected: Interval
    times: float
    published: tuple[PublishedValue, ...]

    @property
    def is_guess(self) -> bool:
        """Whether it is further from what was tried than a fit can be trusted."""
        return self.times > FAR


@dataclass(frozen=True, eq=False)
class Fit:
    """error = c + a·n^(−b). Each float64 [R]: first of the points, then of their resamples."""

    a: Float64Array
    b: Float64Array
    c: Float64Array

    def error_at(self, drawings: float) -> Float64Array:
        """The error for so many drawings a class: float64 [R]."""
        error: Float64Array = self.c + self.a * drawings**-self.b
        return error


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """A metric against the train drawings a class.

    points: by rising drawings. classes: that the rows tell apart. fit: None if there is none;
    without_fit then says why.
    """

    metric: str
    points: tuple[Point, ...]
    classes: int
    published: tuple[PublishedValue, ...] = ()
    fit: Fit | None = None
    without_fit: str = ""

    @classmethod
    def of(
        cls,
        metric: str,
        points: Sequence[Point],
        classes: int,
        published: Sequence[PublishedValue] = (),
    ) -> Self:
        """Fits the points, if that can be done. published: values of any metric."""
        points = tuple(sorted(points, key=lambda point: point.drawings))
        mine = tuple(value for value in published if value.metric == metric)
        why_not = _why_no_fit(points)
        fit = None if why_not else _fitted(metric, points)
        if fit is not None and fit.a[0] == 0:
            fit, why_not = None, "the error does not fall with more drawings"
        return cls(metric, points, classes, mine, fit, why_not)

    def at(self, drawings: float) -> Interval:
        """The metric that the fit gives for so many drawings a class."""
        assert self.fit is not None
        values = _error(self.metric, self.fit.error_at(drawings))
        return _interval(values)

    @property
    def most(self) -> float:
        """The most drawings a class that were tried."""
        return self.points[-1].drawings

    @property
    def missed(self) -> int:
        """Points whose interval the fit does not pass."""
        values = [(self.at(point.drawings).value, point.measured) for point in self.points]
        return sum(not measured.low <= value <= measured.high for value, measured in values)

    def parameters(self) -> dict[str, Interval]:
        """a, b and c of the fit."""
        assert self.fit is not None
        return {name: _interval(getattr(self.fit, name)) for name in ("a", "b", "c")}

    def predictions(self) -> tuple[Prediction, ...]:
        """For the numbers of ASKED, and for those that others published; none without a fit."""
        if self.fit is None:
            return ()
        published: dict[int, list[PublishedValue]] = {n: [] for n in ASKED}
        for value in self.published:
            published.setdefault(value.drawings_a_class, []).append(value)
        return tuple(
            Prediction(n, self.at(n), n / self.most, tuple(values))
            for n, values in sorted(published.items())
        )


def _why_no_fit(points: Sequence[Point]) -> str:
    """Why there can be no fit, in words; empty if there can be one."""
    for point in points:
        if not np.isfinite(point.measured).all():
            return f"row {point.row!r} has no finite value and interval"
    numbers = len({point.drawings for point in points})
    if numbers < FEWEST:
        return f"{numbers} finished with different numbers of drawings, a fit takes {FEWEST}"
    return ""


def _error(metric: str, values: npt.ArrayLike) -> Float64Array:
    """The errors that belong to values of a metric; the same the other way round."""
    values = np.asarray(values, np.float64)
    return values if METRICS[metric].lower_is_better else 1 - values


def _interval(values: Float64Array) -> Interval:
    """Of the fit of the points, which stands first, and of those of the resamples."""
    low, high = np.percentile(values[1:], (2.5, 97.5))
    value = float(values[0])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _fitted(metric: str, points: Sequence[Point]) -> Fit:
    """The fit of the points, and of resamples of them.

    Each point is resampled from a normal distribution as wide as its interval; all of them
    wider if they are further from the fit than their intervals allow.
    """
    drawings = np.array([point.drawings for point in points])
    measured = [point.measured for point in points]
    errors = _error(metric, [estimate.value for estimate in measured])
    # An interval without width, as of drawings that are all right, is not sure beyond measure.
    sigmas = np.array([max((e.high - e.low) / _SIGMAS, 0.5 / e.n) for e in measured])
    best = _best(drawings, errors[None], sigmas)
    off = (errors - [best.error_at(n)[0] for n in drawings]) / sigmas
    spread = max(1.0, float(np.sqrt((off**2).sum() / (len(points) - 3))))
    noise = np.random.default_rng(0).normal(size=(_RESAMPLES, len(points)))
    resampled = np.maximum(errors + noise * sigmas * spread, 0)
    others = _best(drawings, resampled, sigmas)
    return Fit(*(np.concatenate([getattr(best, x), getattr(others, x)]) for x in ("a", "b", "c")))


def _best(drawings: Float64Array, errors: Float64Array, sigmas: Float64Array) -> Fit:
    """The fits with the least squares. drawings, sigmas: float64 [P]. errors: [R, P]."""
    weights = sigmas**-2
    weights /= weights.sum()
    means = errors @ weights
    least = np.full(len(errors), np.inf)
    a, b, c = (np.zeros(len(errors)) for _ in range(3))
    for exponent in _EXPONENTS:
        powers = (drawings / drawings[0]) ** -exponent
        mean = powers @ weights
        off = (powers - mean) * weights
        slope = np.maximum(errors @ off / (powers @ off), 0)
        floor = means - slope * mean
        below = floor < 0  # then the best with a floor of at least 0 has one of 0
        slope = np.where(below, errors @ (powers * weights) / (powers**2 @ weights), slope)
        floor = np.where(below, 0, floor)
        squares = (errors - floor[:, None] - slope[:, None] * powers) ** 2 @ weights
        better = squares < least
        least = np.where(better, squares, least)
        a = np.where(better, slope * drawings[0] ** exponent, a)
        b, c = np.where(better, exponent, b), np.where(better, floor, c)
    return Fit(a, b, c)
