"""Per-class offsets that even out how often each class is guessed first.

In: log probabilities [N, K]. Out: an offset a class, none above 0, to be added to them. It helps
if the N drawings are known to hold as many of each class, as the test set of the 2018 Quick,
Draw! challenge does: a class that is guessed too often takes drawings from its neighbours.

Source of the idea: the write-up of the challenge's first place (Kaggle, discussion 73738). It
lowers the class guessed most often, a little at a time, until the counts are about even; it
names Heng CherKeng as the finder of (112,199 + 1) / 340 = 330, and 0.7 % as the gain. (From the
summary of the top solutions in the repository `ShusenTang/kaggle-doodle-recognition`.)

Here all classes move at once. How many first guesses a class has beyond N / K is the slope, along
its offset o[k], of the convex function sum_i max_k (scores[i, k] + o[k]) - N / K sum_k o[k], so
even counts are its minimum. It is sought with the sign of the slope alone and a step of each
class's own, which grows while the sign stays and shrinks when it turns (Riedmiller and Braun, "A
direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993): 15 to 60
rounds in what was tried. Lowering only what is above the limit, by just what it needs, took
hundreds: the last rows are passed around until all other classes have come down to the one that
nobody guesses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.system.compiled import compiled

Scores = npt.NDArray[np.float32]

TOLERANCE = 0.02
"""How much more often than its share a class may be guessed first."""

_GROW, _SHRINK = 1.2, 0.5
_SMALLEST, _LARGEST = 1e-5, 2.0
"""Bounds of a step, in nats."""

_FIRST_AT_LEAST = 0.01

_MAX_IDLE = 100
"""Rounds without progress after which it ends."""


@dataclass(frozen=True)
class Balance:
    """offsets: float64 [K], the largest 0. before, after: int64 [K], first guesses of each class
    without and with them. limit: first guesses that a class may have. rounds: how often all
    were counted.
    """

    offsets: Float64Array
    before: Int64Array
    after: Int64Array
    limit: int
    rounds: int

    @property
    def reached(self) -> bool:
        """Whether no class is above the limit. Rows that are all the same cannot be parted."""
        return int(self.after.max()) <= self.limit


def balance(
    pieces: Iterable[Scores],
    classes: int,
    tolerance: float = TOLERANCE,
    report: Callable[[str], None] | None = None,
) -> Balance:
    """Offsets with which no class is the first guess of more than (1 + tolerance) · N / K rows.

    pieces: natural log probabilities, float32 [n, K] each, finite; iterated again each round, so
    they may be read from a file. The limit is at least N / K, rounded up. If no class is above
    it, all offsets are 0. Stops when no class is above it, or when for 100 rounds the rows above
    it have not become fewer; then the offsets are those of the round that had the fewest.
    Deterministic; how the rows are cut into pieces makes no difference. report: called after each
    round.
    """
    offsets = np.zeros(classes)
    before = _counts(pieces, offsets)
    n = int(before.sum())
    even = n / classes
    limit = max(-(-n // classes), int((1 + tolerance) * even))
    counts, best, after = before, offsets, before
    rounds, idle, fewest = 1, 0, n + 1
    steps = np.maximum(_FIRST_AT_LEAST, np.abs(np.log((before + 1) / (even + 1))))
    last_signs = np.zeros(classes)
    while True:
        above = int(np.maximum(counts - limit, 0).sum())
        idle += 1
        if above < fewest:
            idle, fewest, best, after = 0, above, offsets, counts
        if report is not None:
            report(f"{above:,} of {n:,} rows above {limit:,} a class")
        if fewest == 0 or idle == _MAX_IDLE:
            return Balance(best - best.max(), before, after, limit, rounds)
        signs = np.sign(counts - even) * (np.abs(counts - even) >= 0.5)
        turns = signs * last_signs
        steps = steps * np.where(turns > 0, _GROW, np.where(turns < 0, _SHRINK, 1.0))
        steps = np.clip(steps, _SMALLEST, _LARGEST)
        offsets, last_signs = offsets - signs * steps, signs
        # Shifted as `best` will be, so that what is counted is what the caller gets.
        offsets = offsets - offsets.max()
        counts, rounds = _counts(pieces, offsets), rounds + 1


def _counts(pieces: Iterable[Scores], offsets: Float64Array) -> Int64Array:
    """First guesses of each class, int64 [K]."""
    counts = np.zeros(len(offsets), np.int64)
    for piece in pieces:
        _count(piece, offsets, counts)
    return counts


@compiled()
def _count(scores: Scores, offsets: Float64Array, counts: Int64Array) -> None:
    """Adds the best class of each row, of equal ones the lowest."""
    for row in range(len(scores)):
        label, highest = 0, -np.inf
        for k in range(len(offsets)):
            score = np.float64(scores[row, k]) + offsets[k]
            if score > highest:
                label, highest = k, score
        counts[label] += 1
