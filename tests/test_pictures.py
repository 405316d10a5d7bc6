"""Pictures of drawings become the strokes that were drawn, whatever they look like."""

import io

import numpy as np
import pytest
from drawn_pictures import STYLES, picture_of
from PIL import Image
from scipy.spatial import cKDTree

from quickdraw_core.errors import PictureError
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.reading import strokes_of_picture
from quickdraw_core.formats.raw_drawing import RawStrokes, drawing_of_raw

HOUSE = [
    ([20.0, 20, 200, 200, 20], [100.0, 240, 240, 100, 100]),
    ([10.0, 110, 210], [100.0, 10, 100]),
    ([90.0, 90, 130, 130], [240.0, 170, 170, 240]),
    ([40.0, 70, 70, 40, 40], [130.0, 130, 160, 160, 130]),
]


def points_of(strokes: RawStrokes) -> np.ndarray:
    """Points every unit or so along a simplified drawing, fitted to 0..255: float64 [P, 2]."""
    drawing = drawing_of_raw(strokes)
    dense = []
    for x, y in drawing.strokes(0):
        along = np.hypot(np.diff(x), np.diff(y)).cumsum()
        at = np.concatenate([[0], along])
        steps = np.arange(0, max(at[-1], 1), 1.0)
        dense.append(np.stack([np.interp(steps, at, x), np.interp(steps, at, y)], 1))
    return np.concatenate(dense)


def farthest(a: np.ndarray, b: np.ndarray) -> float:
    """How far 99 % of the points of one drawing are from the other at most, both ways."""
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    return float(max(np.quantile(there, 0.99), np.quantile(back, 0.99)))


@pytest.mark.parametrize("style", STYLES)
def test_the_strokes_of_a_picture_lie_where_they_were_drawn(style: str) -> None:
    found = strokes_of_picture(open_picture(picture_of(HOUSE, style, 1, longest_px=600)))
    # A photo is turned by up to 7 degrees, and seen from the side.
    limit = 40 if style in ("photo", "ruled") else 9
    assert farthest(points_of(HOUSE), points_of(found.strokes)) < limit


def test_a_blank_picture_shows_no_drawing() -> None:
    target = io.BytesIO()
    Image.new("RGB", (300, 200), "white").save(target, "PNG")
    with pytest.raises(PictureError, match="shows no drawing"):
        strokes_of_picture(open_picture(target.getvalue()))


def test_a_picture_may_be_a_narrow_strip() -> None:
    target = io.BytesIO()
    strip = Image.new("RGB", (20_000, 10), "white")
    strip.paste("black", (100, 4, 19_000, 7))
    strip.save(target, "JPEG")
    assert max(open_picture(target.getvalue()).shape) <= 1200


def crossed(gap: int) -> np.ndarray:
    """Slanted lines that cross: uint8 [300, 300, 3]."""
    y, x = np.indices((300, 300))
    grid = ((x + y) % gap < 1) | ((x - y) % gap < 1)
    return np.where(grid, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def test_a_picture_full_of_lines_is_refused() -> None:
    with pytest.raises(PictureError, match="too many lines"):
        strokes_of_picture(crossed(8))


def test_a_dense_drawing_is_read() -> None:
    assert len(strokes_of_picture(crossed(30)).strokes) >= 8
