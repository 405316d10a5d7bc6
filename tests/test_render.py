import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from forkserver import real_python
from hypothesis import given, settings
from hypothesis import strategies as st
from render_reference import full_ink, real_drawings, reference_ink
from strategies import drawings
from trainings import image_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.render.encodings import ENCODINGS, ImageConfig, render
from quickdraw_core.render.placement import Points, centred
from quickdraw_core.render.raster import LINE_WIDTH_SHARE, draw
from quickdraw_core.render.sharing import in_slices

PICTURES = [name for name, row in ENCODINGS.items() if row.holds == "picture"]
INK_CHANNEL = {"gray": 0, "order": 0, "thirds": 2}
"""Where each picture shows all of the ink at full brightness."""


def random_batch(count: int = 60, seed: int = 0) -> DrawingBatch:
    rng = np.random.default_rng(seed)
    return DrawingBatch.from_strokes(
        [rng.integers(0, 256, (2, rng.integers(1, 9))).tolist() for _ in range(rng.integers(1, 7))]
        for _ in range(count)
    )


@settings(max_examples=40, deadline=None)
@given(drawings, st.sampled_from([16, 24, 28, 45]), st.floats(0.3, 8))
def test_ink_is_the_distance_to_the_line(batch: list, side_px: int, width: float) -> None:
    columns = DrawingBatch.from_strokes(batch)
    drawn = render(columns, image_of("gray", side_px), line_width_px=width)
    expected = reference_ink(columns, centred(columns), full_ink(columns), side_px, width)
    assert drawn.shape == (len(batch), 1, side_px, side_px)
    assert np.abs(drawn - expected).max(initial=0) <= 1


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("side_px", [24, 64, 256])
def test_every_picture_is_its_values_times_the_ink(name: str, side_px: int) -> None:
    batch = random_batch(8)
    make = ENCODINGS[name].values
    values = make(batch) if make else full_ink(batch)
    points = centred(batch)
    width = side_px * LINE_WIDTH_SHARE
    expected = reference_ink(batch, points, values, side_px, width)
    assert np.abs(render(batch, image_of(name, side_px)) - expected).max() <= 1


@pytest.mark.parametrize("side_px", [28, 64, 128])
def test_real_drawings_are_drawn_as_defined(shared_data: Path, side_px: int) -> None:
    batch = real_drawings(shared_data, ["cat", "snowman", "The Eiffel Tower", "map"], 8)
    width = side_px * LINE_WIDTH_SHARE
    expected = reference_ink(batch, centred(batch), full_ink(batch), side_px, width)
    assert np.abs(render(batch, image_of("gray", side_px)) - expected).max() <= 1


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=10, deadline=None)
@given(batch=drawings)
def test_every_encoding_has_its_channels(name: str, batch: list) -> None:
    images = render(DrawingBatch.from_strokes(batch), image_of(name, 32))
    assert images.dtype == np.uint8
    assert images.shape == (len(batch), ENCODINGS[name].channels, 32, 32)


@pytest.mark.parametrize("name", PICTURES)
@settings(max_examples=10, deadline=None)
@given(batch=drawings)
def test_every_picture_shows_the_same_ink(name: str, batch: list) -> None:
    columns = DrawingBatch.from_strokes(batch)
    ink = render(columns, image_of(name, 32))[:, INK_CHANNEL[name]]
    assert (ink == render(columns, image_of("gray", 32))[:, 0]).all()


