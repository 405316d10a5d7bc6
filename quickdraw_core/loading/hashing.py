"""Keyed chance in compiled code: a number that depends on its counter alone.

The same mix as `store.holdout.mix64`, for one value at a time, so that a kernel draws what it
needs where it needs it, without an array of random numbers.
"""

import numpy as np

from quickdraw_core.system.compiled import compiled

GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
"""2**64 over the golden ratio: steps of it fall far from one another."""


@compiled()
def mix(value: np.uint64) -> np.uint64:
    """`mix64` of one value."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58_476D_1CE4_E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D0_49BB_1331_11EB)
    return value ^ (value >> np.uint64(31))


@compiled()
def extended(key: np.uint64, part: np.uint64) -> np.uint64:
    """The stream key of one part more: `stream_key(a, b)` of `stream_key(a)` and `b`."""
    return mix(key ^ part) + GOLDEN


@compiled()
def draw_bits(counter: np.uint64, number: int) -> np.uint64:
    """64 random bits: draw `number` (from 0) of a counter."""
    return mix(counter + np.uint64(number + 1) * GOLDEN)


@compiled()
def uniform(counter: np.uint64, number: int) -> np.float32:
    """Draw `number` (from 0) of a counter, in [0, 1), a multiple of 2**-24."""
    return np.float32(draw_bits(counter, number) >> np.uint64(40)) / np.float32(1 << 24)
