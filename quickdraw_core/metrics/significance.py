"""Significance tests: is a difference more than chance, and which of many are? Pure.

Of many classes some seem to change by chance alone: at 5 % about 17 of 340. So which classes
changed is decided together, such that of those named at most 5 % are expected to be named wrongly
(Benjamini and Hochberg, "Controlling the false discovery rate", 1995).
"""

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.metrics.bootstrap import LEVEL

FALSE_DISCOVERIES = 1 - LEVEL
"""Share of the classes named as changed that may be expected to be named wrongly."""


def sign_flip_p(differences: Int64Array) -> float:
    """Chance of a sum as far from 0 as that of whole numbers, int64 [N], if each had either sign
    with the same chance.

    That is the case if it does not matter which of two models saw a drawing (Fisher, "The design
    of experiments", 1935, section 21). Exact over all 2^N ways, to within 1e-12: with 340 classes
    the chances that decide are smaller than any number of resamples could show. A sign for each
    is a factor cos(size · frequency) of the sum's transform.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    reach, far = int(sizes @ counts), abs(int(differences.sum()))
    if far == 0:
        return 1.0
    length = 1 << (2 * reach).bit_length()  # a period that holds all sums, -reach to reach
    frequencies = 2 * np.pi * np.arange(length // 2 + 1) / length
    transform = np.ones(len(frequencies))
    for size, count in zip(sizes, counts, strict=True):
        transform *= np.cos(size * frequencies) ** count
    chances = np.fft.irfft(transform, length)
    # The sums below 0 are at the end of the period, and are as likely.
    return float(np.clip(2 * chances[far : reach + 1].sum(), 0.0, 1.0))


def discoveries(p_values: Float64Array, share: float = FALSE_DISCOVERIES) -> npt.NDArray[np.bool_]:
    """Which of several findings to believe, so that a `share` of these is expected to be wrong.

    Benjamini and Hochberg's step-up procedure: the largest k such that k p-values, of float64
    [K], are at most k/K of the share.
    """
    order = np.sort(p_values)
    allowed = share * np.arange(1, len(order) + 1) / max(1, len(order))
    passing = np.flatnonzero(order <= allowed)
    limit = order[passing[-1]] if len(passing) else -1.0
    return np.asarray(p_values <= limit)
