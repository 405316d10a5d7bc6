"""Edges of paper and of shadows, taken out of the ink of a photo: `without_steps`.

A pen's line has the same paper on both sides. Where a sheet ends on a desk, or a shadow has a
sharp edge, one side is darker than the other: a step. A piece of ink that mostly lies on a step
is one.
"""

import numpy as np
from scipy import ndimage

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.formats.pictures.strokes import Mask

_SIDE_PX = 200
"""The longer side at which steps are searched."""

_AROUND_PX = 15
_DARKER = 0.78
"""Of the paper within so many pixels, a side of a step is darker than this share of the other."""

_SHARE = 0.6
"""Of a piece of ink that lies on a step, for it to be one."""


def without_steps(mask: Mask, rgb: UInt8Array) -> Mask:
    """The ink, bool [H, W], without pieces that are steps of the picture, uint8 [H, W, 3]."""
    from PIL import Image

    labels, count = ndimage.label(mask, np.ones((3, 3), bool))
    if not count:
        return mask
    height, width = mask.shape
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    gray = Image.fromarray(rgb).convert("L").resize(size, Image.Resampling.BOX)
    light = ndimage.median_filter(np.asarray(gray, np.float32), 3)
    inked = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)
    paper = ~ndimage.binary_dilation(np.asarray(inked) > 0.02)
    window = (_AROUND_PX, _AROUND_PX)
    brightest = ndimage.maximum_filter(np.where(paper, light, 0), window)
    darkest = ndimage.minimum_filter(np.where(paper, light, 1000), window)
    is_step = darkest < _DARKER * brightest
    rows = np.minimum((np.arange(height) * scale).astype(int), size[1] - 1)
    columns = np.minimum((np.arange(width) * scale).astype(int), size[0] - 1)
    y, x = np.nonzero(mask)
    pieces = labels[y, x]
    on_step = np.bincount(pieces, is_step[rows[y], columns[x]], minlength=count + 1)
    is_stroke = on_step < _SHARE * np.bincount(pieces, minlength=count + 1)
    kept: Mask = is_stroke[labels] & mask
    return kept if kept.any() else mask
