"""How often each class comes in a training's stream of drawings."""

from collections.abc import Sequence

import numpy as np

from quickdraw_core.drawing import Float64Array, Int64Array


def class_shares(counts: Int64Array, class_balance: float) -> Float64Array:
    """The share of each class, proportional to `count ** (1 - class_balance)`: float64 [K].

    counts: int64 [K], drawings of each class, 1 or more. class_balance: as in `SelectConfig`.
    """
    weights = counts.astype(np.float64) ** (1 - class_balance)
    shares: Float64Array = weights / weights.sum()
    return shares


def log_prior(train_counts: Sequence[int], class_balance: float) -> Float64Array:
    """Natural log of each class's share of the drawings that a training sees: float64 [K].

    train_counts: drawings of each label that are trained on. A class without drawings has the
    value of the largest class. As a rare one, a loss or an adjustment would raise it far above
    what the network gives it, and it would be guessed though nothing of it was learned.
    """
    counts = np.array(train_counts, np.int64)
    present = counts > 0
    logs = np.zeros(len(counts))
    if present.any():
        logs[present] = np.log(class_shares(counts[present], class_balance))
        logs[~present] = logs[present].max()
    return logs
