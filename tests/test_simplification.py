"""Raw → simplified gives what Google published, and keeps the promises of the recipe."""

import csv
import gzip
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_drawings import simplify

from quickdraw_core.formats.scanning.simplification import EPSILON_PX, MAX_POINTS

coordinates = st.floats(-1e4, 1e4, allow_nan=False, width=32)
points = st.tuples(coordinates, coordinates)
drawings = st.lists(st.lists(points, min_size=1, max_size=30), min_size=1, max_size=6)


def as_arrays(drawing: list[list[tuple[float, float]]]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.array([x for x, _ in stroke], float), np.array([y for _, y in stroke], float))
        for stroke in drawing
    ]


def published_pairs(shared_data: Path) -> Iterator[tuple[list[Any], list[Any]]]:
    """Raw and simplified form of every drawing that both folders hold."""
    with gzip.open(shared_data / "raw" / "full_raw_sample.ndjson.gz") as file:
        raw = [json.loads(text) for text in file]
    simplified = {}
    for word in {drawing["word"] for drawing in raw}:
        with (shared_data / "train_simplified" / f"{word}.csv").open(newline="") as rows:
            simplified |= {row["key_id"]: row["drawing"] for row in csv.DictReader(rows)}
    for drawing in raw:
        if drawing["key_id"] in simplified:
            yield drawing["drawing"], json.loads(simplified[drawing["key_id"]])


def test_equals_what_google_published(shared_data: Path) -> None:
    pairs = equal = equally_long = 0
    for raw, published in published_pairs(shared_data):
        strokes = simplify([(np.array(s[0], float), np.array(s[1], float)) for s in raw])
        pairs += 1
        equal += [list(stroke) for stroke in strokes] == published
        equally_long += [len(x) for x, _ in strokes] == [len(s[0]) for s in published]
    assert pairs > 8_000
    # Measured: 8,048 and 8,052 of 8,056.
    assert equal / pairs > 0.998
    assert equally_long / pairs > 0.999


@settings(max_examples=60, deadline=None)
@given(drawings)
def test_equals_the_recipe_written_plainly(drawing: list[list[tuple[float, float]]]) -> None:
    assert simplify(as_arrays(drawing)) == plain_recipe(as_arrays(drawing))


@settings(max_examples=60, deadline=None)
@given(drawings)
def test_result_is_a_drawing_of_the_same_strokes(drawing: list[list[tuple[float, float]]]) -> None:
    strokes = simplify(as_arrays(drawing))
    assert len(strokes) == len(drawing)
    for x, y in strokes:
        assert len(x) == len(y) >= 2
        assert all(0 <= value <= 255 for value in x + y)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), min_size=1), min_size=1
    ),
    st.integers(-500, 500),
    st.sampled_from([0.25, 2.0, 8.0]),
)
def test_place_and_size_of_the_raw_drawing_do_not_matter(
    drawing: list[list[tuple[float, float]]], shift: int, scale: float
) -> None:
    strokes = as_arrays(drawing)
    moved = [((x + shift) * scale, (y - shift) * scale) for x, y in strokes]
    assert simplify(moved) == simplify(strokes)


def test_ends_of_a_stroke_stay_and_points_on_a_line_go() -> None:
    x = np.linspace(10.0, 520.0, 40)
    assert simplify([(x, x / 3)]) == [([0, 255], [0, 85])]


def test_degenerate_drawings() -> None:
    dot, nothing = np.full(1, 7.0), np.empty(0)
    assert simplify([]) == []
    assert simplify([(nothing, nothing)]) == []
    assert simplify([(dot, dot)]) == [([0, 0], [0, 0])]
    assert simplify([(np.full(5, 3.0), np.full(5, 9.0))]) == [([0, 0], [0, 0])]
    assert simplify([(dot, dot), (nothing, nothing), (dot + 10, dot + 5)]) == [
        ([0, 0], [0, 0]),
        ([255, 255], [128, 128]),
    ]


def test_a_long_scribble_does_not_exhaust_the_stack() -> None:
    x = np.arange(900) % 2 * 100.0
    (kept_x, _), *_ = simplify([(x, np.linspace(0.0, 1.0, 900))])
    assert len(kept_x) > 150


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.nan, "coordinate is not a finite number"),
        (np.inf, "coordinate is not a finite number"),
        (-np.inf, "coordinate is not a finite number"),
        (1e308, "coordinates are too far apart"),
        (1e306, "coordinates are too far apart"),
    ],
)
def test_refuses_coordinates_that_cannot_be_scaled(bad: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        simplify([(np.array([0.0, bad, -bad]), np.zeros(3))])


def test_scales_what_is_tiny_or_far_away() -> None:
    tiny = np.array([0.0, 5e-324])
    assert simplify([(tiny, tiny)]) == [([0, 255], [0, 255])]
    assert simplify([(np.array([1e308]), np.array([-1e308]))]) == [([0, 0], [0, 0])]


def test_refuses_what_takes_too_long() -> None:
    swings = np.arange(9_000) % 2 * 255.0
    for strokes in (
        [(np.zeros(MAX_POINTS + 1), np.zeros(MAX_POINTS + 1))],
        [(swings, np.zeros(9_000))],  # over a million samples
        [(swings[:3_000], np.arange(3_000) * 1e-3)],  # cut off swing by swing
    ):
        with pytest.raises(ValueError, match="drawing is too long to simplify"):
            simplify(strokes)


def plain_recipe(
    drawing: list[tuple[np.ndarray, np.ndarray]],
) -> list[tuple[list[int], list[int]]]:
    """The four steps, for reading, not for speed."""
    low = [min(stroke[axis].min() for stroke in drawing) for axis in (0, 1)]
    moved = [np.column_stack((x - low[0], y - low[1])) for x, y in drawing]
    span = max(stroke.max() for stroke in moved)
    found = []
    for stroke in moved:
        scaled = stroke * 255.0 / span if span > 0 else stroke
        kept = np.rint(np.array(plain_rdp(plain_resample(scaled)))).astype(int)
        found.append((kept[:, 0].tolist(), kept[:, 1].tolist()))
    return found


def plain_resample(stroke: np.ndarray) -> list[np.ndarray]:
    samples: list[np.ndarray] = []
    walked = 0.0
    for here, there in pairwise(stroke):
        step = float(np.sqrt(((there - here) ** 2).sum()))
        while len(samples) < walked + step:
            t = (len(samples) - walked) / step
            samples.append(here * (1.0 - t) + there * t)
        walked += step
    return [*samples, stroke[-1]]


def plain_rdp(points: list[np.ndarray]) -> list[np.ndarray]:
    first, last = points[0], points[-1]
    dx, dy = last - first
    base = np.sqrt(dx * dx + dy * dy)
    distances = [0.0]
    for x, y in points[1:-1]:
        if base == 0.0:
            distances.append(np.sqrt((x - first[0]) ** 2 + (y - first[1]) ** 2))
        else:
            distances.append(abs(dx * (first[1] - y) - (first[0] - x) * dy) / base)
    far = int(np.argmax(distances))
    if distances[far] <= EPSILON_PX:
        return [first, last]
    return plain_rdp(points[: far + 1])[:-1] + plain_rdp(points[far:])
