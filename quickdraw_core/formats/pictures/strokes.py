"""What was understood of a picture: `PictureStrokes`."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, Float64Array, UInt8Array
from quickdraw_core.errors import InputError, PictureError

Mask = npt.NDArray[np.bool_]

Traced = tuple[Float64Array, Float64Array]
"""x and y of a stroke's points, float64 [n] each, in pixels."""


@dataclass(frozen=True)
class PictureStrokes:
    """What was understood of a picture.

    pixels: uint8 [H, W, 3 or 4], at the size that was read; ink: bool [H, W]; strokes: x and y in
    pixels of `pixels`; pen_px: the pen's width in them.
    """

    pixels: UInt8Array
    ink: Mask
    strokes: list[Traced]
    pen_px: float

    @property
    def drawing(self) -> DrawingBatch:
        """The simplified drawing, a batch of one. Raises `PictureError` if it is too long."""
        # Not above: the process that reads pictures needs no compiled code.
        from quickdraw_core.formats.raw_drawing import drawing_of_raw

        try:
            return drawing_of_raw(self.strokes)
        except InputError as error:
            raise PictureError(
                f"the picture has too many lines to be a drawing: {error}"
            ) from error

    def to_bytes(self) -> bytes:
        """Its arrays, one after another."""
        lengths = np.array([len(x) for x, _ in self.strokes], np.int64)
        xy = np.concatenate([np.empty((2, 0)), *map(np.stack, self.strokes)], axis=1)
        target = io.BytesIO()
        for array in (self.pixels, self.ink, lengths, xy, np.array(self.pen_px)):
            np.save(target, array, allow_pickle=False)
        return target.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "PictureStrokes":
        """The opposite. Runs no code, whoever wrote the bytes. Raises `ValueError`, `EOFError`."""
        source = io.BytesIO(data)
        pixels, ink, lengths, xy, pen_px = (np.load(source, allow_pickle=False) for _ in range(5))
        strokes = [(x, y) for x, y in np.split(xy, np.cumsum(lengths)[:-1], axis=1)]
        return cls(pixels, ink, strokes, float(pen_px))
