import gc
import hashlib
from itertools import pairwise

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import image_of

from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.config import AugmentConfig, BatchShape
from quickdraw_core.loading.gather import gather
from quickdraw_core.loading.loader import Batch, Feed, Loader, drawn_rows
from quickdraw_core.loading.order import permute, stream_key
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 3_000), st.integers(0, 2**63), st.integers(0, 100))
def test_a_permutation_permutes(n: int, seed: int, epoch: int) -> None:
    assert np.sort(permute(np.arange(n), n, seed, epoch)).tolist() == list(range(n))


@settings(deadline=None)
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


def test_the_order_of_a_seed_never_changes() -> None:
    """A run is resumed by later versions of this code: these numbers must stay."""
    found = hashlib.sha256()
    for n in (1, 2, 7, 1000, 4097, 50_000_000, 10**12):
        positions = np.arange(500) * (n // 500) if n > 500 else np.arange(n)
        for seed, epoch in ((0, 0), (5, 1), (2**64 - 1, 77)):
            found.update(permute(positions, n, seed, epoch).astype("<i8").tobytes())
    assert found.hexdigest() == "15e1beb4b5fc37af0c64a4654e283f812e38a284fa4deab0a0094931340023bd"
    assert int(stream_key(1, 2)) == 10495342783443599153
    assert int(stream_key(2**64 - 1, 5, 0xA46)) == 1919394009451298108


def loaders(pack: Pack, world_size: int, **options: object) -> list[Loader]:
    rows = pack.rows(Split.TRAIN)
    shape = BatchShape(64, 16, world_size)
    return [
        Loader(pack, rows, shape, rank, image_of("gray", 24), 5, **options)  # type: ignore[arg-type]
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
    (again,) = drawn_rows(pack, rows, image_of("gray", 24), batch_size=64)
    assert (again.images_nchw == batch.images_nchw).all()
    assert batch.labels_n.tolist() == pack.labels[rows].tolist()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((100, 64, 1), "no multiple of micro_batch_size 64"),
        ((64, 64, 2), r"1 micro-batches a .* to 2 ranks .*: --set micro_batch_size=32$"),
        ((4096, 512, 32), "8 micro-batches a .* to 32 ranks .*: --set micro_batch_size=128$"),
        ((128, 64, 6), r"2 micro-batches .*choose a multiple of 6: --set global_batch_size=…$"),
    ],
)
def test_batches_that_do_not_share_out_are_refused(
    shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchShape(*shape)


@pytest.mark.parametrize("balance", [0.0, 0.7])
@pytest.mark.parametrize(
    ("threads", "prefetch", "start", "world_size"),
    [(0, 1, 3, 1), (1, 1, 0, 1), (3, 5, 0, 2), (4, 2, 7, 4)],
)
def test_the_bytes_of_a_batch_do_not_depend_on_who_draws_it_when(
    pack: Pack, balance: float, threads: int, prefetch: int, start: int, world_size: int
) -> None:
    options = {
        "augment_config": AugmentConfig(stroke_drop_share=0.2, point_noise=3),
        "class_balance": balance,
        "end_step": 11,  # past the end of the first epoch
    }
    (alone,) = loaders(pack, 1, **options)
    assert alone.steps_an_epoch < 11
    expected = [alone.make(step, part) for step in range(11) for part in range(4)]
    feed = Feed(threads=threads, prefetch=prefetch)
    parts = 4 // world_size
    for loader in loaders(pack, world_size, start_step=start, feed=feed, **options):
        for number, batch in enumerate(loader):
            step, part = start + number // parts, number % parts
            assert_same(batch, expected[step * 4 + loader.rank * parts + part])
        assert number == (11 - start) * parts - 1


def assert_same(found: Batch, expected: Batch) -> None:
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == right.dtype
        assert left.numpy().tobytes() == right.numpy().tobytes()


def test_a_batch_stays_what_it_was_while_others_are_made(pack: Pack) -> None:
    (loader,) = loaders(pack, 1, end_step=12, feed=Feed(threads=2, prefetch=2))
    kept = list(loader)
    for number, batch in enumerate(kept):
        assert_same(batch, loader.make(*divmod(number, 4)))


def test_a_batch_has_the_documented_types(pack: Pack) -> None:
    images, labels, key_ids = next(iter(loaders(pack, 1)[0]))
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (16, 1, 24, 24))
    assert (labels.dtype, tuple(labels.shape)) == (torch.int64, (16,))
    assert (key_ids.dtype, tuple(key_ids.shape)) == (torch.uint64, (16,))


