import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import drawing

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import TEST_COLUMNS, TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader, format_drawing

HEADER = Header(TRAIN_COLUMNS)
GOOD = 'US,"[[[1, 2], [3, 4]]]",5666841479348224,True,2017-03-08 21:12:07.266040,cat\n'


def one(line: str | bytes, word: str | None = "cat") -> tuple[int, str]:
    """Rows read, and the reason of the refusal, of a single line."""
    data = line if isinstance(line, bytes) else line.encode()
    rows, rejected = KaggleReader(HEADER, word).parse_lines([data], 2)
    return len(rows), rejected[0].reason if rejected else ""


def test_a_line_becomes_a_row() -> None:
    rows, rejected = KaggleReader(HEADER, "cat").parse_lines([GOOD.encode()], 2)
    assert not rejected
    assert rows.key_ids == [5666841479348224]
    assert rows.countrycodes == ["US"]
    assert rows.recognized == [True]
    assert rows.timestamps_us == [1489007527266040]
    batch = DrawingBatch.from_packed(rows.x, rows.y, rows.stroke_lengths)
    assert batch.strokes(0) == [([1, 2], [3, 4])]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[[[1, 2], [3, 4]]]", "[[[1, 2], [3, 4]]", "brackets of the drawing do not balance"),
        ("[[[1, 2], [3, 4]]]", "[]", "drawing has no stroke"),
        ("[[[1, 2], [3, 4]]]", "7", "drawing has no stroke"),
        ("[[[1, 2], [3, 4]]]", "[[[1, 2]]]", "stroke is not a pair of x and y"),
        ("[[[1, 2], [3, 4]]]", "[[1, 2]]", "stroke is not a pair of x and y"),
        ("[[[1, 2], [3, 4]]]", "[[[1, 2], [3]]]", "x and y differ in length"),
        ("[[[1, 2], [3, 4]]]", "[[[], []]]", "stroke is empty"),
        ("[[[1, 2], [3, 4]]]", "[[[1, 256], [3, 4]]]", "coordinate is outside 0..255"),
        ("[[[1, 2], [3, 4]]]", "[[[1, -2], [3, 4]]]", "coordinate is outside 0..255"),
        ("[[[1, 2], [3, 4]]]", "[[[1, 2.5], [3, 4]]]", "coordinate is not an integer"),
        ("[[[1, 2], [3, 4]]]", "[[[1, true], [3, 4]]]", "coordinate is not a number"),
        ("[[[1, 2], [3, 4]]]", "[" * 100_000, "brackets of the drawing do not balance"),
        ("5666841479348224", "", "key_id is missing"),
        ("5666841479348224", "-5", "key_id is negative"),
        ("5666841479348224", "18446744073709551616", "key_id is over 64 bits"),
        ("True", "yes", "recognized is neither True nor False"),
        ("2017-03-08", "2017-13-08", "timestamp is not a date and time"),
        (",cat", ",dog", "word is not that of the file"),
        (",cat", ",cat,more", "line has more fields than the header"),
        ("US,", 'US,"', "quotes are misplaced"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert one(GOOD.replace(old, new, 1)) == (0, reason)


def test_broken_utf8_is_refused_and_kept_readable() -> None:
    rows, rejected = KaggleReader(HEADER, "cat").parse_lines([b"\xff" + GOOD.encode()], 7)
    assert len(rows) == 0
    assert (rejected[0].line, rejected[0].reason) == (7, "line is not UTF-8")
    assert rejected[0].text.startswith("\\xffUS,")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("US", "NA"),
        ("US", ""),
        ("\n", "\r\n"),
        ("\n", ""),
        ("True", "None"),
        ("07.266040", "07.26604 UTC"),
        ("5666841479348224", "18446744073709551615"),
    ],
)
def test_unusual_but_sound_lines_are_kept(old: str, new: str) -> None:
    assert one(GOOD.replace(old, new, 1)) == (1, "")


def test_namibia_is_a_country_and_nothing_is_none() -> None:
    lines = [GOOD.replace("US", c, 1).encode() for c in ("NA", "")]
    assert KaggleReader(HEADER, "cat").parse_lines(lines, 2)[0].countrycodes == ["NA", None]


@given(drawing)
def test_written_drawings_are_read_back(strokes: list) -> None:
    text = format_drawing(strokes)
    assert json.loads(text) == [[x, y] for x, y in strokes]
    rows, rejected = KaggleReader(Header(TEST_COLUMNS), None).parse_lines(
        [f'1,,"{text}"\n'.encode()], 2
    )
    assert not rejected
    batch = DrawingBatch.from_packed(rows.x, rows.y, rows.stroke_lengths)
    assert batch.strokes(0) == strokes


@given(st.lists(st.one_of(st.just(GOOD.encode()), st.binary(max_size=80)), max_size=20))
def test_no_line_is_lost_whatever_it_holds(lines: list[bytes]) -> None:
    rows, rejected = KaggleReader(HEADER, "cat").parse_lines(lines, 2)
    assert len(rows) + len(rejected) == sum(bool(line.strip(b" \t\r\n")) for line in lines)


def test_columns_are_found_in_any_order_and_a_bom_is_no_column() -> None:
    header = Header.parse(b"\xef\xbb\xbfdrawing,key_id,extra\r\n", ("key_id", "drawing"), "x.csv")
    rows, rejected = KaggleReader(header, None).parse_lines([b'"[[[1],[2]]]",5,more\n'], 2)
    assert not rejected
    assert rows.key_ids == [5]


def test_a_missing_column_is_named_with_what_was_found() -> None:
    with pytest.raises(
        InputError, match=r"x\.csv lacks the column 'countrycode': its header is a, b; Kaggle"
    ):
        Header.parse(b"a,b\n", TRAIN_COLUMNS, "x.csv")


def test_real_rows_are_all_kept_and_unchanged(shared_data: Path) -> None:
    path = shared_data / "train_simplified" / "hot dog.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    rows, rejected = KaggleReader(
        Header.parse(lines[0], TRAIN_COLUMNS, path), "hot dog"
    ).parse_lines(lines[1:], 2)
    assert not rejected
    with path.open(newline="") as file:
        expected = list(csv.DictReader(file))
    batch = DrawingBatch.from_packed(rows.x, rows.y, rows.stroke_lengths)
    assert [format_drawing(batch.strokes(i)) for i in range(len(batch))] == [
        row["drawing"] for row in expected
    ]
    assert rows.key_ids == [int(row["key_id"]) for row in expected]
