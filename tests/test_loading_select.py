from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.balance import SampleOrder, quotas
from quickdraw_core.loading.config import FoldConfig, SelectConfig
from quickdraw_core.loading.exclude import excluded_sha256
from quickdraw_core.loading.order import permute
from quickdraw_core.loading.select import exclusion_note, select_rows
from quickdraw_core.store.holdout import Split, fold_of
from quickdraw_core.store.pack import Pack
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.plan import Rows

counts_of_classes = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def order_of(counts: list[int], balance: float, seed: int = 0) -> tuple[SampleOrder, np.ndarray]:
    """The order of drawings 0..n-1 that stand by class, and their labels."""
    labels = np.repeat(np.arange(len(counts)) * 3, counts).astype(np.uint16)
    return SampleOrder(np.arange(len(labels)), labels, seed, balance), labels


@given(counts_of_classes, st.floats(0, 1))
def test_quotas_fill_the_epoch_in_the_wanted_shares(counts: list[int], balance: float) -> None:
    found = quotas(np.array(counts), balance)
    weights = np.array(counts, float) ** (1 - balance)
    exact = sum(counts) * weights / weights.sum()
    assert found.sum() == sum(counts)
    assert np.abs(found - exact).max() < 1
    assert found.min() >= 1


def test_quotas_at_both_ends() -> None:
    counts = np.array([10, 1, 100, 9])
    assert quotas(counts, 0).tolist() == counts.tolist()
    assert quotas(counts, 1).tolist() == [30, 30, 30, 30]


@settings(deadline=None)
@given(counts_of_classes, st.integers(0, 5), st.integers(0, 5))
def test_without_balance_the_order_is_the_plain_permutation(
    counts: list[int], seed: int, epoch: int
) -> None:
    order, labels = order_of(counts, 0, seed)
    positions = np.arange(len(labels))
    expected = permute(positions, len(labels), seed, epoch)
    np.testing.assert_array_equal(order.rows_at(epoch, positions), expected)


@settings(deadline=None)
@given(counts_of_classes, st.floats(0.01, 1), st.integers(0, 5))
def test_an_epoch_holds_each_class_by_its_quota_and_each_drawing_equally_often(
    counts: list[int], balance: float, epoch: int
) -> None:
    order, labels = order_of(counts, balance)
    rows = order.rows_at(epoch, np.arange(len(labels)))
    wanted = quotas(np.array(counts), balance)
    start = 0
    for count, quota in zip(counts, wanted, strict=True):
        times = np.bincount(rows, minlength=len(labels))[start : start + count]
        assert times.sum() == quota
        if quota >= count:
            assert times.min() == quota // count
            assert times.max() == -(-quota // count)
        start += count


def test_over_the_epochs_a_rarer_class_shows_all_its_drawings_equally_often() -> None:
    order, _ = order_of([90, 5, 5], 1)
    positions = np.arange(100)
    for epochs in (3, 6, 27):  # 33 or 34 of the 90 an epoch
        rows = np.concatenate([order.rows_at(epoch, positions) for epoch in range(epochs)])
        times = np.bincount(rows[rows < 90], minlength=90)
        assert times.max() - times.min() <= 1


@settings(deadline=None)
@given(counts_of_classes, st.floats(0, 1), st.data())
def test_a_position_is_computed_alone(
    counts: list[int], balance: float, data: st.DataObject
) -> None:
    order, labels = order_of(counts, balance)
    place = st.integers(0, len(labels) - 1)
    positions = data.draw(st.lists(place, min_size=1, max_size=9))
    together = order.rows_at(3, positions).tolist()
    assert together == [int(order.rows_at(3, [p])[0]) for p in positions]


def test_balanced_orders_differ_by_epoch_and_seed_and_mix_the_classes() -> None:
    order, labels = order_of([400, 40, 4], 1)
    positions = np.arange(444)
    rows = order.rows_at(0, positions)
    for other in (
        order.rows_at(1, positions),
        order_of([400, 40, 4], 1, 1)[0].rows_at(0, positions),
    ):
        assert (rows == other).mean() < 0.2
    halves = [np.bincount(labels[half], minlength=7)[[0, 3, 6]] for half in np.split(rows, 2)]
    assert np.abs(halves[0] - halves[1]).max() < 60  # 74 each at best; 148 and 0 unmixed


def test_rows_that_do_not_stand_by_class_are_balanced_too() -> None:
    labels = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0, 0], np.uint16)
    order = SampleOrder(np.array([9, 0, 3, 4, 8]), labels, 0, 1)
    rows = order.rows_at(0, np.arange(5))
    assert sorted(np.bincount(labels[rows]).tolist()) == [2, 3]
    assert set(rows.tolist()) <= {9, 0, 3, 4, 8}


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="position 5 of 5 samples"):
        order_of([3, 2], 1)[0].rows_at(0, [5])