def test_the_state_is_of_what_was_handed_out_and_leads_back_there(pack: Pack) -> None:
    (loader,) = loaders(pack, 1, end_step=20, feed=Feed(threads=2, prefetch=6))
    assert loader.state_dict() == {"epoch": 0, "step": 0}
    batches = iter(loader)
    steps = loader.steps_an_epoch + 2
    for _ in range(steps * 4 + 1):
        next(batches)
    state = loader.state_dict()
    assert state == {"epoch": 1, "step": 2}  # one micro-batch of the third step is not a step
    (other,) = loaders(pack, 1, end_step=20)
    other.load_state_dict(state)
    assert other.state_dict() == state
    for number, batch in enumerate(other):
        assert_same(batch, loader.make(steps + number // 4, number % 4))
    assert number == (20 - steps) * 4 - 1
    epoch, step = divmod(20, loader.steps_an_epoch)
    assert other.state_dict() == {"epoch": epoch, "step": step}


@pytest.mark.parametrize("state", [{"epoch": 0, "step": 99}, {"epoch": -1, "step": 0}])
def test_a_state_of_another_stream_is_refused(pack: Pack, state: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"cannot start at epoch .* has \d+ steps"):
        loaders(pack, 1)[0].load_state_dict(state)


def test_points_are_augmented_as_the_picture_beside_them(pack: Pack) -> None:
    shape, rows = BatchShape(64, 64, 1), pack.rows(Split.TRAIN)
    config = AugmentConfig(stroke_drop_share=0.3, point_noise=3)
    order, points, both = (
        Loader(pack, rows, shape, 0, image_of(name, 24), 5, config).make(3, 0).images_nchw
        for name in ("order", "points", "order_points")
    )
    assert torch.equal(both, torch.cat((order, points), 1))


@pytest.mark.parametrize("encoding", ["gray", "order", "thirds", "order_points"])
def test_the_device_may_draw_what_the_processor_draws(pack: Pack, encoding: str) -> None:
    """Only how fast it comes may differ, within what `render/on_device.py` promises."""
    shape, rows = BatchShape(64, 16, 1), pack.rows(Split.TRAIN)
    processor = image_of(encoding, 24)
    here, there = (
        Loader(pack, rows, shape, 0, image, 5, AugmentConfig(), end_step=2, feed=Feed(threads))
        for image, threads in ((processor, 1), (processor.updated({"draw_on": "device"}), 2))
    )
    for left, right in zip(here, there, strict=True):
        assert right.images_nchw.dtype == torch.uint8
        assert torch.equal(left.labels_n, right.labels_n)
        assert torch.equal(left.key_ids_n, right.key_ids_n)
        difference = (left.images_nchw.int() - right.images_nchw.int()).abs()
        assert difference.max() <= 1
    again = next(iter(there))
    assert torch.equal(again.images_nchw, there.make(0, 0).images_nchw)


def test_what_is_no_picture_is_drawn_on_the_processor_alone(pack: Pack) -> None:
    shape, rows = BatchShape(64, 64, 1), pack.rows(Split.TRAIN)
    batch = Loader(pack, rows, shape, 0, image_of("points", 32), 5, AugmentConfig()).make(0, 0)
    assert batch.images_nchw.shape == (64, 3, 32, 32)
    with pytest.raises(ConfigError, match="'points' is no picture"):
        ImageConfig(encoding="points", draw_on="device")


@pytest.mark.parametrize(("option", "least"), [("threads", 0), ("prefetch", 1)])
def test_a_loader_of_fewer_threads_than_none_or_without_room_is_refused(
    option: str, least: int
) -> None:
    with pytest.raises(ConfigError, match=f"loader's {option} must be {least} or more"):
        Feed(**{option: least - 1})


def test_a_gathered_batch_equals_the_rows_of_the_pack(pack: Pack) -> None:
    rows = np.array([5, 0, len(pack) - 1, 5, 77])
    labels, key_ids = np.empty(5, np.int64), np.empty(5, np.uint64)
    found = gather(pack, rows, labels, key_ids)
    expected = pack.drawings.take(rows)
    for name in ("x", "y", "stroke_lengths", "point_offsets", "stroke_offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert labels.tolist() == pack.labels[rows].tolist()
    assert key_ids.tolist() == pack.key_ids[rows].tolist()
    assert len(gather(pack, rows[:0], labels[:0], key_ids[:0])) == 0


@pytest.mark.parametrize("row", [-1, 10**9])
def test_a_row_outside_the_pack_is_refused(pack: Pack, row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of a pack of {len(pack)}"):
        gather(pack, np.array([0, row]), np.empty(2, np.int64), np.empty(2, np.uint64))


def test_memory_does_not_grow_with_the_number_of_batches(pack: Pack) -> None:
    """1,000 batches of 9 kB: kept, they would be 9 MB; their drawings' points as much again.
    Once or twice the process may grow by what else it does.
    """
    config = AugmentConfig(stroke_drop_share=0.2)
    (loader,) = loaders(pack, 1, augment_config=config, feed=Feed(threads=2))
    batches = iter(loader)
    sizes = []
    for _ in range(4):
        for _ in range(1_000):
            next(batches)
        gc.collect()
        sizes.append(psutil.Process().memory_info().rss)
    batches.close()  # type: ignore[attr-defined]
    assert min(after - before for before, after in pairwise(sizes)) < 4 << 20
