from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from render_reference import real_drawings
from strategies import drawings
from trainings import image_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.render import on_device
from quickdraw_core.render.encodings import ENCODINGS, render
from quickdraw_core.render.on_device import draw_on_device
from quickdraw_core.render.placement import Points, centred

CPU = torch.device("cpu")
PICTURES = [name for name, row in ENCODINGS.items() if row.has_picture]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("side_px", [28, 64, 128])
def test_real_drawings_look_as_those_of_the_processor(
    shared_data: Path, name: str, side_px: int
) -> None:
    batch = real_drawings(shared_data, ["cat", "snowman", "The Eiffel Tower", "map"], 15)
    points = centred(batch)
    drawn = draw_on_device(batch, points, image_of(name, side_px), CPU)
    assert drawn.dtype == torch.uint8
    assert drawn.shape == (60, ENCODINGS[name].channels, side_px, side_px)
    difference = np.abs(drawn.numpy().astype(int) - render(batch, image_of(name, side_px), points))
    assert difference.max() <= 1
    assert difference.mean() < 0.001


@pytest.mark.parametrize("side_px", [24, 256])
@pytest.mark.parametrize("width", [0.7, 5.0, None])
def test_any_size_and_width_within_the_same_tolerance(side_px: int, width: float | None) -> None:
    rng = np.random.default_rng(0)
    batch = DrawingBatch.from_strokes(
        [rng.integers(0, 256, (2, rng.integers(1, 6))).tolist() for _ in range(3)]
        for _ in range(12)
    )
    x, y = rng.uniform(-100, 400, (2, len(batch.x))).astype(np.float32)  # some leave the image
    for points in (centred(batch), Points(x, y)):
        drawn = draw_on_device(batch, points, image_of("order", side_px), CPU, width).numpy()
        expected = render(batch, image_of("order", side_px), points, width)
        assert np.abs(drawn.astype(int) - expected).max() <= 1


@settings(max_examples=25, deadline=None)
@given(drawings)
def test_dots_and_short_strokes_too(batch: list) -> None:
    columns = DrawingBatch.from_strokes([*batch, [], [([], []), ([9], [9])]])
    points = centred(columns)
    drawn = draw_on_device(columns, points, image_of("gray", 24), CPU).numpy()
    assert np.abs(drawn.astype(int) - render(columns, image_of("gray", 24), points)).max() <= 1


def test_a_batch_of_nothing() -> None:
    for batch in (DrawingBatch.from_strokes([]), DrawingBatch.from_strokes([[], []])):
        drawn = draw_on_device(batch, centred(batch), image_of("thirds", 32), CPU)
        assert drawn.shape == (len(batch), 3, 32, 32)
        assert not drawn.any()


def test_the_work_in_one_go_does_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    batch = DrawingBatch.from_strokes([rng.integers(0, 256, (2, 20)).tolist()] for _ in range(20))
    points = centred(batch)
    whole = draw_on_device(batch, points, image_of("order", 32), CPU)
    assert torch.equal(whole, draw_on_device(batch, points, image_of("order", 32), CPU))
    monkeypatch.setattr(on_device, "WORK_LIMIT", 1000)
    assert torch.equal(whole, draw_on_device(batch, points, image_of("order", 32), CPU))


def test_channels_of_points_are_the_processor_s() -> None:
    rng = np.random.default_rng(0)
    batch = DrawingBatch.from_strokes([rng.integers(0, 256, (2, 700)).tolist()] for _ in range(3))
    points = centred(batch)
    drawn = draw_on_device(batch, points, image_of("order_points", 24), CPU).numpy()
    assert np.array_equal(drawn[:, 3:], render(batch, image_of("points", 24), points))


def test_points_are_no_picture() -> None:
    batch = DrawingBatch.from_strokes([[([1], [1])]])
    with pytest.raises(ConfigError, match="'points' is no picture"):
        draw_on_device(batch, centred(batch), image_of("points", 32), CPU)
