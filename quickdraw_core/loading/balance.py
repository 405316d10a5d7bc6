"""Which drawing comes at a position of an epoch, with rare classes brought up if wanted.

A pure function of (epoch, position), computed in O(1): no list of drawings is shuffled or kept,
so order and resume are as exact with class balance as without.
"""

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array, UInt16Array, UInt64Array
from quickdraw_core.loading.hashing import extended
from quickdraw_core.loading.order import checked_positions, permute, permuted, stream_key
from quickdraw_core.loading.prior import class_shares
from quickdraw_core.system.compiled import compiled

_IN_CLASS = 0xBA1
"""Sets the orders within a class apart from the order of an epoch."""
_LABELS = 1 << 16
_AT_ONCE = 1 << 20


def quotas(counts: Int64Array, class_balance: float) -> Int64Array:
    """How often each class comes in an epoch as long as there are drawings: int64 [K].

    counts: int64 [K], drawings of each class, 1 or more. Classes come in `class_shares`; what
    rounding leaves goes to the largest remainders.
    """
    exact = counts.sum() * class_shares(counts, class_balance)
    times: Int64Array = np.floor(exact).astype(np.int64)
    missing = int(counts.sum() - times.sum())
    times[np.argsort(times - exact, kind="stable")[:missing]] += 1
    return times


def _counts_by_label(rows: Int64Array, labels: UInt16Array) -> Int64Array | None:
    """Drawings of each possible label among `rows`, int64 [65536]; None if these are not in the
    order of their labels.

    Some at a time: every rank does this, and the rows of all drawings would be as many arrays of
    their size as a host has ranks.
    """
    counts, last = np.zeros(_LABELS, np.int64), 0
    for start in range(0, len(rows), _AT_ONCE):
        some = labels[rows[start : start + _AT_ONCE]]
        if some[0] < last or (some[1:] < some[:-1]).any():
            return None
        last = int(some[-1])
        counts += np.bincount(some, minlength=_LABELS)
    return counts


class SampleOrder:
    """The stream of drawings: n positions an epoch, n being the number of drawings.

    class_balance 0: each drawing once an epoch. Above it, up to 1: classes come in the shares
    of `quotas`. A class that comes more often than it has drawings shows each of them in an
    epoch equally often, give or take one; one that comes less often goes on in the next epoch
    where it stopped, so that over the epochs it too shows each of its drawings equally often.
    """

    def __init__(
        self, rows: Int64Array, labels: UInt16Array, seed: int, class_balance: float
    ) -> None:
        """rows: int64 [n], the drawings; labels: uint16 [N], of the whole pack, by row."""
        self.rows, self.seed = rows, seed
        self._quotas: Int64Array | None = None
        if class_balance == 0 or len(rows) == 0:
            return
        counts = _counts_by_label(rows, labels)
        if counts is None:
            self.rows = rows[np.argsort(labels[rows], kind="stable")]
            counts = np.bincount(labels[rows], minlength=_LABELS)
        present = np.flatnonzero(counts)
        self._classes = present.astype(np.uint64)
        self._counts = counts[present].astype(np.int64)
        self._first = np.cumsum(self._counts) - self._counts
        self._quotas = quotas(self._counts, class_balance)
        self._ends = np.cumsum(self._quotas)

    def __len__(self) -> int:
        return len(self.rows)

    def rows_at(self, epoch: int, positions: npt.ArrayLike) -> Int64Array:
        """The drawings at `positions` (int [M], each 0..n-1) of an epoch: rows, int64 [M]."""
        if self._quotas is None:
            return self.rows[permute(positions, len(self.rows), self.seed, epoch)]
        values = checked_positions(positions, len(self.rows))
        chosen = np.empty(len(values), np.int64)
        _balanced(
            values,
            np.uint64(len(self.rows)),
            stream_key(self.seed, epoch),
            stream_key(self.seed, _IN_CLASS),
            np.uint64(epoch),
            self._classes,
            self._first,
            self._counts,
            self._quotas,
            self._ends,
            chosen,
        )
        return self.rows[chosen]


@compiled()
def _balanced(
    values: UInt64Array,
    n: np.uint64,
    epoch_key: np.uint64,
    class_key: np.uint64,
    epoch: np.uint64,
    classes: UInt64Array,
    firsts: Int64Array,
    counts: Int64Array,
    quota: Int64Array,
    ends: Int64Array,
    chosen: Int64Array,
) -> None:
    for k in range(len(values)):
        position = np.int64(permuted(values[k], n, epoch_key))
        group = np.searchsorted(ends, position, side="right")
        count, share = np.uint64(counts[group]), np.uint64(quota[group])
        turn = np.uint64(position - ends[group] + quota[group])
        key = extended(class_key, classes[group])
        if share >= count:
            # An epoch of its own, so that none comes twice more often than another.
            key = extended(key, epoch)
        else:
            turn += epoch * share
        key = extended(key, turn // count)
        chosen[k] = firsts[group] + np.int64(permuted(turn % count, count, key))
