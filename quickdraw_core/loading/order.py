"""The order of samples: a keyed permutation of 0..n-1, each value computed in O(1).

`permute(positions, n, seed, epoch)` needs no shuffle buffer and no list of 50 million indices,
so the place in the stream is just (epoch, step), on any number of ranks.

Source: format-preserving encryption by cycle walking over a balanced Feistel network (Black and
Rogaway, "Ciphers with Arbitrary Finite Domains", 2002); the round function is `mix64`.
"""

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array, UInt64Array
from quickdraw_core.loading.hashing import extended, mix
from quickdraw_core.system.compiled import compiled

_ROUNDS = 6
_MASK = 2**64 - 1


def stream_key(*parts: int) -> np.uint64:
    """A 64-bit key of non-negative integers, such as (seed, epoch): close parts, far keys."""
    key = np.uint64(0)
    for part in parts:
        key = np.uint64(extended(key, np.uint64(part & _MASK)))
    return key


def permute(positions: npt.ArrayLike, n: int, seed: int, epoch: int) -> Int64Array:
    """Samples at `positions` (int [M], each 0..n-1) of the epoch's order: int64 [M].

    Over all positions 0..n-1 every sample comes exactly once.
    """
    values = checked_positions(positions, n)
    samples = np.empty(len(values), np.int64)
    _permute(values, np.uint64(n), stream_key(seed, epoch), samples)
    return samples


def checked_positions(positions: npt.ArrayLike, n: int) -> UInt64Array:
    """`positions` as uint64 [M]. Raises `ValueError` if one is outside 0..n-1."""
    values = np.asarray(positions, np.uint64)
    if len(values) and int(values.max()) >= n:
        raise ValueError(f"position {int(values.max())} of {n} samples")
    return values


@compiled()
def _permute(values: UInt64Array, n: np.uint64, key: np.uint64, samples: Int64Array) -> None:
    for k in range(len(values)):
        samples[k] = permuted(values[k], n, key)


@compiled()
def permuted(value: np.uint64, n: np.uint64, key: np.uint64) -> np.uint64:
    """Where a value of 0..n-1 goes in the permutation of a stream key."""
    half_bits = np.uint64(1)
    while (n - np.uint64(1)) >> (half_bits + half_bits):
        half_bits += np.uint64(1)
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    # The network permutes 0..4**half_bits - 1; a value of n or above walks on along its cycle.
    # The domain is less than 4 n (or 4), so the walk is short.
    while True:
        left, right = value >> half_bits, value & mask
        for number in range(_ROUNDS):
            turned = left ^ (mix(right ^ extended(key, np.uint64(number))) & mask)
            left, right = right, turned
        value = (left << half_bits) | right
        if value < n:
            return value