@pytest.mark.parametrize("width", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("side_px", [24, 64, 256])
def test_lines_on_the_border_of_the_square_are_whole(side_px: int, width: float) -> None:
    frame = DrawingBatch.from_strokes([[([0, 255, 255, 0, 0], [0, 0, 255, 255, 0])]])
    image = render(frame, image_of("gray", side_px), line_width_px=width)[0, 0].astype(int)
    assert image[0].sum() == image[-1].sum() == image[:, 0].sum() == image[:, -1].sum() == 0
    middle = side_px // 2
    for across in (image[:middle, middle], image[middle:, middle], image[middle, :middle]):
        assert across.sum() / 255 == pytest.approx(width, abs=0.02)
    assert (image == image.T).all()
    assert np.abs(image - image[::-1]).max() <= 1


@pytest.mark.parametrize("side_px", [24, 32, 256])
def test_a_dot_is_seen_wherever_it_stands(side_px: int) -> None:
    rng = np.random.default_rng(0)
    places = rng.integers(0, 256, (300, 2)).tolist()
    dots = DrawingBatch.from_strokes([([x], [y])] for x, y in places)
    points = Points(dots.x.astype(np.float32), dots.y.astype(np.float32))
    images = render(dots, image_of("gray", side_px), points)
    assert images.max(axis=(1, 2, 3)).min() > 80


def test_a_dot_of_one_point_and_of_two_look_the_same() -> None:
    dots = DrawingBatch.from_strokes([[([100], [100])], [([100, 100], [100, 100])]])
    for name in PICTURES:
        one, two = render(dots, image_of(name, 32))
        channel = INK_CHANNEL[name]
        assert (one[channel] == two[channel]).all()


def test_the_order_of_drawing_does_not_change_the_ink() -> None:
    rng = np.random.default_rng(1)
    batch = random_batch(40)
    points = Points(batch.x.astype(np.float32), batch.y.astype(np.float32))
    shuffled = DrawingBatch.from_strokes(
        [batch.strokes(i)[k] for k in rng.permutation(len(batch.strokes(i)))]
        for i in range(len(batch))
    )
    moved = Points(shuffled.x.astype(np.float32), shuffled.y.astype(np.float32))
    assert (
        render(batch, image_of("gray", 48), points)
        == render(shuffled, image_of("gray", 48), moved)
    ).all()


def test_the_direction_of_drawing_changes_the_ink_by_rounding_at_most() -> None:
    batch = random_batch(40)
    back = DrawingBatch.from_strokes(
        [(x[::-1], y[::-1]) for x, y in batch.strokes(i)] for i in range(len(batch))
    )
    difference = render(batch, image_of("gray", 48)).astype(int) - render(
        back, image_of("gray", 48)
    )
    assert np.abs(difference).max() <= 1


def test_a_drawing_is_centred() -> None:
    wide = DrawingBatch.from_strokes([[([0, 255], [0, 10])]])
    points = centred(wide)
    assert points.y.tolist() == [122.5, 132.5]
    assert points.x.tolist() == [0, 255]


def test_strokes_and_drawings_of_nothing_are_blank() -> None:
    batch = DrawingBatch.from_strokes(
        [[], [([], [])], [([5, 250], [5, 250]), ([], [])], [([], [])]]
    )
    for name in ENCODINGS:
        images = render(batch, image_of(name, 24))
        assert [bool(image.any()) for image in images] == [False, False, True, False]


def test_order_tells_first_from_last() -> None:
    two = DrawingBatch.from_strokes([[([0, 255], [0, 0]), ([0, 255], [255, 255])]])
    image = render(two, image_of("order", 64))[0].astype(int)
    top, bottom = image[:, :8].max(axis=(1, 2)), image[:, -8:].max(axis=(1, 2))
    assert top[0] == bottom[0] == 255
    assert top[1] == 255
    assert bottom[1] == 64  # a quarter, for the last
    assert top[2] > 2 * bottom[2] > 0


def test_thirds_show_a_drawing_as_it_grows() -> None:
    batch = random_batch(80)
    first, second, whole = render(batch, image_of("thirds", 48)).transpose(1, 0, 2, 3).astype(int)
    assert (first <= second).all()
    assert (second <= whole).all()
    line = DrawingBatch.from_strokes([[(list(range(0, 255, 10)), [0] * 26)]])
    seen = (render(line, image_of("thirds", 64))[0] > 0).any(axis=1).sum(axis=1)
    assert seen / seen[2] == pytest.approx([1 / 3, 2 / 3, 1], abs=0.05)


def test_an_unknown_encoding_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gray'"):
        ImageConfig.parse({"encoding": "grey"})


@pytest.mark.parametrize(
    ("side_px", "width", "message"),
    [
        (15, 1.0, "side_px is 15; images are drawn from 16"),
        (32, 0.0, "line_width_px is 0.0; give more than 0 and at most half .* 16"),
        (32, 17.0, "line_width_px is 17.0"),
        (32, float("nan"), "line_width_px is nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused(side_px: int, width: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(random_batch(1), image_of("gray", side_px), line_width_px=width)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_a_buffer_of_the_callers_give_the_same_bytes(name: str, threads: int) -> None:
    batch = random_batch(50)
    expected = render(batch, image_of(name, 40))
    buffer = np.full((52, *expected.shape[1:]), 7, np.uint8)
    returned = render(batch, image_of(name, 40), out=buffer[1:-1], threads=threads)
    assert np.shares_memory(returned, buffer)
    assert (returned == expected).all()
    assert (buffer[0] == 7).all()
    assert (buffer[-1] == 7).all()


def test_a_buffer_that_does_not_fit_is_refused() -> None:
    batch = random_batch(4)
    for out in (
        np.empty((4, 3, 32, 32), np.uint8),
        np.empty((4, 1, 32, 32), np.float32),
        np.empty((4, 1, 32, 64), np.uint8)[..., ::2],
    ):
        with pytest.raises(ValueError, match="out must be C-contiguous uint8"):
            render(batch, image_of("gray", 32), out=out)


def test_values_and_points_that_do_not_fit_are_refused() -> None:
    batch = random_batch(4)
    points = centred(batch)
    with pytest.raises(ValueError, match="values of shape"):
        draw(batch, points, np.zeros((1, 3), np.float32), 32, 1.0)
    with pytest.raises(ValueError, match="points"):
        draw(batch, Points(points.x[1:], points.y), None, 32, 1.0)


def test_several_callers_may_draw_with_several_threads_at_once() -> None:
    batches = [random_batch(30, seed) for seed in range(8)]
    expected = [render(batch, image_of("order", 32)) for batch in batches]
    with ThreadPoolExecutor(4) as callers:
        drawn = list(
            callers.map(lambda batch: render(batch, image_of("order", 32), threads=3), batches)
        )
    assert all((one == other).all() for one, other in zip(drawn, expected, strict=True))


def test_a_slice_that_fails_raises() -> None:
    def work(first: int, last: int) -> None:
        if last == 8:
            raise OSError("this slice")

    with pytest.raises(OSError, match="this slice"):
        in_slices(work, np.arange(9), 3)
    with pytest.raises(ConfigError, match="threads is 0"):
        in_slices(work, np.arange(9), 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 9))
def test_slices_hold_every_drawing_once(points_each: list[int], threads: int) -> None:
    seen: list[int] = []
    offsets = np.concatenate([[0], np.cumsum(points_each)])
    in_slices(lambda first, last: seen.extend(range(first, last)), offsets, threads)
    assert sorted(seen) == list(range(len(points_each)))


FORKED = """
import os
import numpy as np
from quickdraw_core.render.sharing import in_slices
done = []
in_slices(lambda first, last: done.append(last - first), np.arange(9), 3)
child = os.fork()
if not child:
    in_slices(lambda first, last: done.append(last - first), np.arange(9), 3)
    os._exit(sum(done))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_threads_of_its_own() -> None:
    command = [real_python(), "-W", "ignore", "-c", FORKED]
    child = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert child.stdout.strip() == "16"


def test_points_outside_the_square_are_cut_off_and_harm_nothing() -> None:
    far = np.array([-1e30, -np.inf, -1e9, -300, -20, 0, 128, 255, 280, 1e5, 1e30, np.inf, np.nan])
    x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(far, far))
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = np.concatenate([x, x[order]]), np.concatenate([y, y[order]])
    count = len(x)
    batch = DrawingBatch(
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        np.full(count // 2, 2, np.uint16),
        np.array([0, count], np.int64),
        np.array([0, count // 2], np.int64),
    )
    for name in ENCODINGS:
        for side_px in (24, 100):
            buffer = np.full((3, ENCODINGS[name].channels, side_px, side_px), 7, np.uint8)
            render(batch, image_of(name, side_px), Points(x, y), out=buffer[1:2])
            assert (buffer[[0, 2]] == 7).all()


@pytest.mark.parametrize(("side_px", "width"), [(24, 5.0), (64, 2.9)])
def test_lines_that_leave_the_square_are_drawn_up_to_the_edge(side_px: int, width: float) -> None:
    count = 300
    batch = DrawingBatch.from_strokes([[([0, 0], [0, 0])]] * count)
    x, y = np.random.default_rng(0).uniform(-100, 400, (2, 2 * count)).astype(np.float32)
    points = Points(x, y)
    expected = reference_ink(batch, points, full_ink(batch), side_px, width)
    drawn = render(batch, image_of("gray", side_px), points, width)
    assert np.abs(drawn - expected).max() <= 1


FINGERPRINT = """
import hashlib
import sys
import numpy as np
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.render.placement import Points

rng = np.random.default_rng(0)
lengths = rng.integers(1, 12, 6000).astype(np.uint16)
ends = np.cumsum(lengths, dtype=np.int64)
stroke_offsets = np.arange(0, 6001, 4)
point_offsets = np.concatenate([[0], ends])[stroke_offsets]
x, y = rng.uniform(-20, 275, (2, ends[-1])).astype(np.float32)
x[::3] += 500 * (rng.random(len(x[::3])) < 0.01)
batch = DrawingBatch(
    np.zeros(ends[-1], np.uint8), np.zeros(ends[-1], np.uint8), lengths, point_offsets,
    stroke_offsets,
)
found = hashlib.sha256()
for side_px in (24, 32, 64, 128):
    for name in sys.argv[1:]:
        image = ImageConfig(encoding=name, side_px=side_px)
        found.update(render(batch, image, Points(x, y)).tobytes())
print(found.hexdigest())
"""


def fingerprint(environment: dict[str, str], *encodings: str) -> str:
    command = [sys.executable, "-c", FINGERPRINT, *encodings]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return run.stdout


@pytest.mark.services  # compiles all of it anew
@pytest.mark.parametrize("encoding", ["order", pytest.param("gray", marks=pytest.mark.soak)])
def test_code_just_compiled_and_code_from_the_cache_draw_the_same(
    tmp_path: Path, encoding: str
) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    fresh, cached = fingerprint(environment, encoding), fingerprint(environment, encoding)
    assert list(tmp_path.rglob("*.nbi"))
    assert fresh == cached


@pytest.mark.soak
def test_a_processor_without_wide_registers_draws_the_same(tmp_path: Path) -> None:
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    wide = fingerprint(environment, "gray", "order")
    assert wide == fingerprint(environment | plain, "gray", "order")
