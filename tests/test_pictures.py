"""Pictures of drawings become the strokes that were drawn, whatever they look like."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import STYLES, picture_of
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import PictureError
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.reading import strokes_of_picture
from quickdraw_core.formats.raw_drawing import RawStrokes, drawing_of_raw
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.sources.doodles.generator import generate_drawing
from quickdraw_core.store.store import Store

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


HOSTILE = {
    # Spurs on spurs: each pass of pruning makes the next ones.
    "comb": lambda y, x: (y % 8 == 0) & (x % 6 < 5) | (x == 150) | ((x % 6 == 0) & (y % 16 < 9)),
    "grid": lambda y, x: (x % 26 == 0) | (y % 26 == 0),
    "spiral": lambda y, x: (
        (np.hypot(x - 200, y - 200) + 6 * np.arctan2(y - 200, x - 200)) % 38 < 3
    ),
    "rings": lambda y, x: np.hypot(x - 200, y - 200) % 12 < 2,
    "fan": lambda y, x: (np.arctan2(y + 1, x + 1) * 120).astype(int) % 2 == 0,
    "dots": lambda y, x: (x % 7 < 3) & (y % 7 < 3),
    "noise": lambda y, x: np.random.default_rng(3).random(x.shape) < 0.3,
    "full": lambda y, x: (x > 3) & (y > 3),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_picture_made_to_be_slow_is_read_or_refused_soon(name: str) -> None:
    """Within the processor seconds that a test may take."""
    ink = HOSTILE[name](*np.indices((400, 400)))
    pixels = np.where(ink, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
    with suppress(PictureError):
        assert len(strokes_of_picture(pixels).drawing) == 1


@pytest.fixture(scope="module")
def doodles(store: Store) -> list[RawStrokes]:
    """A drawing of each word that the trained model knows."""
    rng = np.random.default_rng(4)
    drawings = [generate_drawing(word, rng, 0)[0] for word in store.label_map.words]
    return [[(np.array(x, float), np.array(y, float)) for x, y in d] for d in drawings]


@pytest.fixture(scope="module")
def guesses_in(trained: Path, doodles: list[RawStrokes]) -> Callable[..., np.ndarray]:
    """The probabilities of each word for pictures of the doodles: float32 [N, words]."""
    models = load_models([str(trained)], "none")

    def guesses(pen_px: int, extent_px: int, left: int, top: int) -> np.ndarray:
        drawings = []
        for doodle in doodles:
            canvas = Image.new("RGB", (1000, 1000), "white")
            draw = ImageDraw.Draw(canvas)
            for x, y in doodle:
                points = np.stack([x, y], 1) * (extent_px / 255) + [left, top]
                draw.line(points.ravel().tolist(), fill="black", width=pen_px, joint="curve")
            drawings.append(strokes_of_picture(np.asarray(canvas)).drawing)
        return np.exp(models.predict(DrawingBatch.concat(drawings)).numpy())

    return guesses


@pytest.mark.parametrize(
    ("pen_px", "extent_px", "left", "top"),
    [(1, 150, 10, 10), (3, 300, 600, 5), (6, 300, 20, 630), (16, 500, 300, 400), (9, 900, 50, 90)],
)
def test_guesses_do_not_change_with_the_pens_width_the_size_and_the_place(
    guesses_in: Callable[..., np.ndarray], pen_px: int, extent_px: int, left: int, top: int
) -> None:
    expected = guesses_in(4, 400, 300, 300)
    guesses = guesses_in(pen_px, extent_px, left, top)
    assert (guesses.argmax(1) == expected.argmax(1)).all()
    assert np.abs(guesses - expected).max() < 0.2
