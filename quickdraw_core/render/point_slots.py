"""The points of a drawing, laid out in the shape of an image.

For a network that reads strokes rather than pictures: the same loader, buffers and models' input
shape carry them, and augmentation moves them as it does what is drawn.
"""

import numpy as np

from quickdraw_core.drawing import DrawingBatch, Float32Array, Int64Array, UInt8Array, UInt16Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.render.placement import Points
from quickdraw_core.render.raster import images_for
from quickdraw_core.render.sharing import in_slices
from quickdraw_core.system.compiled import compiled

PEN_DOWN = 255
"""A stroke begins at this point."""
PEN_ON = 128
"""The stroke goes on to this point."""


def write_points(
    batch: DrawingBatch,
    points: Points,
    side_px: int,
    *,
    out: UInt8Array | None = None,
    threads: int = 1,
) -> UInt8Array:
    """Point i of a drawing in slot i of side_px² slots, row by row: uint8 [N, 3, S, S].

    Channel 0 is x and channel 1 is y, rounded and clamped to 0..255; channel 2 is the pen:
    `PEN_DOWN`, `PEN_ON`, or 0 if there is no point (x and y are 0 there too). A drawing of
    more points than slots is thinned evenly: the first and the last point stay, and if the
    beginning of a stroke is left out, the next point that stays is marked in its place.
    out, threads: as in `render`. Raises `ConfigError` for side_px under 2.
    """
    if side_px < 2:
        raise ConfigError(f"side_px is {side_px}; points need 2 or more")
    images = images_for(len(batch), 3, side_px, out)
    slots = images.reshape(len(batch), 3, side_px * side_px)

    def write_slice(first: int, last: int) -> None:
        _write(
            points.x,
            points.y,
            batch.stroke_lengths,
            batch.point_offsets[first : last + 1],
            batch.stroke_offsets[first : last + 1],
            slots[first:last],
        )

    in_slices(write_slice, batch.point_offsets, threads)
    return images


@compiled()
def _write(
    x: Float32Array,
    y: Float32Array,
    lengths: UInt16Array,
    point_offsets: Int64Array,
    stroke_offsets: Int64Array,
    slots: UInt8Array,
) -> None:
    room = slots.shape[2]
    for drawing in range(len(point_offsets) - 1):
        slots[drawing] = np.uint8(0)
        start = point_offsets[drawing]
        count = point_offsets[drawing + 1] - start
        kept = min(count, room)
        stroke, begins = stroke_offsets[drawing], np.int64(0)
        for slot in range(kept):
            point = slot if count == kept else slot * (count - 1) // (kept - 1)
            pen = PEN_ON
            while begins <= point:  # the strokes that begin after the last point kept
                pen = PEN_DOWN
                begins += np.int64(lengths[stroke])
                stroke += 1
            slots[drawing, 0, slot] = _rounded(x[start + point])
            slots[drawing, 1, slot] = _rounded(y[start + point])
            slots[drawing, 2, slot] = pen


@compiled()
def _rounded(value: np.float32) -> int:
    return int(min(np.float32(255), max(np.float32(0), value)) + np.float32(0.5))
