from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import drawings

from quickdraw_core.drawing import DrawingBatch


@given(drawings)
def test_strokes_come_back_as_they_went_in(batch: list) -> None:
    columns = DrawingBatch.from_strokes(batch)
    assert len(columns) == len(batch)
    assert [columns.strokes(i) for i in range(len(batch))] == batch


@given(drawings, st.data())
def test_take_gathers_any_rows_in_any_order(batch: list, data: st.DataObject) -> None:
    columns = DrawingBatch.from_strokes(batch)
    indices = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=8)) if batch else []
    taken = columns.take(np.array(indices, np.int64))
    assert [taken.strokes(i) for i in range(len(indices))] == [batch[i] for i in indices]


@given(drawings, st.integers(0, 3))
def test_arrow_columns_are_viewed_also_from_the_middle(batch: list, skip: int) -> None:
    columns = DrawingBatch.from_strokes(batch)

    def packed(values: np.ndarray, offsets: np.ndarray) -> pa.Array:
        rows = pairwise(offsets)
        return pa.array([values[a:b].tobytes() for a, b in rows], pa.binary())[skip:]

    viewed = DrawingBatch.from_columns(
        packed(columns.x, columns.point_offsets),
        packed(columns.y, columns.point_offsets),
        packed(columns.stroke_lengths, columns.stroke_offsets),
    )
    assert [viewed.strokes(i) for i in range(len(viewed))] == batch[skip:]


def test_unequal_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 x and 1 y"):
        DrawingBatch.from_strokes([[([1, 2], [3])]])
