"""Raw drawings, bytes in, come out simplified as Google published them, and safely."""

import csv
import gzip
import itertools
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import as_block, assert_same_rows, lines_left
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_drawings import simplify

from quickdraw_core.formats.detect import TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.rows import RowError, Rows
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.field_scan import FAILED
from quickdraw_core.formats.scanning.raw_scan import make_raw_room, scan_number, scan_raw_drawing
from quickdraw_core.formats.scanning.simplification import MAX_POINTS
from quickdraw_core.formats.strokes import pack_raw_strokes

READER = KaggleReader(Header(TRAIN_COLUMNS), "cat", raw=True)
DRAWING = "[[[10, 30.5], [-40, 2.25], [0, 16]]]"


def raw_line(drawing: str, key_id: int = 7) -> bytes:
    return f'US,"{drawing}",{key_id},True,2017-03-08 21:12:07.266040,cat\n'.encode()


def test_a_raw_line_becomes_a_simplified_row() -> None:
    found, rejected = READER.read(as_block(raw_line(DRAWING)), 2)
    assert not rejected
    assert found.drawings.strokes(0) == [([0, 124], [0, 255])]
    assert lines_left(READER, raw_line(DRAWING)) == 0


@pytest.mark.parametrize(
    ("drawing", "left"),
    [
        ("[[[1,2],[3,4],[5,6]]]", 0),
        ("[[[7], [9], [0]]]", 0),
        ("[[[1, 2], [3, 4], [16, 5]]]", 0),  # time runs backwards
        ("[[[1, 2], [3, 4], [0.5, 1e999]]]", 0),
        ("[[[-0, 1E2], [1e-05, 2.5E+1], [0, 0]]]", 0),
        ("[[[312.14300537109375, 2], [3, 0.1], [0, 0]]]", 0),
        ("[[[1234567890123456789, 2], [3, 4], [5, 6]]]", 1),
        ("[[[0.00000000000000000000001, 2], [3, 4], [5, 6]]]", 1),
        ("[[[1e23, 2], [3, 4], [5, 6]]]", 1),
    ],
)
def test_unusual_but_sound_drawings_are_kept(drawing: str, left: int) -> None:
    found, rejected = READER.read(as_block(raw_line(drawing)), 2)
    assert not rejected
    strokes = [(np.array(s[0], float), np.array(s[1], float)) for s in json.loads(drawing)]
    assert found.drawings.strokes(0) == simplify(strokes)
    assert lines_left(READER, raw_line(drawing)) == left


