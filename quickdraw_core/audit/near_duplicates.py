"""Drawings of one word that are nearly the same: the same hand twice, a program, a copied file.

Of drawings that repeat each other one stays: whatever is listed repeats one that is not listed.

Each drawing is a vector of its picture with stroke and point order, 14 × 14 pixels in 3 channels;
two are near-duplicates if the cosine of their vectors is `SAME` or more. Comparing each with each
would take hours for a class of 150,000. Instead the vectors are hashed by random hyperplanes
(Charikar, "Similarity estimation techniques from rounding algorithms", 2002): such a pair has the
same bits in at least one of the tables with a probability of 98 %, and only those are compared.
One class is in memory at a time, 588 bytes a drawing.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from quickdraw_core.audit.suspects import NONE, Reason, Suspects, joined
from quickdraw_core.drawing import Float32Array, Int64Array, UInt8Array
from quickdraw_core.loading.gather import gather
from quickdraw_core.progress import Bar
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.store.pack import Pack, class_starts

SAME = 0.985
_IMAGE = ImageConfig(encoding="order", side_px=28)
_LENGTH = 3 * 14 * 14
_BITS, _TABLES = 14, 12
_AT_ONCE = 4_096
_BUCKET = 1_024
"""Drawings of a bucket that are compared with each other; of a larger one, neighbours in it."""
NO_PAIR = np.empty(0, [("later", np.int64), ("earlier", np.int64), ("cosine", np.float32)])
Pairs: TypeAlias = npt.NDArray[np.void]
"""Pairs of near-duplicates by their positions in the order of a class, as NO_PAIR's fields."""
_EARLIER = 8
"""Of a bucket a drawing keeps so many that it repeats, at most: the first, which likely stay."""


def near_duplicates(pack: Pack, listed: Int64Array, bar: Bar) -> Suspects:
    """Drawings that repeat another of their word, with the cosine as score.

    listed: rows that are suspects already, int64 [n], which no other drawing is left out for. Of
    each pair the one that stays is the held-out one (test, then validation), else that with the
    smaller hash of the holdout rule, whatever else the store holds.
    """
    is_listed = np.zeros(len(pack), bool)
    is_listed[listed] = True
    planes = np.random.default_rng(0).normal(size=(_LENGTH, _BITS * _TABLES)).astype(np.float32)
    ends = class_starts(pack.labels, np.arange(len(pack.label_map) + 1))
    of_classes = []
    for first, end in pairwise(ends.tolist()):
        rows = _in_order(pack, first, end)
        rows = rows[~is_listed[rows]]
        of_classes.append(_of_class(pack, rows, planes))
        bar.advance(end - first)
    return joined(of_classes)


def _in_order(pack: Pack, first: int, end: int) -> Int64Array:
    """The rows of a class, those first that stay."""
    hashes = pack.holdout.hashes(pack.key_ids[first:end])
    return np.lexsort((hashes, -pack.splits[first:end].astype(np.int64))) + first


def _of_class(pack: Pack, rows: Int64Array, planes: Float32Array) -> Suspects:
    vectors = np.empty((len(rows), _LENGTH), np.uint8)
    codes = np.empty((_TABLES, len(rows)), np.int64)
    centre = np.zeros(_LENGTH, np.float32)
    for begin in range(0, len(rows), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        vectors[part] = _vectors(pack, rows[part])
        unit = _unit(vectors[part])
        # The mean picture lies on one side of most planes; without it the hashes tell more apart.
        centre = unit.mean(0) if not begin else centre
        codes[:, part] = _codes(unit - centre, planes)
    buckets = (bucket for of_table in codes for bucket in _buckets(of_table))
    pairs = [pair for bucket in buckets if len(pair := near_pairs(vectors[bucket], bucket))]
    original, best = originals(np.concatenate([NO_PAIR, *pairs]), len(rows))
    index = np.flatnonzero(original != NONE)
    return Suspects(
        rows=rows[index],
        reasons=np.full(len(index), Reason.NEAR_DUPLICATE, np.int64),
        scores=best[index],
        own=np.full(len(index), np.nan, np.float32),
        others=np.full(len(index), NONE),
        other_rows=rows[original[index]],
    )


def _vectors(pack: Pack, rows: Int64Array) -> UInt8Array:
    """The drawings as rows of brightness: uint8 [n, 588]."""
    labels, key_ids = np.empty(len(rows), np.int64), np.empty(len(rows), np.uint64)
    images = render(gather(pack, rows, labels, key_ids), _IMAGE)
    pooled = images.reshape(len(rows), 3, 14, 2, 14, 2).mean((3, 5), dtype=np.float32)
    vectors: UInt8Array = pooled.reshape(len(rows), _LENGTH).astype(np.uint8)
    return vectors


def _unit(vectors: UInt8Array) -> Float32Array:
    """The vectors at length 1: float32 [n, 588]; of an empty picture zeros."""
    floats = vectors.astype(np.float32)
    lengths = np.sqrt((floats * floats).sum(1, keepdims=True))
    unit: Float32Array = floats / np.maximum(lengths, 1)
    return unit


def _codes(vectors: Float32Array, planes: Float32Array) -> Int64Array:
    """The hash of each vector, float32 [n, 588], in each table: int64 [tables, n]."""
    sides = vectors @ planes > 0
    weights = 1 << np.arange(_BITS)
    return np.ascontiguousarray((sides.reshape(len(vectors), _TABLES, _BITS) @ weights).T)


def _buckets(codes: Int64Array) -> Iterator[Int64Array]:
    """Positions of equal codes, ascending, two or more, `_BUCKET` at most: int64 [m]."""
    order = np.argsort(codes, kind="stable")
    ends = np.flatnonzero(np.diff(codes[order], append=-1)) + 1
    for first, end in pairwise([0, *ends.tolist()]):
        for begin in range(first, end - 1, _BUCKET):
            yield order[begin : min(begin + _BUCKET, end)]


def near_pairs(vectors: UInt8Array, positions: Int64Array) -> Pairs:
    """Near-duplicates among drawings, uint8 [n, 588], by their positions, int64 [n], ascending."""
    unit = _unit(vectors)
    cosines = unit @ unit.T
    is_near = np.tril(cosines >= SAME, -1)
    if is_near.any():
        is_near &= is_near.cumsum(1) <= _EARLIER
    later, earlier = np.nonzero(is_near)
    pairs = np.empty(len(later), NO_PAIR.dtype)
    pairs["later"], pairs["earlier"] = positions[later], positions[earlier]
    pairs["cosine"] = cosines[later, earlier]
    return pairs


def originals(pairs: Pairs, count: int) -> tuple[Int64Array, Float32Array]:
    """Of each of `count` drawings the position of the nearest one that it repeats and that repeats
    none itself, int64 [count], or NONE; and the cosine of both, float32 [count].

    So of a chain, in which each drawing is near the one before it alone, every second stays.
    """
    original, best = [NONE] * count, [0.0] * count
    # In order, so that of each earlier one it is known already whether it stays.
    for later, earlier, cosine in pairs[np.argsort(pairs["later"], kind="stable")].tolist():
        if original[earlier] == NONE and cosine > best[later]:
            original[later], best[later] = earlier, cosine
    return np.array(original, np.int64), np.array(best, np.float32)
