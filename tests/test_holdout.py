import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.errors import ConfigError
from quickdraw_core.store.holdout import HoldoutRule, Split, choose_test_share, fold_of, mix64

REAL_LIKE = (np.arange(2**31, 2**31 + 20_000, dtype=np.uint64)) << np.uint64(21)
ids = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50)


@given(ids)
def test_mix64_is_the_published_finaliser(values: list[int]) -> None:
    def plain(z: int) -> int:
        mask = 2**64 - 1
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    assert mix64(np.array(values, np.uint64)).tolist() == [plain(value) for value in values]


@given(ids, st.floats(0, 0.5), st.floats(0, 0.4))
def test_a_side_depends_on_the_id_alone(values: list[int], test: float, validation: float) -> None:
    rule = HoldoutRule(test_share=test, validation_share=validation)
    together = rule.split(np.array(values, np.uint64))
    alone = [int(rule.split(np.array([value], np.uint64))[0]) for value in values]
    assert together.tolist() == alone


def test_shares_hold_on_ids_that_end_in_21_zero_bits() -> None:
    sides = HoldoutRule(test_share=0.2, validation_share=0.1).split(REAL_LIKE)
    shares = np.bincount(sides, minlength=3) / len(sides)
    assert shares[Split.TEST] == pytest.approx(0.2, abs=0.01)
    assert shares[Split.VALIDATION] == pytest.approx(0.1, abs=0.01)


@given(ids, st.integers(2, 64))
def test_a_fold_depends_on_the_id_alone(values: list[int], folds: int) -> None:
    together = fold_of(np.array(values, np.uint64), folds)
    assert together.tolist() == [int(fold_of(np.array([v], np.uint64), folds)[0]) for v in values]
    assert together.max() < folds


def test_folds_are_of_one_size_on_each_side_of_the_holdout() -> None:
    sides = HoldoutRule(test_share=0.3, validation_share=0.2).split(REAL_LIKE)
    for side in Split:
        shares = np.bincount(fold_of(REAL_LIKE[sides == side], 4)) / (sides == side).sum()
        assert shares == pytest.approx(np.full(4, 0.25), abs=0.02)


def test_a_larger_test_share_only_adds_test_rows() -> None:
    small = HoldoutRule(test_share=0.1, validation_share=0.1).split(REAL_LIKE) == Split.TEST
    large = HoldoutRule(test_share=0.2, validation_share=0.1).split(REAL_LIKE) == Split.TEST
    assert (large | ~small).all()


def test_the_chosen_share_gives_each_class_its_test_rows() -> None:
    wanted = 30
    classes = np.split(REAL_LIKE[:3000], 10)
    rule = HoldoutRule(test_share=0, validation_share=0)
    nth = [int(np.sort(rule.hashes(keys))[wanted - 1]) for keys in classes]
    share = choose_test_share(list(nth), maximum=0.5)
    chosen = HoldoutRule(test_share=share, validation_share=0)
    counts = [int((chosen.split(keys) == Split.TEST).sum()) for keys in classes]
    assert min(counts) >= wanted
    tighter = HoldoutRule(test_share=share - 0.002, validation_share=0)
    assert min(int((tighter.split(keys) == Split.TEST).sum()) for keys in classes) < wanted


def test_a_class_too_small_does_not_raise_the_share_for_all() -> None:
    assert choose_test_share([2**60, None, 2**63 + 2**62], maximum=0.3) == pytest.approx(0.063)
    assert choose_test_share([None], maximum=0.3) == 0.3


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        HoldoutRule.parse({"test_share": 0.6, "validation_share": 0.4})
