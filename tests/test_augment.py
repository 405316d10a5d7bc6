import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import drawings

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.loading.augment import augment, bent, drop_strokes
from quickdraw_core.loading.config import AugmentConfig

STRONG = AugmentConfig(
    rotation_degrees=180,
    stretch=0.5,
    shear=0.9,
    shrink=0.5,
    stroke_drop_share=0.5,
    point_noise=20,
    partial_share=0.5,
    stroke_rotation_degrees=90,
    stroke_stretch=0.5,
    stroke_shift=30,
    warp=30,
)
STILL = AugmentConfig(rotation_degrees=0, stretch=0, shear=0, shrink=0, mirror_share=0)

TRIANGLE = DrawingBatch.from_strokes([[([0, 200, 100], [0, 50, 255])]])
MANY = DrawingBatch.from_strokes(
    [[([n, stroke, 9], [stroke, 255, n]) for stroke in range(5)] for n in range(200)]
)


def drawing_points(placed: object, index: int) -> np.ndarray:
    drawings, points = placed  # type: ignore[misc]
    span = slice(drawings.point_offsets[index], drawings.point_offsets[index + 1])
    return np.stack([points.x[span], points.y[span]])


@settings(max_examples=60, deadline=None)
@given(drawings, st.integers(0, 9))
def test_augmented_drawings_stay_in_the_square_and_are_keyed(batch: list, epoch: int) -> None:
    columns = DrawingBatch.from_strokes(batch)
    positions = np.arange(len(batch), dtype=np.int64)
    found = augment(columns, STRONG, 3, epoch, positions)
    for values in found.points:
        assert values.dtype == np.float32
        assert values.min(initial=0) >= 0
        assert values.max(initial=0) <= 255
        assert len(values) == len(found.drawings.x)
    again = augment(columns, STRONG, 3, epoch, positions)
    assert (found.points.x == again.points.x).all()
    backwards = columns.take(positions[::-1])
    turned = augment(backwards, STRONG, 3, epoch, positions[::-1].copy())
    for i in range(len(batch)):
        mirror = len(batch) - 1 - i
        assert found.drawings.strokes(i) == turned.drawings.strokes(mirror)
        np.testing.assert_array_equal(drawing_points(found, i), drawing_points(turned, mirror))


@settings(max_examples=60, deadline=None)
@given(drawings, st.floats(0, 0.99), st.integers(0, 9))
def test_of_each_drawing_some_strokes_stay_in_order(batch: list, share: float, seed: int) -> None:
    columns = DrawingBatch.from_strokes(batch)
    kept = drop_strokes(columns, share, seed, 0, np.arange(len(batch)))
    assert len(kept) == len(columns)
    for i in range(len(batch)):
        strokes = kept.strokes(i)
        assert strokes
        rest = iter(columns.strokes(i))
        assert all(stroke in rest for stroke in strokes)  # a subsequence


def test_about_the_share_that_was_asked_for_is_dropped() -> None:
    kept = drop_strokes(MANY, 0.2, 0, 0, np.arange(len(MANY)))
    assert 0.75 < len(kept.stroke_lengths) / len(MANY.stroke_lengths) < 0.85
    nearly_all = drop_strokes(MANY, 0.999, 0, 0, np.arange(len(MANY)))
    assert 1 <= len(nearly_all.stroke_lengths) / len(MANY) < 1.1


def test_any_stroke_may_be_the_last_to_stay() -> None:
    kept = drop_strokes(MANY, 0.999, 0, 0, np.arange(len(MANY)))
    stayed = {tuple(kept.strokes(i)[0][0][1:2]) for i in range(len(MANY))}
    assert stayed == {(stroke,) for stroke in range(5)}


def test_augmentation_changes_with_epoch_position_and_seed() -> None:
    same = DrawingBatch.concat([TRIANGLE] * 2)
    first = augment(same, AugmentConfig(), 0, 0, np.array([0, 1]))
    assert not np.allclose(drawing_points(first, 0), drawing_points(first, 1))
    for seed, epoch in ((0, 1), (1, 0)):
        other = augment(same, AugmentConfig(), seed, epoch, np.array([0, 1]))
        assert not np.allclose(first.points.x, other.points.x)


def test_no_augmentation_moves_but_does_not_bend() -> None:
    drawings, points = augment(TRIANGLE, STILL, 0, 0, np.array([0]))
    assert drawings is TRIANGLE
    np.testing.assert_allclose(np.diff(points.x), [200, -100], atol=1e-4)
    np.testing.assert_allclose(np.diff(points.y), [50, 205], atol=1e-4)


