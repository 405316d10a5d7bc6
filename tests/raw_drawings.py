"""Raw drawings as a few strokes of arrays, simplified."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quickdraw_core.formats.scanning.simplification import nested, simplify_points


def simplify(
    strokes_xy: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
) -> list[tuple[list[int], list[int]]]:
    """Per stroke (its x and its y, [points]) the x and y of the simplified one, 0..255."""
    if not strokes_xy:
        return []
    x, y, lengths = simplify_points(
        np.concatenate([x for x, _ in strokes_xy]).astype(np.float64),
        np.concatenate([y for _, y in strokes_xy]).astype(np.float64),
        np.array([len(x) for x, _ in strokes_xy], np.int64),
    )
    return nested(x, y, lengths)