def test_the_default_selects_the_whole_split(pack: Pack) -> None:
    for split in Split:
        rows = select_rows(pack, split, SelectConfig())
        np.testing.assert_array_equal(rows, pack.rows(split))
        assert rows.dtype == np.int64


def test_words_are_taken_with_spaces_or_underscores(pack: Pack) -> None:
    chosen = [
        select_rows(pack, Split.TRAIN, SelectConfig(classes=words))
        for words in (("sun", "ice cream"), ("ice_cream", "sun"))
    ]
    np.testing.assert_array_equal(*chosen)
    labels = {pack.label_map.index["sun"], pack.label_map.index["ice cream"]}
    assert set(pack.labels[chosen[0]].tolist()) == labels


def test_an_unknown_word_is_refused_with_the_nearest(pack: Pack) -> None:
    with pytest.raises(ConfigError, match="unknown class 'evelope': did you mean 'envelope'"):
        select_rows(pack, Split.TRAIN, SelectConfig(classes=("sun", "evelope")))


def test_recognised_ones_alone(pack: Pack) -> None:
    rows = select_rows(pack, Split.TRAIN, SelectConfig(recognized_only=True))
    assert 0 < len(rows) < len(pack.rows(Split.TRAIN))
    assert (pack.recognized[rows] == 1).all()


def test_a_larger_number_a_class_contains_the_smaller(pack: Pack) -> None:
    sets = [
        set(select_rows(pack, Split.TRAIN, SelectConfig(per_class=n)).tolist())
        for n in (1, 10, 40, 10**6)
    ]
    for smaller, larger in pairwise(sets):
        assert smaller < larger
    assert np.bincount(pack.labels[sorted(sets[1])]).tolist() == [10] * 4
    assert sets[-1] == set(pack.rows(Split.TRAIN).tolist())
    chosen, hashes = sorted(sets[1]), pack.holdout.hashes(pack.key_ids)
    for label in range(4):
        inside = [row for row in chosen if pack.labels[row] == label]
        outside = set(pack.rows(Split.TRAIN, label).tolist()) - set(inside)
        assert max(hashes[inside]) < min(hashes[sorted(outside)])


def test_a_selection_that_leaves_nothing_is_refused(pack: Pack) -> None:
    none_known = Pack(**{**vars(pack), "recognized": np.full(len(pack), 2, np.uint8)})
    with pytest.raises(ConfigError, match=r"no train drawing .* recognized_only=True"):
        select_rows(none_known, Split.TRAIN, SelectConfig(recognized_only=True))


def judged_on(pack: Pack, most: int | None, **select: object) -> set[int]:
    """The key_ids of the drawings that a training is validated on."""
    values = {"validation": {"per_class": most}, "select": select, "global_batch_size": 1}
    rows = Rows.of(
        TrainConfig.parse(values | {"micro_batch_size": 1, "hardware": {"ranks": 1}}), pack
    )
    return set(pack.key_ids[rows.validation].tolist())


def test_a_training_is_validated_on_a_number_a_class_by_the_holdout_s_hashes(pack: Pack) -> None:
    everything = judged_on(pack, None)
    rows = pack.rows(Split.VALIDATION)
    assert everything == set(pack.key_ids[rows].tolist())
    assert judged_on(pack, 10**6) == everything
    few, more = judged_on(pack, 2), judged_on(pack, 3)
    assert few < more < everything
    assert few == judged_on(pack, 2, per_class=5, recognized_only=True)
    for label in range(len(pack.label_map)):
        ids = pack.key_ids[pack.rows(Split.VALIDATION, label)]
        in_order = ids[np.argsort(pack.holdout.hashes(ids))]
        assert set(in_order[:2].tolist()) <= few
        # A drawing of a larger hash that comes to the store later changes nothing.
        assert not few & set(in_order[2:].tolist())


def mask_of(path: Path, key_ids: list[int], **more: object) -> Path:
    """A file of drawings to exclude."""
    pq.write_table(pa.table({"key_id": pa.array(key_ids, pa.uint64()), **more}), path)
    return path


def test_excluded_drawings_are_not_trained_on_and_held_out_ones_stay(
    pack: Pack, tmp_path: Path
) -> None:
    out = {split: pack.key_ids[pack.rows(split)[:7]].tolist() for split in Split}
    mask = mask_of(tmp_path / "mask.parquet", [key for some in out.values() for key in some])
    select = SelectConfig(exclude=mask)
    kept = pack.key_ids[select_rows(pack, Split.TRAIN, select)]
    assert len(kept) == len(pack.rows(Split.TRAIN)) - 7
    assert not set(kept.tolist()) & set(out[Split.TRAIN])
    for split in (Split.VALIDATION, Split.TEST):
        np.testing.assert_array_equal(select_rows(pack, split, select), pack.rows(split))
    # Others take the places of those that are left out.
    few = select_rows(pack, Split.TRAIN, SelectConfig(exclude=mask, per_class=10))
    assert np.bincount(pack.labels[few]).tolist() == [10] * 4