@pytest.mark.parametrize("noise", [0.5, 4.0])
def test_noise_moves_each_point_by_itself_and_not_too_far(noise: float) -> None:
    square = DrawingBatch.from_strokes([[([60] * 50 + [160], [60] * 50 + [160])]] * 40)
    config = STILL.updated({"point_noise": noise})
    found = augment(square, config, 0, 0, np.arange(40))
    both = [np.diff(values.reshape(40, 51)[:, :50], axis=1) for values in found.points]
    for steps in both:
        assert np.abs(steps).max() <= 2 * noise
        assert np.abs(steps).max() > 1.8 * noise
        # Of two uniform numbers in ±noise: noise * sqrt(2 / 3).
        assert abs(steps.std() / (noise * np.sqrt(2 / 3)) - 1) < 0.05
    assert abs(np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1]) < 0.1


def test_of_a_partial_drawing_the_first_strokes_stay() -> None:
    kept = drop_strokes(MANY, 0, 0, 0, np.arange(len(MANY)), 0.6)
    lengths = [len(kept.strokes(i)) for i in range(len(MANY))]
    for i, length in enumerate(lengths):
        assert kept.strokes(i) == MANY.strokes(i)[:length]
    assert {*lengths} == {1, 2, 3, 4, 5}
    assert 0.5 < np.mean(np.array(lengths) < 5) < 0.7
    always = drop_strokes(MANY, 0, 0, 0, np.arange(len(MANY)), 1)
    assert max(len(always.strokes(i)) for i in range(len(MANY))) == 4
    dot = drop_strokes(TRIANGLE, 0, 0, 0, np.arange(1), 1)
    assert dot.strokes(0) == TRIANGLE.strokes(0)


def test_a_stroke_that_is_changed_by_itself_keeps_its_shape() -> None:
    config = STILL.updated(
        {"stroke_rotation_degrees": 20, "stroke_stretch": 0.3, "stroke_shift": 5}
    )
    ell = ([0, 100, 100], [0, 0, 50])
    batch = DrawingBatch.from_strokes([[ell, ell]] * 200)
    points = bent(batch, config, 0, 0, np.arange(200))
    strokes = np.stack(points).reshape(2, 200, 2, 3)
    steps = np.diff(strokes, axis=3)
    lengths = np.hypot(*steps)
    np.testing.assert_allclose(lengths[..., 0], 2 * lengths[..., 1], rtol=1e-4)
    np.testing.assert_allclose((steps[..., 0] * steps[..., 1]).sum(0), 0, atol=1e-2)
    size, turn = lengths[..., 0] / 100, np.degrees(np.arctan2(*steps[::-1, ..., 0]))
    middle = (strokes[..., 0] + strokes[..., 2]) / 2 - np.array([50, 25])[:, None, None]
    for values, limit in ((size - 1, 0.3), (turn, 20), (middle, 5)):
        assert np.abs(values).max() <= limit * 1.001
        assert np.abs(values).max() > 0.9 * limit
    assert abs(np.corrcoef(turn[:, 0], turn[:, 1])[0, 1]) < 0.2  # each by itself


def test_a_warp_is_smooth_and_not_too_far() -> None:
    grid = np.stack(np.meshgrid(np.arange(0, 256, 5), np.arange(0, 256, 5)))
    batch = DrawingBatch.from_strokes([[tuple(grid.reshape(2, -1).tolist())]] * 30)
    points = bent(batch, STILL.updated({"warp": 12}), 0, 0, np.arange(30))
    moved = np.stack(points).reshape(2, 30, *grid.shape[1:]) - grid[:, None]
    assert np.abs(moved).max() <= 12
    assert np.abs(moved).max() > 9
    for axis in (2, 3):  # two points beside each other, 5 apart
        assert np.abs(np.diff(moved, axis=axis)).max() <= 12 * 2 * np.pi / 128 * 5
    assert not np.allclose(moved[:, 0], moved[:, 1], atol=1)


def test_what_is_off_costs_nothing() -> None:
    assert not AugmentConfig().bends
    assert drop_strokes(MANY, 0, 0, 0, np.arange(len(MANY)), 0) is MANY


def test_the_affine_change_is_the_same_with_and_without_dropped_strokes() -> None:
    """Each change has random numbers of its own: one more leaves the others as they were."""
    whole = AugmentConfig(shrink=0, mirror_share=0.5)
    dropping = whole.updated({"stroke_drop_share": 0.5})
    tall = DrawingBatch.from_strokes(
        [[([0, 0], [0, 100]), ([0, 0], [0, 100]), ([0, 0], [0, 100])]] * 30
    )
    left = augment(tall, whole, 1, 1, np.arange(30))
    right = augment(tall, dropping, 1, 1, np.arange(30))
    assert len(right.drawings.x) < len(left.drawings.x)
    for i in range(30):
        a, b = drawing_points(left, i), drawing_points(right, i)
        np.testing.assert_array_equal(a[:, : b.shape[1]], b)
