"""Which drawings are held out: a pure function of the `key_id`.

A row's side depends only on its id, the salt and the shares. So it never changes when the store
grows, and every part of the system agrees without a list of rows.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from quickdraw_core.config import Config
from quickdraw_core.drawing import UInt64Array

DEFAULT_SALT = 0x51D2_A7C0_9E37_79B9
FOLD_SALT = 0x0A0D_17F0_1D5E_ED5A
"""Another one, so that each fold has its share of train, validation and test."""
_TWO_64 = 1 << 64


class Split(IntEnum):
    """The three sides; the numbers are those of the pack's `split` array."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


def mix64(values: UInt64Array) -> UInt64Array:
    """A bijective full-avalanche mix of uint64 [N]: each input bit flips each output bit half
    the time. Needed because real ids end in 21 zero bits.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014; Stafford's variant 13).
    """
    z = values.astype(np.uint64, copy=True)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


class HoldoutRule(Config):
    """`u = mix64(key_id ^ salt) / 2**64`; `u < test_share` is test, the next share validation."""

    salt: int = Field(DEFAULT_SALT, ge=0, lt=_TWO_64, description="mixed into every key_id")
    test_share: float = Field(ge=0, le=1, description="share of all drawings held out as test")
    validation_share: float = Field(ge=0, le=1, description="share held out as validation")

    @model_validator(mode="after")
    def _leaves_something(self) -> "HoldoutRule":
        if self.test_share + self.validation_share >= 1:
            raise ValueError("the test and validation shares leave nothing to train on")
        return self

    def hashes(self, key_ids: UInt64Array) -> UInt64Array:
        """`u * 2**64` of each id, exact: uint64 [N]."""
        return mix64(np.asarray(key_ids, np.uint64) ^ np.uint64(self.salt))

    def split(self, key_ids: UInt64Array) -> npt.NDArray[np.uint8]:
        """The `Split` of each id, uint8 [N]."""
        hashes = self.hashes(key_ids)
        sides = np.full(len(hashes), Split.TRAIN, np.uint8)
        sides[hashes < _threshold(self.test_share + self.validation_share)] = Split.VALIDATION
        sides[hashes < _threshold(self.test_share)] = Split.TEST
        return sides


def fold_of(key_ids: UInt64Array, folds: int) -> npt.NDArray[np.uint8]:
    """The fold of each id, `floor(u * folds)` of a `u` as the holdout's: uint8 [N], from 0.

    folds: 64 at most. A drawing's fold depends on its id alone, not on what else the store holds.
    """
    hashes = mix64(np.asarray(key_ids, np.uint64) ^ np.uint64(FOLD_SALT))
    # Of the upper half of the bits, so that the product fits into 64.
    folded = ((hashes >> np.uint64(32)) * np.uint64(folds)) >> np.uint64(32)
    return folded.astype(np.uint8)


def _threshold(share: float) -> np.uint64:
    return np.uint64(min(int(share * _TWO_64), _TWO_64 - 1))


def choose_test_share(nth_smallest: list[int | None], maximum: float) -> float:
    """The smallest test share, in steps of 0.001, that gives every class its test rows.

    nth_smallest: for each class the n-th smallest hash of its rows, n being the test rows wanted;
    None if the class has fewer rows. A class that needs a share above `maximum` does not raise
    the share for all others; if all classes do, the share is `maximum`.
    """
    reachable = [h / _TWO_64 for h in nth_smallest if h is not None and h < maximum * _TWO_64]
    if not reachable:
        return maximum
    return min(maximum, (int(max(reachable) * 1000) + 1) / 1000)
