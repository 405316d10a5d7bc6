"""Held-out drawings as they were after some of their strokes.

The game guesses while one draws. It gives the model what is on the paper so far, simplified, moved
and scaled to fill the square (`drawing_of_raw`). Here the same function does so with the first
strokes of a drawing of the store. As they lie in the whole drawing they would be small and in a
corner, as no model sees them in the game.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float64Array, Int64Array
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.store.pack import Pack

STROKE_COUNTS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
"""After how many strokes drawings are judged, beside the whole: closer where most of them end."""

PARTIAL_NAME = "partial_predictions.parquet"
"""Name of the file in the folder of an evaluation."""


class Partial(NamedTuple):
    """M partial drawings of N whole ones.

    whole: int64 [N], the index of each whole drawing among all that are judged, ascending.
    whole_strokes: int64 [N], how many strokes it has. of: int64 [M], index in `whole`. held_out:
    the partial drawings, M.
    """

    whole: Int64Array
    whole_strokes: Int64Array
    of: Int64Array
    held_out: HeldOut

    @property
    def strokes(self) -> Int64Array:
        """How many strokes each partial drawing has: int64 [M]."""
        assert self.held_out.strokes is not None
        return self.held_out.strokes


def partial_drawings(judged: HeldOut, per_class: int) -> Partial:
    """The partial drawings to judge: of each class those with the `per_class` smallest hashes,
    after each of STROKE_COUNTS that is less than what they have.
    """
    pack = judged.pack
    whole = np.flatnonzero(np.isin(judged.rows, pack.test_rows(per_class)))
    rows, offsets = judged.rows[whole], pack.drawings.stroke_offsets
    whole_strokes = offsets[rows + 1] - offsets[rows]
    counts = np.array(STROKE_COUNTS)
    of, count = np.nonzero(counts < whole_strokes[:, None])
    return Partial(whole, whole_strokes, of, HeldOut(pack, rows[of], {}, counts[count]))


def pack_and_rows(held_out: HeldOut) -> tuple[Pack, Int64Array]:
    """The held-out drawings as a model gets them: a pack and their rows in it, int64 [N]."""
    if held_out.strokes is None:
        return held_out.pack, held_out.rows
    pack = with_first_strokes(held_out.pack, held_out.rows, held_out.strokes)
    return pack, np.arange(len(pack))


def with_first_strokes(pack: Pack, rows: Int64Array, strokes: Int64Array) -> Pack:
    """The first `strokes` (int64 [N]) strokes of some drawings of a pack, as the game would give
    them to a model: a pack of these N alone, in memory, in the order of `rows`.
    """
    # Here, since cached predictions need no compiled code.
    from quickdraw_core.formats.raw_drawing import drawing_of_raw

    drawings = [
        drawing_of_raw(_first_strokes(pack.drawings, int(row), int(count)))
        for row, count in zip(rows, strokes, strict=True)
    ]
    own = ("labels", "key_ids", "splits", "recognized")
    none = DrawingBatch.from_strokes([])  # so that there is a batch if there are no rows
    columns = {name: getattr(pack, name)[rows] for name in own}
    return replace(pack, drawings=DrawingBatch.concat([none, *drawings]), **columns)


def _first_strokes(
    drawings: DrawingBatch, row: int, count: int
) -> list[tuple[Float64Array, Float64Array]]:
    first, point = int(drawings.stroke_offsets[row]), int(drawings.point_offsets[row])
    ends = point + np.cumsum(drawings.stroke_lengths[first : first + count], dtype=np.int64)
    starts = [point, *ends[:-1]]
    x, y = drawings.x, drawings.y
    return [
        (x[a:b].astype(np.float64), y[a:b].astype(np.float64))
        for a, b in zip(starts, ends, strict=True)
    ]