def test_a_file_that_is_not_all_of_the_training_is_said_to_be_so(
    pack: Pack, tmp_path: Path
) -> None:
    held_out = pack.key_ids[pack.rows(Split.TEST)[:3]].tolist()
    trained = pack.key_ids[pack.rows(Split.TRAIN)[:4]].tolist()
    for key_ids, note in (
        (held_out, "0 of 3 drawings"),
        ([*trained, *held_out, 1], "4 of 8 drawings"),
        (trained, None),
    ):
        select = SelectConfig(exclude=mask_of(tmp_path / "mask.parquet", key_ids))
        left_out = len(pack.rows(Split.TRAIN)) - len(select_rows(pack, Split.TRAIN, select))
        assert left_out == len(set(key_ids) & set(trained))
        said = exclusion_note(pack, select)
        assert said is None if note is None else str(said).startswith(note)
    # Another word's: nothing to leave out, but the file is this store's.
    first = pack.label_map.words[pack.labels[pack.rows(Split.TRAIN)[0]]]
    others = tuple(word for word in pack.label_map.words if word != first)
    select = SelectConfig(exclude=mask_of(tmp_path / "mask.parquet", trained), classes=others)
    assert len(select_rows(pack, Split.TRAIN, select))
    assert "0 of 4 drawings" in str(exclusion_note(pack, select))


def test_a_training_is_another_one_by_what_the_file_excludes_not_by_its_name(
    tmp_path: Path,
) -> None:
    def identity(**select: object) -> str:
        return TrainConfig.parse({"select": select}).identity("store", "code")

    one = mask_of(tmp_path / "one.parquet", [1, 2, 3])
    same = mask_of(tmp_path / "same.parquet", [1, 2, 3])
    assert identity() != identity(exclude=one) == identity(exclude=same)
    assert identity(exclude=one) != identity(exclude=mask_of(tmp_path / "other.parquet", [1, 2]))
    recorded = excluded_sha256(SelectConfig(exclude=one))
    before = identity(exclude=one)
    one.unlink()
    assert identity(exclude=one, exclude_sha256=recorded) == before
    with pytest.raises(ConfigError, match=r"cannot read .*one.parquet: No such file"):
        identity(exclude=one)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no parquet", "cannot read the drawings to exclude"),
        ({"id": [1]}, "it has no column key_id, but id"),
        ({"key_id": ["1"]}, "must hold whole numbers"),
        ({"key_id": [1, None]}, "with 1 nulls"),
        ({"key_id": [-1]}, "cannot read the drawings to exclude"),
        ({"key_id": [1]}, "none of the 1 drawings .* give the file of an audit of this store"),
    ],
)
def test_a_file_that_excludes_nothing_is_refused(
    content: bytes | dict[str, list[object]], message: str, pack: Pack, tmp_path: Path
) -> None:
    path = tmp_path / "mask.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(pa.table(content), path)
    with pytest.raises(ConfigError, match=message):
        select_rows(pack, Split.TRAIN, SelectConfig(exclude=path))
    with pytest.raises(ConfigError, match=r"is not the file that select\.exclude_sha256 names"):
        select_rows(pack, Split.TRAIN, SelectConfig(exclude=path, exclude_sha256="0" * 64))


def test_each_drawing_is_left_out_with_one_fold(pack: Pack) -> None:
    for split in (Split.TRAIN, Split.VALIDATION):
        left_out = []
        for fold in range(3):
            select = SelectConfig(fold=FoldConfig(of=3, left_out=fold))
            rows = select_rows(pack, split, select)
            left_out += sorted({*pack.rows(split).tolist()} - {*rows.tolist()})
        assert sorted(left_out) == pack.rows(split).tolist()
    values = {"fold": {"of": 3, "left_out": 0}}
    ids = np.array(sorted(judged_on(pack, None, **values)), np.uint64)
    assert (fold_of(ids, 3) != 0).all()
    with pytest.raises(ConfigError, match="fold 3 of 3; they are numbered from 0"):
        SelectConfig.parse({"fold": {"of": 3, "left_out": 3}})


@pytest.mark.parametrize("digest", ["exclude_sha256", "also_fingerprint"])
def test_a_digest_of_nothing_is_refused(digest: str) -> None:
    with pytest.raises(ConfigError, match=rf"select\.{digest} is given without select\."):
        SelectConfig.parse({digest: "0" * 64})
