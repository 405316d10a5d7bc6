import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import drawings

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.formats.kaggle import TRAIN_COLUMNS, Header, parse_lines
from quickdraw_core.render.encodings import ENCODINGS, find_encoding, render
from quickdraw_core.render.placement import Points, centred


def reference_gray(batch: DrawingBatch, points: Points, side: int, width: float) -> np.ndarray:
    """Ink by the definition: every pixel against every segment, float64."""
    margin = width / 2 + 0.5
    scale = (side - 1 - 2 * margin) / 255
    rows, columns = np.mgrid[:side, :side].astype(float)
    images = np.zeros((len(batch), side, side))
    for i in range(len(batch)):
        start = batch.point_offsets[i]
        for length in batch.stroke_lengths[batch.stroke_offsets[i] : batch.stroke_offsets[i + 1]]:
            xs = margin + scale * points.x[start : start + length].astype(float)
            ys = margin + scale * points.y[start : start + length].astype(float)
            start += int(length)
            for k in range(max(1, len(xs) - 1)):
                ax, ay, bx, by = (
                    xs[k],
                    ys[k],
                    xs[min(k + 1, len(xs) - 1)],
                    ys[min(k + 1, len(xs) - 1)],
                )
                length2 = (bx - ax) ** 2 + (by - ay) ** 2
                along = ((columns - ax) * (bx - ax) + (rows - ay) * (by - ay)) / (length2 or 1)
                along = np.clip(along, 0, 1)
                distance = np.hypot(
                    columns - ax - along * (bx - ax), rows - ay - along * (by - ay)
                )
                images[i] = np.maximum(images[i], np.clip(width / 2 + 0.5 - distance, 0, 1))
    return images * 255


@settings(max_examples=25, deadline=None)
@given(drawings)
def test_ink_is_the_distance_to_the_line(batch: list) -> None:
    columns = DrawingBatch.from_strokes(batch)
    drawn = render(columns, "gray", 28, line_width_px=2.0)
    expected = reference_gray(columns, centred(columns), 28, 2.0)
    assert drawn.shape == (len(batch), 1, 28, 28)
    assert np.abs(drawn[:, 0] - expected).max(initial=0) <= 1


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=10, deadline=None)
@given(batch=drawings)
def test_every_encoding_has_its_channels_and_shows_the_same_ink(name: str, batch: list) -> None:
    columns = DrawingBatch.from_strokes(batch)
    images = render(columns, name, 32)
    assert images.dtype == np.uint8
    assert images.shape == (len(batch), ENCODINGS[name].channels, 32, 32)
    gray = render(columns, "gray", 32)[:, 0]
    assert ((images[:, 0] > 0) == (gray > 0)).all()


@pytest.mark.parametrize("side_px", [24, 64, 256])
def test_nothing_is_clipped_at_the_corners(side_px: int) -> None:
    frame = DrawingBatch.from_strokes([[([0, 255, 255, 0, 0], [0, 0, 255, 255, 0])]])
    image = render(frame, "gray", side_px)[0, 0].astype(int)
    assert image.sum() == pytest.approx(image[::-1].sum())
    assert (image == image.T).all()
    assert image[0].sum() == image[-1].sum() == image[:, 0].sum() == 0 or side_px > 24


def test_a_dot_is_seen_whether_of_one_point_or_two() -> None:
    dots = DrawingBatch.from_strokes([[([100], [100])], [([100, 100], [100, 100])]])
    one, two = render(dots, "gray", 32)
    assert (one == two).all()
    assert one.max() > 100


def test_a_drawing_is_centred() -> None:
    wide = DrawingBatch.from_strokes([[([0, 255], [0, 10])]])
    points = centred(wide)
    assert points.y.tolist() == [122.5, 132.5]
    assert points.x.tolist() == [0, 255]


def test_order_tells_first_from_last() -> None:
    two = DrawingBatch.from_strokes([[([0, 255], [0, 0]), ([0, 255], [255, 255])]])
    image = render(two, "order", 64)[0].astype(int)
    top, bottom = image[:, :8].max(axis=(1, 2)), image[:, -8:].max(axis=(1, 2))
    assert top[0] == bottom[0] == 255
    assert top[1] > 2 * bottom[1] > 0
    assert top[2] > 2 * bottom[2] > 0


def test_an_unknown_encoding_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gray'"):
        find_encoding("grey")


def test_real_drawings_are_drawn_as_defined(shared_data: Path) -> None:
    lines = (shared_data / "train_simplified" / "cat.csv").read_bytes().splitlines()[:21]
    rows, _ = parse_lines(lines[1:], Header(TRAIN_COLUMNS), 2, "cat")
    batch = DrawingBatch.from_packed(rows.x, rows.y, rows.stroke_lengths)
    expected = reference_gray(batch, centred(batch), 48, 2.2)
    assert np.abs(render(batch, "gray", 48, line_width_px=2.2)[:, 0] - expected).max() <= 1


FINGERPRINT = """
import hashlib
import numpy as np
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.loading.augment import AugmentConfig, augment
from quickdraw_core.render.encodings import render
from quickdraw_core.sources.doodles.generator import generate_drawing

rng = np.random.default_rng(0)
batch = DrawingBatch.from_strokes(generate_drawing("star", rng, 0.1)[0] for _ in range(300))
batch = batch.take(np.arange(12_000) % 300)
points = augment(batch, AugmentConfig(), 0, 0, np.arange(12_000))
images = render(batch, "order", 32, points)
print(hashlib.sha256(batch.x.tobytes() + images.tobytes()).hexdigest())
"""


def test_code_just_compiled_and_code_from_the_cache_draw_the_same(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", FINGERPRINT]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbi"))
    assert first == second
