import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import drawings

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.augment import AugmentConfig, augment
from quickdraw_core.loading.loader import Loader, Shape, drawn_rows
from quickdraw_core.loading.order import permute
from quickdraw_core.loading.prefetch import prefetched
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack


@given(st.integers(1, 3_000), st.integers(0, 2**63), st.integers(0, 100))
def test_a_permutation_permutes(n: int, seed: int, epoch: int) -> None:
    assert np.sort(permute(np.arange(n), n, seed, epoch)).tolist() == list(range(n))


@given(st.integers(2, 10**12), st.data())
def test_a_position_is_computed_alone(n: int, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9))
    together = permute(positions, n, 1, 2)
    assert together.tolist() == [int(permute([p], n, 1, 2)[0]) for p in positions]
    assert ((together >= 0) & (together < n)).all()


def test_orders_differ_and_look_like_chance() -> None:
    n = 5_000
    first, second = (permute(np.arange(n), n, 0, epoch) for epoch in (0, 1))
    assert (first == second).sum() < 10
    assert abs(np.corrcoef(np.arange(n), first)[0, 1]) < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="position 5 of 5 samples"):
        permute([5], 5, 0, 0)


@settings(max_examples=40, deadline=None)
@given(drawings, st.integers(0, 9))
def test_augmented_drawings_stay_in_the_square_and_are_keyed(batch: list, epoch: int) -> None:
    columns = DrawingBatch.from_strokes(batch)
    positions = np.arange(len(batch), dtype=np.int64)
    config = AugmentConfig(rotation_degrees=180, stretch=0.5, shear=0.9, shrink=0.5)
    points = augment(columns, config, 3, epoch, positions)
    for values in points:
        assert values.dtype == np.float32
        assert values.min(initial=0) >= 0
        assert values.max(initial=0) <= 255
    again = augment(columns, config, 3, epoch, positions)
    assert (points.x == again.x).all()
    backwards = columns.take(positions[::-1])
    turned = augment(backwards, config, 3, epoch, positions[::-1].copy())
    for i in range(len(batch)):
        start, end = columns.point_offsets[i], columns.point_offsets[i + 1]
        mirror = backwards.point_offsets[len(batch) - 1 - i]
        assert (points.x[start:end] == turned.x[mirror : mirror + end - start]).all()


def test_augmentation_changes_with_epoch_and_position() -> None:
    same = DrawingBatch.from_strokes([[([0, 200, 100], [0, 50, 255])]] * 2)
    config = AugmentConfig()
    first = augment(same, config, 0, 0, np.array([0, 1]))
    second = augment(same, config, 0, 1, np.array([0, 1]))
    assert not np.allclose(first.x[:3], first.x[3:])
    assert not np.allclose(first.x, second.x)


def test_no_augmentation_moves_but_does_not_bend() -> None:
    triangle = DrawingBatch.from_strokes([[([0, 200, 100], [0, 50, 255])]])
    still = AugmentConfig(rotation_degrees=0, stretch=0, shear=0, shrink=0, mirror_share=0)
    points = augment(triangle, still, 0, 0, np.array([0]))
    np.testing.assert_allclose(np.diff(points.x), [200, -100], atol=1e-4)
    np.testing.assert_allclose(np.diff(points.y), [50, 205], atol=1e-4)


def loaders(pack: Pack, world_size: int, **options: object) -> list[Loader]:
    rows = pack.rows(Split.TRAIN)
    shape = Shape(64, 16, world_size)
    return [
        Loader(pack, rows, shape, rank, "gray", 24, 5, **options)  # type: ignore[arg-type]
        for rank in range(world_size)
    ]


def stream(pack: Pack, world_size: int, steps: int) -> list[list[list[int]]]:
    """Key ids by step and micro-batch, in the order of the global batch."""
    ranks = [
        [batch.key_ids_n.tolist() for batch in loader]
        for loader in loaders(pack, world_size, end_step=steps)
    ]
    parts = 4 // world_size
    return [
        [batch for rank in ranks for batch in rank[step * parts : (step + 1) * parts]]
        for step in range(steps)
    ]


def test_the_stream_does_not_depend_on_the_number_of_ranks(pack: Pack) -> None:
    steps = 2 * loaders(pack, 1)[0].steps_an_epoch
    alone = stream(pack, 1, steps)
    assert stream(pack, 2, steps) == alone
    assert stream(pack, 4, steps) == alone


def test_an_epoch_repeats_no_drawing_and_holds_train_ones_alone(pack: Pack) -> None:
    steps = loaders(pack, 1)[0].steps_an_epoch
    epoch = [key for step in stream(pack, 2, steps) for batch in step for key in batch]
    assert len(epoch) == len(set(epoch)) == steps * 64
    assert set(epoch) <= set(pack.key_ids[pack.rows(Split.TRAIN)].tolist())


def test_a_loader_started_in_the_middle_goes_on_as_if_never_stopped(pack: Pack) -> None:
    config = AugmentConfig()
    (whole,) = loaders(pack, 1, end_step=9, augment_config=config)
    (rest,) = loaders(pack, 1, start_step=5, end_step=9, augment_config=config)
    for expected, found in zip(list(whole)[5 * 4 :], rest, strict=True):
        assert (expected.images_nchw == found.images_nchw).all()
        assert (expected.labels_n == found.labels_n).all()


def test_labels_and_images_belong_to_the_key_ids(pack: Pack) -> None:
    row_of = {key: row for row, key in enumerate(pack.key_ids.tolist())}
    batch = next(iter(loaders(pack, 1, end_step=1)[0]))
    rows = np.array([row_of[key] for key in batch.key_ids_n.tolist()])
    (again,) = drawn_rows(pack, rows, "gray", 24, batch_size=64)
    assert (again.images_nchw == batch.images_nchw).all()
    assert batch.labels_n.tolist() == pack.labels[rows].tolist()


@pytest.mark.parametrize(
    ("shape", "message"),
    [((100, 64, 1), "no multiple of micro_batch_size 64"), ((64, 64, 2), "cannot be shared out")],
)
def test_batches_that_do_not_share_out_are_refused(
    shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Shape(*shape)


def test_prefetching_keeps_order_and_raises_at_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("disk gone")

    found = []
    with pytest.raises(OSError, match="disk gone"):
        found.extend(prefetched(items(), 1))
    assert found == [1, 2]


def test_prefetching_stops_its_thread_when_it_is_left() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    iterator = prefetched(endless(), 2)
    assert next(iterator) == 1
    iterator.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any(t.name == "quickdraw-prefetch" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
