"""Hypothesis strategies that several tests share."""

from hypothesis import strategies as st

coordinate = st.integers(0, 255)
stroke = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=6).map(
    lambda points: ([x for x, _ in points], [y for _, y in points])
)
drawing = st.lists(stroke, min_size=1, max_size=4)
drawings = st.lists(drawing, max_size=6)
