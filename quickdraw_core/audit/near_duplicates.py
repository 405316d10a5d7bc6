"""Drawings of one word that are nearly the same: the same hand twice, a program, a copied file.

Each drawing is a vector of its picture with stroke and point order, 14 × 14 pixels in 3 channels;
two are near-duplicates if the cosine of their vectors is `SAME` or more. Comparing each with each
would take hours for a class of 150,000. Instead the vectors are hashed by random hyperplanes
(Charikar, "Similarity estimation techniques from rounding algorithms", 2002): such a pair has the
same bits in at least one of the tables with a probability of 98 %, and only those are compared.
One class is in memory at a time, 588 bytes a drawing.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from quickdraw_core.audit.suspects import NONE, Reason, Suspects, joined
from quickdraw_core.drawing import Float32Array, Int64Array, UInt8Array
from quickdraw_core.loading.gather import gather
from quickdraw_core.progress import Bar
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.store.pack import Pack

SAME = 0.985
_IMAGE = ImageConfig(encoding="order", side_px=28)
_LENGTH = 3 * 14 * 14
_BITS, _TABLES = 14, 12
_AT_ONCE = 4_096
_BUCKET = 1_024
"""Drawings of a bucket that are compared with each other; of a larger one, neighbours in it."""


def near_duplicates(pack: Pack, bar: Bar) -> Suspects:
    """Drawings that repeat another of their word, with the cosine as score.

    Of each pair the one that stays is the held-out one (test, then validation), else that with the
    smaller hash of the holdout rule, whatever else the store holds.
    """
    planes = np.random.default_rng(0).normal(size=(_LENGTH, _BITS * _TABLES)).astype(np.float32)
    ends = np.searchsorted(pack.labels, np.arange(len(pack.label_map) + 1))
    found = []
    for first, end in pairwise(ends.tolist()):
        rows = _in_order(pack, first, end)
        found.append(_of_class(pack, rows, planes))
        bar.advance(len(rows))
    return joined(found)


def _in_order(pack: Pack, first: int, end: int) -> Int64Array:
    """The rows of a class, those first that rather stay."""
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
    best = np.zeros(len(rows), np.float32)
    original = np.full(len(rows), NONE)
    for of_table in codes:
        for bucket in _buckets(of_table):
            _compare(vectors, bucket, best, original)
    index = np.flatnonzero(best >= SAME)
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


def _compare(
    vectors: UInt8Array,
    bucket: Int64Array,
    best: Float32Array,
    original: npt.NDArray[np.int64],
) -> None:
    """Notes for each drawing of a bucket the nearest of those before it."""
    unit = _unit(vectors[bucket])
    cosines = np.tril(unit @ unit.T, -1)
    nearest = cosines.argmax(1)
    highest = cosines[np.arange(len(bucket)), nearest]
    better = highest > best[bucket]
    best[bucket[better]] = highest[better]
    original[bucket[better]] = bucket[nearest[better]]
