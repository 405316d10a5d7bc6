"""Pixels → how much of a pen each pixel shows, whatever the colours: `ink_of`.

Ink is what differs from the paper around it. A flat canvas (a screenshot) has one paper colour;
a photo's paper is estimated at each pixel, as the median of what lies around it, which follows
light and the edges of shadows, and passes over lines. Then darker and lighter than the paper are
the two polarities, of which a photo has one.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from quickdraw_core.drawing import Float32Array, UInt8Array
from quickdraw_core.formats.pictures.strokes import Mask

_FLAT_SHARE, _FLAT_LEVELS = 0.5, 6
_FLAT_PAPER_SHARE = 0.9
"""A picture is a flat canvas if so much of it, and of the paper as it is estimated in a photo, is
within so many levels of one colour.
"""

_SMALL_PX = 300
"""No photo is that small, and its paper could not be estimated."""

_PAPER_PX, _PAPER_WINDOW_PX = 200, 27
"""Of a photo's paper: the longer side that it is estimated at, and the window of the median."""

_LEAST_PHOTO = 0.05
"""Ink in a photo differs from paper by this share of its brightness at least."""


class Ink(NamedTuple):
    """How inked a picture is.

    strength: float32 [H, W], 0 for paper, up to 1 for ink; noise: its standard deviation on paper;
    is_photo: whether the paper had to be estimated.
    """

    strength: Float32Array
    noise: float
    is_photo: bool


def ink_of(pixels: UInt8Array) -> Ink:
    """How much ink each pixel of a picture shows. pixels: uint8 [H, W, 3 or 4]."""
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3]
        opaque = alpha > 127
        if (alpha < 250).any():
            if opaque.mean() < 0.5 and not _is_sheet(opaque):
                return Ink((alpha / np.float32(255)).astype(np.float32), 0.0, is_photo=False)
            colour = _common_colour(pixels[..., :3][opaque])
            share = alpha[..., None].astype(np.float32) / 255
            mixed = pixels[..., :3] * share + colour.astype(np.float32) * (1 - share)
            pixels = mixed.astype(np.uint8)
    rgb = pixels[..., :3]
    colour = _common_colour(rgb.reshape(-1, 3))
    distance = np.abs(rgb.astype(np.int16) - colour.astype(np.int16)).max(2)
    paper = _paper(rgb)
    is_near = np.abs(paper - colour).max(2) <= _FLAT_LEVELS
    is_even = is_near.mean() >= _FLAT_PAPER_SHARE or max(rgb.shape) <= _SMALL_PX
    if (distance <= _FLAT_LEVELS).mean() >= _FLAT_SHARE and is_even:
        return Ink((distance / np.float32(255)).astype(np.float32), 1.5 / 255, is_photo=False)
    return _ink_of_photo(rgb, _grown(paper, rgb))


def _is_sheet(opaque: Mask) -> bool:
    """Whether what is opaque fills most of its bounding box: a window does, lines do not."""
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    if not len(rows):
        return False
    box = opaque[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bool(box.mean() > 0.7)


def _common_colour(colours: UInt8Array) -> UInt8Array:
    """The most common of N colours, uint8 [N, 3]: of the fullest of 32³ boxes, the median."""
    boxes = (colours >> 3).astype(np.int32)
    codes = (boxes[:, 0] << 10) | (boxes[:, 1] << 5) | boxes[:, 2]
    fullest = np.bincount(codes, minlength=1 << 15).argmax()
    common: UInt8Array = np.median(colours[codes == fullest], axis=0).astype(np.uint8)
    return common


def _ink_of_photo(rgb: UInt8Array, paper: Float32Array) -> Ink:
    smooth = np.empty(rgb.shape, np.float32)
    for channel in range(3):
        ndimage.gaussian_filter(
            rgb[..., channel].astype(np.float32), 0.8, truncate=3, output=smooth[..., channel]
        )
    smooth -= paper
    # Ink takes light away, chalk adds it: as a share of what is there to take or to add.
    lighter = np.clip((smooth / np.maximum(255 - paper, 100)).max(2), 0, 1)
    smooth /= np.maximum(paper, 40)
    gray = smooth.mean(2)
    noise = 1.4826 * float(np.median(np.abs(gray - np.median(gray))))
    limit = max(_LEAST_PHOTO, 5 * noise)
    darker = np.clip(-smooth.min(2), 0, 1)
    is_dark = darker[darker > limit].sum() >= lighter[lighter > limit].sum()
    return Ink(darker if is_dark else lighter, noise, is_photo=True)


def _paper(rgb: UInt8Array) -> Float32Array:
    """The paper's colour, scaled down: float32 [h, w, 3]."""
    from PIL import Image
    from skimage.filters import rank

    window = np.ones((_PAPER_WINDOW_PX, _PAPER_WINDOW_PX), np.uint8)
    height, width = rgb.shape[:2]
    scale = min(1.0, _PAPER_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
    channels = [rank.median(small[..., c].copy(), window) for c in range(3)]
    smooth = [ndimage.gaussian_filter(channel.astype(np.float32), 1.0) for channel in channels]
    return np.stack(smooth, 2)


def _grown(paper: Float32Array, rgb: UInt8Array) -> Float32Array:
    """The paper's colour at each pixel: float32 [H, W, 3]."""
    from PIL import Image

    size = rgb.shape[1], rgb.shape[0]
    grown = [
        np.asarray(Image.fromarray(paper[..., c]).resize(size, Image.Resampling.BILINEAR))
        for c in range(3)
    ]
    return np.stack(grown, 2)
