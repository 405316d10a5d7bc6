"""A picture → the strokes of the drawing in it: `strokes_of_picture`."""

import numpy as np
from scipy import ndimage

from quickdraw_core.drawing import Float32Array, UInt8Array
from quickdraw_core.errors import PictureError
from quickdraw_core.formats.pictures.ink import Ink, ink_of
from quickdraw_core.formats.pictures.ruling import closed, without_ruling
from quickdraw_core.formats.pictures.skeleton import skeleton_of
from quickdraw_core.formats.pictures.steps import without_steps
from quickdraw_core.formats.pictures.strokes import Mask, PictureStrokes
from quickdraw_core.formats.pictures.tracing import trace

_TRACED_PX = 400
"""The longer side of the drawing where it is traced; a thinner pen is not made thinner."""

NO_INK = (
    "the picture shows no drawing: nothing stands out from its background; draw with more "
    "contrast, or crop the picture to the drawing"
)


def strokes_of_picture(pixels: UInt8Array) -> PictureStrokes:
    """The strokes in a picture, uint8 [H, W, 3 or 4], as `open_picture` gives it.

    Raises `PictureError` if it shows no drawing.
    """
    shades = ink_of(pixels)
    ink = _mask_of(shades)
    if shades.is_photo:
        ink = without_steps(ink, pixels[..., :3])
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        raise PictureError(NO_INK)
    top, left = int(rows[0]), int(columns[0])
    box = ink[top : rows[-1] + 1, left : columns[-1] + 1]
    scaled, scale = _scaled(box)
    skeleton = skeleton_of(scaled)
    strokes = [((x - 0.5) / scale + left, (y - 0.5) / scale + top) for x, y in trace(skeleton)]
    return PictureStrokes(pixels, ink, strokes, skeleton.pen_px / scale)


def _scaled(box: Mask) -> tuple[Mask, float]:
    """The mask scaled so that its longer side is `_TRACED_PX`, and by how much."""
    from PIL import Image

    scale = _TRACED_PX / max(box.shape)
    if 0.8 < scale < 1.25:
        return box, 1.0
    size = max(1, round(box.shape[1] * scale)), max(1, round(box.shape[0] * scale))
    values = Image.fromarray(box.astype(np.float32))
    grown = np.asarray(values.resize(size, Image.Resampling.BILINEAR))
    return grown > (0.5 if scale > 1 else 0.35), scale


def _mask_of(ink: Ink) -> Mask:
    """Where there is ink, without the paper's lines and without specks."""
    from skimage.filters import apply_hysteresis_threshold

    strength = ink.strength
    ruling = without_ruling(strength, ink.noise)
    level = _ink_level(strength if ruling is None else ruling.strength, ink.noise)
    if ruling is not None and (level is None or (not ink.is_photo and level < 1.2 * ruling.level)):
        ruling, level = None, _ink_level(strength, ink.noise)  # the lines are the drawing
    if level is None:
        raise PictureError(NO_INK)
    high = max(0.5 * level, 5 * ink.noise)
    low = min(high, max(0.35 * level, 3.5 * ink.noise))
    values = strength if ruling is None else ruling.strength
    mask: Mask = apply_hysteresis_threshold(values, low, high)
    if ruling is not None:
        mask = closed(mask, ruling)
    return _without_specks(mask)


def _ink_level(strength: Float32Array, noise: float) -> float | None:
    """How strong full ink is: a high quantile of what stands out from the noise."""
    inked = strength[strength > max(0.04, 5 * noise)]
    if len(inked) < 4:
        return None
    return float(np.quantile(inked, 0.8))


def _without_specks(mask: Mask) -> Mask:
    """Without pieces of ink that are far smaller than the pen's dot."""
    labels, count = ndimage.label(mask, np.ones((3, 3), bool))
    if count <= 1:
        return mask
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    depth = ndimage.distance_transform_edt(mask)
    pen = 2 * float(np.quantile(depth[mask], 0.9))
    keep = areas >= max(2.0, 0.35 * pen * pen)
    kept: Mask = keep[labels]
    return kept
