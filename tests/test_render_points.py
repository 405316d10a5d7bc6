import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import drawings
from trainings import image_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.render.encodings import render
from quickdraw_core.render.placement import Points
from quickdraw_core.render.point_slots import PEN_DOWN, PEN_ON


def unmoved(batch: DrawingBatch) -> Points:
    return Points(batch.x.astype(np.float32), batch.y.astype(np.float32))


def read_back(image: np.ndarray) -> list:
    """The strokes that an image of points says it holds."""
    x, y, pen = image.reshape(3, -1).tolist()
    strokes: list = []
    for slot in range(pen.index(0) if 0 in pen else len(pen)):
        if pen[slot] == PEN_DOWN:
            strokes.append(([], []))
        strokes[-1][0].append(x[slot])
        strokes[-1][1].append(y[slot])
    return strokes


@settings(max_examples=50, deadline=None)
@given(drawings)
def test_a_network_can_read_the_drawing_back(batch: list) -> None:
    columns = DrawingBatch.from_strokes(batch)
    images = render(columns, image_of("points", 24), unmoved(columns))
    for i, image in enumerate(images):
        assert read_back(image) == columns.strokes(i)
        used = columns.point_offsets[i + 1] - columns.point_offsets[i]
        assert not image.reshape(3, -1)[:, used:].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(2, 6))
def test_a_drawing_of_too_many_points_is_thinned_evenly(lengths: list[int], side: int) -> None:
    count, slots = sum(lengths), side * side
    rank = np.arange(count, dtype=np.float32)
    batch = DrawingBatch(
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        np.array(lengths, np.uint16),
        np.array([0, count], np.int64),
        np.array([0, len(lengths)], np.int64),
    )
    # The rank of each point, in two bytes: which points stayed can be read from the image.
    image = render(batch, image_of("points", side), Points(rank % 256, rank // 256))[0].reshape(
        3, -1
    )
    used = min(count, slots)
    kept = image[0].astype(int)[:used] + 256 * image[1].astype(int)[:used]
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert kept.tolist() == [i * (count - 1) // max(1, used - 1) for i in range(used)]
    begins = np.cumsum([0, *lengths[:-1]])
    marked = {int(kept[np.searchsorted(kept, begin)]) for begin in begins}
    assert set(kept[image[2, :used] == PEN_DOWN].tolist()) == marked
    assert set(kept[image[2, :used] == PEN_ON].tolist()) == set(kept.tolist()) - marked


def test_coordinates_are_rounded_and_kept_within_a_byte() -> None:
    batch = DrawingBatch.from_strokes([[([0] * 5, [0] * 5)]])
    points = Points(
        np.float32([-3, 0.49, 0.5, 254.6, 300]), np.float32([255, 254.4, 1.5, -0.4, np.inf])
    )
    image = render(batch, image_of("points", 16), points).reshape(3, -1)
    assert image[0, :5].tolist() == [0, 0, 1, 255, 255]
    assert image[1, :5].tolist() == [255, 254, 2, 0, 255]


def test_without_points_a_drawing_is_centred() -> None:
    batch = DrawingBatch.from_strokes([[([0, 100], [0, 255])]])
    image = render(batch, image_of("points", 24)).reshape(3, -1)
    assert image[0, :2].tolist() == [78, 178]
    assert image[1, :2].tolist() == [0, 255]


@settings(max_examples=30, deadline=None)
@given(drawings, st.integers(1, 3), st.integers(24, 40))
def test_order_points_are_order_and_then_points_bit_for_bit(
    batch: list, threads: int, side_px: int
) -> None:
    columns = DrawingBatch.from_strokes(batch)
    for points in (None, unmoved(columns)):
        order, slots, both = (
            render(columns, image_of(name, side_px), points, threads=threads)
            for name in ("order", "points", "order_points")
        )
        assert np.array_equal(both, np.concatenate([order, slots], 1))


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="side_px is 1; points need 2 or more"):
        render(DrawingBatch.from_strokes([]), image_of("points", 1))