def zigzag(points: int) -> str:
    """A stroke to and fro, as wide as the drawing, every other time a little less wide."""
    x = [255 - i // 100 if i % 2 else i // 100 for i in range(points)]
    return json.dumps([[x, [i // 50 for i in range(points)], [0] * points]])


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        ("[]", "drawing has no stroke"),
        ("{}", "drawing has no stroke"),
        ("[[]]", "stroke is not x, y and t"),
        ("[[[1, 2], [3, 4]]]", "stroke is not x, y and t"),
        ("[[[1], [2], [3], [4]]]", "stroke is not x, y and t"),
        ("[[1, 2, 3]]", "stroke is not x, y and t"),
        ("[[[1, 2], [3], [5, 6]]]", "x and y differ in length"),
        ("[[[1, 2], [3, 4], [5]]]", "t is not as long as x and y"),
        ("[[[], [], []]]", "stroke is empty"),
        ("[[[1], [2], [3]], [[], [], []]]", "stroke is empty"),
        ("[[[1, null], [3, 4], [5, 6]]]", "coordinate is not a number"),
        ("[[[1, 2], [3, true], [5, 6]]]", "coordinate is not a number"),
        ('[[[1, 2], [3, 4], [5, ""6""]]]', "time is not a number"),
        ("[[[1, 2], [3, 04], [5, 6]]]", "drawing is not JSON"),
        ("[[[1, 2], [3, 4.], [5, 6]]]", "drawing is not JSON"),
        ("[[[1, 2], [3, .4], [5, 6]]]", "drawing is not JSON"),
        ("[[[1, 2], [3, 4], [5, 6]]", "brackets of the drawing do not balance"),
        ("[[[1, NaN], [3, 4], [5, 6]]]", "coordinate is not a finite number"),
        ("[[[1, 2], [3, Infinity], [5, 6]]]", "coordinate is not a finite number"),
        ("[[[1, 2], [3, -1e309], [5, 6]]]", "coordinate is not a finite number"),
        (f"[[[1, 1{'0' * 400}], [3, 4], [5, 6]]]", "coordinate is not a finite number"),
        ("[[[1, 1e308], [3, 4], [5, 6]]]", "coordinates are too far apart"),
        ("[[[-1e308, 1e308], [3, 4], [5, 6]]]", "coordinates are too far apart"),
        (json.dumps([[[0] * (MAX_POINTS + 1)] * 3]), "drawing is too long to simplify"),
        (zigzag(3_000), "drawing is too long to simplify"),  # too many distances
        (zigzag(9_000), "drawing is too long to simplify"),  # too many samples
    ],
)
def test_a_bad_drawing_is_refused_with_its_reason(drawing: str, reason: str) -> None:
    lines = [raw_line(DRAWING, 1), raw_line(drawing, 2), raw_line(DRAWING, 3)]
    found, rejected = READER.read(as_block(b"".join(lines)), 2)
    assert found.key_ids.tolist() == [1, 3]
    assert [(row.line, row.reason) for row in rejected] == [(3, reason)]


def test_simplified_lines_are_no_raw_ones_and_the_reverse() -> None:
    line = raw_line("[[[1, 2], [3, 4]]]")
    assert READER.read(as_block(line), 2)[1][0].reason == "stroke is not x, y and t"
    simplified = KaggleReader(Header(TRAIN_COLUMNS), "cat")
    assert simplified.read(as_block(line), 2)[1] == []
    found = simplified.read(as_block(raw_line(DRAWING)), 2)[1][0]
    assert found.reason == "stroke is not a pair of x and y"


def test_what_is_no_drawing_is_refused() -> None:
    for value in (None, {}, [None], [[None] * 3], [[[1], [2], "3"]]):
        with pytest.raises(RowError):
            pack_raw_strokes(value)


# Numbers.


def scanned(text: str) -> float | None:
    end, value = scan_number(as_block(f"{text}]\n".encode()), np.uint64(0))
    assert end in (0, len(text))
    return float(value) if end else None


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


digits = st.integers(0, 10**18 - 1).map(str)
decimals = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | st.integers(0, 3).flatmap(lambda n: digits.map(lambda d: "." + "0" * n + d)),
    st.just("") | st.integers(-25, 25).map("e{}".format) | st.integers(0, 9).map("E+{}".format),
)


@settings(max_examples=500, deadline=None)
@given(decimals)
@example("9007199254740993")  # the middle between two floats
@example("900719925474.0993")
@example("0.500000000000000166")
def test_a_number_is_the_nearest_float_or_left_to_the_tolerant_reader(text: str) -> None:
    value = scanned(text)
    assert value is None or bits(value) == bits(float(text))


@settings(max_examples=500, deadline=None)
@given(st.floats(0.01, 1e6) | st.floats(0.015625, 2.0**20, width=32))
def test_floats_as_the_raw_files_hold_them_are_read(value: float) -> None:
    for text in (repr(value), repr(-value)):
        assert bits(scanned(text) or 0.0) == bits(float(text))


@pytest.mark.parametrize("text", ["", "-", "+1", "01", "1.", ".1", "1e", "1e+", "--1", "x"])
def test_what_is_no_number_is_not_read(text: str) -> None:
    assert scanned(text) is None


# Room.


@pytest.mark.parametrize(("size", "fits"), [(0, False), (3, False), (4, True), (400, True)])
def test_nothing_is_written_beyond_the_room_of_a_block(size: int, fits: bool) -> None:
    columns = Columns.for_block(1, 0)._replace(
        x=np.empty(400, np.uint8)[:size], y=np.empty(400, np.uint8)[:size],
        stroke_lengths=np.empty(9, np.uint16),
    )  # fmt: skip
    block = as_block(b"[[[7],[7],[0]],[[9],[9],[0]]]\n")
    end, _, _ = scan_raw_drawing(block, 0, make_raw_room(), columns, 0, 0)
    assert (end != FAILED) == fits
    short = columns._replace(x=np.empty(9, np.uint8), y=np.empty(9, np.uint8))
    short = short._replace(stroke_lengths=np.empty(1, np.uint16))
    assert scan_raw_drawing(block, 0, make_raw_room(), short, 0, 0)[0] == FAILED


# What Google published.


def raw_sample(shared_data: Path, every: int) -> Iterator[dict[str, Any]]:
    """Every second, third, … drawing of the sample."""
    with gzip.open(shared_data / "raw" / "full_raw_sample.ndjson.gz") as file:
        yield from map(json.loads, itertools.islice(file, 0, None, every))


def published(shared_data: Path, words: set[str]) -> dict[int, str]:
    """The simplified drawings of some words by key_id, as JSON."""
    found = {}
    for word in words:
        with (shared_data / "train_simplified" / f"{word}.csv").open(newline="") as file:
            found |= {int(row["key_id"]): row["drawing"] for row in csv.DictReader(file)}
    return found


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_raw_lines_give_the_rows_that_google_published(shared_data: Path, every: int) -> None:
    rows = list(raw_sample(shared_data, every))
    lines = [raw_line(json.dumps(row["drawing"]), int(row["key_id"])) for row in rows]
    data = b"".join(lines)
    found, rejected = READER.read(as_block(data), 2)
    assert not rejected
    assert lines_left(READER, data) == 0
    simplified = published(shared_data, {row["word"] for row in rows})
    pairs = equal = equally_long = 0
    for index, key_id in enumerate(found.key_ids.tolist()):
        if key_id in simplified:
            expected = [(x, y) for x, y in json.loads(simplified[key_id])]
            strokes = found.drawings.strokes(index)
            pairs += 1
            equal += strokes == expected
            equally_long += [len(x) for x, _ in strokes] == [len(x) for x, _ in expected]
    assert pairs > 8_000 / every
    # Measured: 8,048 and 8,052 of 8,056.
    assert equal / pairs > 0.998
    assert equally_long / pairs > 0.999
    parsed, _ = READER.parse_lines(lines[:400], 2)
    assert_same_rows(found.take(np.arange(400)), Rows.of(parsed))
