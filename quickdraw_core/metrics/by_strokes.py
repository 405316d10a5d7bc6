"""After how many strokes is a drawing recognised? Scores of partial drawings with intervals. Pure.

A drawing that has no more strokes counts as it is when whole. So all numbers are of the same
drawings, and the last are those of the whole ones.

*Strokes until right*: after that many strokes the right word is the first guess, and it stays so
each later time that the drawing is judged, the last time whole. Of several drawings it is the
median; a drawing that is not right when whole counts as longer than all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.inference.partial import Partial
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.metrics.bootstrap import RESAMPLES, TAIL, interval, resampled_sums
from quickdraw_core.metrics.metrics import Estimate

NEVER = "never"
"""The strokes until right if more than half of the whole drawings are not right."""

_SAME = 1e-9
"""Shares that differ by less are the same but for rounding."""


class UntilRight(NamedTuple):
    """The median strokes until right of n drawings, with its 95 % interval. None: more than half
    of them are not right even when whole.
    """

    value: int | None
    low: int | None
    high: int | None
    n: int

    def text(self) -> str:
        """`3`, or `never`."""
        return NEVER if self.value is None else str(self.value)

    def interval_text(self) -> str:
        """`2 to 4`, or `2 to never`."""
        return " to ".join(NEVER if end is None else str(end) for end in (self.low, self.high))


class AfterStrokes(NamedTuple):
    """Scores after so many strokes; None: of the whole drawings. whole_share: the share of the
    drawings that have no more strokes.
    """

    strokes: int | None
    map_at_3: Estimate
    top_1: Estimate
    whole_share: float


class ClassByStrokes(NamedTuple):
    """A word's strokes until right. strokes: the median of the whole drawings. top_1: share whose
    first guess is right, after as many strokes as the entries of `StrokeJudgement.after`.
    """

    word: str
    until_right: UntilRight
    strokes: float
    top_1: tuple[float, ...]


@dataclass(frozen=True)
class StrokeJudgement:
    """How a model's guesses come right while one draws.

    after: scores by strokes, ascending, the last of the whole drawings. classes: every word that
    has drawings, those recognised after the fewest strokes first.
    """

    until_right: UntilRight
    after: Sequence[AfterStrokes]
    classes: Sequence[ClassByStrokes]

    @property
    def n(self) -> int:
        """Number of whole drawings."""
        return self.until_right.n

    def to_json(self) -> dict[str, Any]:
        """As plain values. "all" is the whole drawing."""
        names = ["all" if each.strokes is None else str(each.strokes) for each in self.after]
        return {
            "n": self.n,
            "strokes_until_right": self.until_right._asdict(),
            "after_strokes": {
                name: {
                    "map_at_3": each.map_at_3._asdict(),
                    "top_1": each.top_1._asdict(),
                    "whole_share": each.whole_share,
                }
                for name, each in zip(names, self.after, strict=True)
            },
            "classes": {
                row.word: {
                    "strokes_until_right": row.until_right._asdict(),
                    "strokes": row.strokes,
                    "top_1": dict(zip(names, row.top_1, strict=True)),
                }
                for row in self.classes
            },
        }


def judge_by_strokes(
    judged: Predictions,
    partial: Partial,
    predicted: Predictions,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> StrokeJudgement:
    """Judges predictions of at least one partial drawing.

    judged: of all held-out drawings, as `partial.whole` counts them; predicted: of the partial
    ones. seed: of the resamples.
    """
    whole = judged.where(partial.whole)
    counts = np.unique(partial.strokes)
    ranks = _ranks(whole, partial, predicted, counts)
    until = strokes_until_right(ranks == 0, counts, partial.whole_strokes)
    longest, columns = int(partial.whole_strokes.max()), len(counts) + 1
    worth = np.where(ranks < 3, 1 / (ranks + 1), 0.0)
    right_by = until[:, None] <= np.arange(1, longest + 1)
    values = np.hstack([worth, ranks == 0, right_by]).astype(np.float64)
    total, resampled = np.zeros(values.shape[1]), np.zeros((resamples, values.shape[1]))
    classes = []
    for sums in resampled_sums(values, whole.labels, seed, resamples):
        total, resampled = total + sums.total, resampled + sums.resampled
        mine, tail = sums.total / sums.n, slice(2 * columns, None)
        classes.append(
            ClassByStrokes(
                word=whole.label_map.words[sums.label],
                until_right=_median(mine[tail], sums.resampled[:, tail] / sums.n, sums.n),
                strokes=float(np.median(partial.whole_strokes[whole.labels == sums.label])),
                top_1=tuple(mine[columns : 2 * columns].tolist()),
            )
        )
    n, steps = len(whole), [*counts.tolist(), None]
    estimates = _estimates(total[: 2 * columns] / n, resampled[:, : 2 * columns] / n, n)
    shares = [float(np.mean(partial.whole_strokes <= count)) for count in counts] + [1.0]
    return StrokeJudgement(
        _median(total[2 * columns :] / n, resampled[:, 2 * columns :] / n, n),
        [
            AfterStrokes(*each)
            for each in zip(steps, estimates[:columns], estimates[columns:], shares, strict=True)
        ],
        sorted(classes, key=_quickest_first),
    )


def strokes_until_right(
    right: np.ndarray[Any, np.dtype[np.bool_]], counts: Int64Array, whole_strokes: Int64Array
) -> Int64Array:
    """Strokes until right of each drawing, int64 [N]; more than any drawing has if it is not
    right when whole.

    right: bool [N, C + 1], after each of `counts` (int64 [C], ascending) and of the whole; of a
    drawing with no more strokes than a count, the same as of the whole.
    """
    stays = np.logical_and.accumulate(right[:, ::-1], axis=1)[:, ::-1]
    ends = np.minimum([*counts.tolist(), whole_strokes.max()], whole_strokes[:, None])
    first = np.take_along_axis(ends, stays.argmax(1)[:, None], 1)[:, 0]
    until: Int64Array = np.where(stays[:, -1], first, whole_strokes.max() + 1)
    return until


def _ranks(
    whole: Predictions, partial: Partial, predicted: Predictions, counts: Int64Array
) -> Int64Array:
    """The right word's rank, from 0, after each count and of the whole: int64 [N, C + 1]."""
    ranks = np.repeat(whole.ranks[:, None], len(counts) + 1, axis=1)
    ranks[partial.of, np.searchsorted(counts, partial.strokes)] = predicted.ranks
    return ranks


def _estimates(means: Float64Array, resampled: Float64Array, n: int) -> list[Estimate]:
    ends = zip(means, *interval(resampled, means), strict=True)
    return [Estimate(float(value), float(low), float(high), n) for value, low, high in ends]


def _median(shares: Float64Array, resampled: Float64Array, n: int) -> UntilRight:
    """Of the share that is right after 1, 2, 3 … strokes: float64 [K], over resamples [B, K]."""
    longest = len(shares)

    def median(shares: Float64Array) -> Int64Array:
        enough = shares >= 0.5 - _SAME
        return np.where(enough.any(-1), enough.argmax(-1) + 1, longest + 1)

    value, medians = int(median(shares)), median(resampled)
    low = min(value, int(np.quantile(medians, TAIL, method="lower")))
    high = max(value, int(np.quantile(medians, 1 - TAIL, method="higher")))

    def known(strokes: int) -> int | None:
        return strokes if strokes <= longest else None

    return UntilRight(known(value), known(low), known(high), n)


def _quickest_first(row: ClassByStrokes) -> tuple[float, float, str]:
    """Of equal medians the one whose first guess is right more often on the way."""
    median = row.until_right.value
    return float("inf") if median is None else median, -float(np.mean(row.top_1)), row.word
