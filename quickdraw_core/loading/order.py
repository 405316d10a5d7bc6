"""The order of samples: a keyed permutation of 0..n-1, each value computed in O(1).

`permute(positions, n, seed, epoch)` needs no shuffle buffer and no list of 50 million indices,
so the place in the stream is just (epoch, step), on any number of ranks.

Source: format-preserving encryption by cycle walking over a balanced Feistel network (Black and
Rogaway, "Ciphers with Arbitrary Finite Domains", 2002); the round function is `mix64`.
"""

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array
from quickdraw_core.store.holdout import UInt64Array, mix64

_ROUNDS = 6


def stream_key(*parts: int) -> np.uint64:
    """A 64-bit key of non-negative integers, such as (seed, epoch): close parts, far keys."""
    key = np.zeros(1, np.uint64)
    for part in parts:
        key = mix64(key ^ np.uint64(part & (2**64 - 1))) + np.uint64(0x9E37_79B9_7F4A_7C15)
    return np.uint64(key[0])


def permute(positions: npt.ArrayLike, n: int, seed: int, epoch: int) -> Int64Array:
    """Samples at `positions` (int [M], each 0..n-1) of the epoch's order: int64 [M].

    Over all positions 0..n-1 every sample comes exactly once.
    """
    values = np.asarray(positions, np.uint64)
    if len(values) and int(values.max()) >= n:
        raise ValueError(f"position {int(values.max())} of {n} samples")
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = [stream_key(seed, epoch, number) for number in range(_ROUNDS)]
    result = _feistel(values, half_bits, keys)
    # The network permutes 0..4**half_bits - 1; a value of n or above walks on along its cycle.
    # The domain is less than 4 n, so the walk is short.
    while len(outside := np.flatnonzero(result >= n)):
        result[outside] = _feistel(result[outside], half_bits, keys)
    return result.astype(np.int64)


def _feistel(values: UInt64Array, half_bits: int, keys: list[np.uint64]) -> UInt64Array:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (mix64(right ^ key) & mask)
    return (left << shift) | right
