"""Rows of the pack → a batch of its own, in two compiled passes without the interpreter's lock.

The first pass finds where each drawing will stand, the second copies; no array of indices is
made, and threads that gather at the same time do not wait for one another.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt8Array, UInt16Array, UInt64Array
from quickdraw_core.loading.joined import JoinedPack, TrainPack
from quickdraw_core.system.compiled import compiled


def gather(
    pack: TrainPack, rows: npt.NDArray[Any], labels: Int64Array, key_ids: UInt64Array
) -> DrawingBatch:
    """Copies the drawings at `rows` (int64 [M]) out of the pack, in their order.

    labels, key_ids: int64 and uint64 [M], filled with the drawings' own. Raises `IndexError`
    if a row is outside the pack.
    """
    rows = np.ascontiguousarray(rows, np.int64)
    if isinstance(pack, JoinedPack):
        if (rows >= len(pack.first)).any():
            return _gather_of_both(pack, rows, labels, key_ids)
        pack = pack.first
    source = pack.drawings
    point_offsets = np.empty(len(rows) + 1, np.int64)
    stroke_offsets = np.empty(len(rows) + 1, np.int64)
    bad = _place(
        rows,
        source.point_offsets,
        source.stroke_offsets,
        pack.labels,
        pack.key_ids,
        point_offsets,
        stroke_offsets,
        labels,
        key_ids,
    )
    if bad >= 0:
        raise IndexError(f"row {rows[bad]} of a pack of {len(pack)} drawings")
    taken = DrawingBatch(
        np.empty(point_offsets[-1], np.uint8),
        np.empty(point_offsets[-1], np.uint8),
        np.empty(stroke_offsets[-1], np.uint16),
        point_offsets,
        stroke_offsets,
    )
    _copy(
        rows,
        source.x,
        source.y,
        source.stroke_lengths,
        source.point_offsets,
        source.stroke_offsets,
        taken.x,
        taken.y,
        taken.stroke_lengths,
    )
    return taken


def _gather_of_both(
    pack: JoinedPack, rows: Int64Array, labels: Int64Array, key_ids: UInt64Array
) -> DrawingBatch:
    """As `gather`, of rows of which some are in the second pack."""
    is_second = rows >= len(pack.first)
    firsts, seconds = np.flatnonzero(~is_second), np.flatnonzero(is_second)
    order = np.concatenate([firsts, seconds])
    unused, ids = np.empty(len(rows), np.int64), np.empty(len(rows), np.uint64)
    cut = len(firsts)
    parts = [
        gather(pack.first, rows[firsts], unused[:cut], ids[:cut]),
        gather(pack.second, rows[seconds] - len(pack.first), unused[cut:], ids[cut:]),
    ]
    labels[:] = pack.labels[rows]
    key_ids[order] = ids
    return DrawingBatch.concat(parts).take(np.argsort(order))


@compiled()
def _place(
    rows: Int64Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    labels: UInt16Array,
    key_ids: UInt64Array,
    new_point_offsets: Int64Array,
    new_stroke_offsets: Int64Array,
    new_labels: Int64Array,
    new_key_ids: UInt64Array,
) -> int:
    """Fills what is new; returns the index of a row outside the pack, or -1."""
    points = strokes = 0
    new_point_offsets[0] = new_stroke_offsets[0] = 0
    for k in range(len(rows)):
        row = rows[k]
        if row < 0 or row >= len(labels):
            return k
        points += point_offsets[row + 1] - point_offsets[row]
        strokes += stroke_offsets[row + 1] - stroke_offsets[row]
        new_point_offsets[k + 1] = points
        new_stroke_offsets[k + 1] = strokes
        new_labels[k] = labels[row]
        new_key_ids[k] = key_ids[row]
    return -1


@compiled()
def _copy(
    rows: Int64Array,
    x: UInt8Array,
    y: UInt8Array,
    lengths: UInt16Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    new_x: UInt8Array,
    new_y: UInt8Array,
    new_lengths: UInt16Array,
) -> None:
    point = stroke = 0
    for k in range(len(rows)):
        row = rows[k]
        for source in range(point_offsets[row], point_offsets[row + 1]):
            new_x[point] = x[source]
            new_y[point] = y[source]
            point += 1
        for source in range(stroke_offsets[row], stroke_offsets[row + 1]):
            new_lengths[stroke] = lengths[source]
            stroke += 1
