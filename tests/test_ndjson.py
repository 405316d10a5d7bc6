import csv
import gzip
import json
import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from fuzzing import as_block, assert_same_rows, mutated, run_with_bounds_checked
from hypothesis import given
from hypothesis import strategies as st
from raw_drawings import simplify
from writers import Row, ndjson_line, random_rows, rows

from quickdraw_core.formats.detect import BLANK, TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.ndjson import NdjsonReader
from quickdraw_core.formats.rows import CUT_SHORT, NO_TIME, UNKNOWN_RECOGNIZED, Rejected, Rows
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.ndjson_scan import scan_lines
from quickdraw_core.formats.scanning.raw_scan import make_raw_room

GOOD = (
    '{"word":"cat","countrycode":"VE","timestamp":"2017-03-02 23:25:10.07453 UTC",'
    '"recognized":true,"key_id":"5201136883597312","drawing":[[[130,113],[72,40]]]}\n'
)
DRAWING = "[[[130,113],[72,40]]]"


def read(data: bytes, word: str | None = "cat", raw: bool = False) -> tuple[Rows, list[Rejected]]:
    return NdjsonReader(word, raw).read(as_block(data), 1)


def check_both_agree(data: bytes, word: str | None = "cat", raw: bool = False) -> None:
    """The reader of blocks and the tolerant one give the same rows and refuse the same lines."""
    found, rejected = read(data, word, raw)
    lines = [line + b"\n" for line in data.split(b"\n") if line.strip(BLANK)]
    assert len(found) + len(rejected) == len(lines)
    expected, expected_rejected = NdjsonReader(word, raw).parse_lines(lines, 1)
    assert_same_rows(found, Rows.of(expected))
    is_ended = data[-1:] == b"\n" or data.rstrip().endswith(b"}")
    if expected_rejected and expected_rejected[-1].line == len(lines) and not is_ended:
        expected_rejected[-1] = replace(expected_rejected[-1], reason=CUT_SHORT)
    assert rejected == expected_rejected


def raw_line(row: Row) -> bytes:
    """A line of Google's raw ndjson that draws the same, in other units and with times."""
    fields = json.loads(ndjson_line(row))
    fields["drawing"] = [
        [[1.375 * x - 17 for x in xs], [1.375 * y for y in ys], [16 * i for i in range(len(xs))]]
        for xs, ys in row.strokes
    ]
    return (json.dumps(fields, separators=(",", ":")) + "\n").encode()


def lines_left(data: bytes, word: bytes = b'"cat"', raw: bool = False) -> int:
    """How many lines the compiled reader leaves to the tolerant one."""
    block, lines = as_block(data), data.count(b"\n")
    columns = Columns.for_block(lines, len(block))
    left = np.empty((lines, 3), np.int64)
    room = make_raw_room() if raw else None
    count, left_over = scan_lines(block, as_block(word), as_block(word), room, columns, left)
    assert count + left_over == lines
    return left_over


def one(line: str | bytes, word: str | None = "cat") -> tuple[int, str]:
    """Rows read, and the reason of the refusal, of a single line."""
    found, rejected = read(line if isinstance(line, bytes) else line.encode(), word)
    return len(found), rejected[0].reason if rejected else ""


def test_a_line_becomes_a_row() -> None:
    found, rejected = read(GOOD.encode())
    assert not rejected
    assert found.key_ids.tolist() == [5201136883597312]
    assert found.country_bytes.tobytes() == b"VE"
    assert found.recognized.tolist() == [1]
    assert found.timestamps_us.tolist() == [1488497110074530]
    assert found.drawings.strokes(0) == [([130, 113], [72, 40])]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (GOOD, GOOD[:-3], "line ends inside its object"),
        (GOOD, "[1]\n", "line is not a JSON object"),
        (GOOD, "hello\n", "line is not JSON"),
        (GOOD, "[" * 100_000, "line has a number of too many digits or is nested too deeply"),
        ("72", "7" * 5_000, "line has a number of too many digits or is nested too deeply"),
        ("[72,40]", "[72,40", "brackets of the line do not balance"),
        ("}\n", "}}\n", "line is not JSON"),
        ("true", "NaN", "line is not JSON"),
        ("true", "True", "line is not JSON"),
        ("[72,40]", "[72,-Infinity]", "line is not JSON"),
        ("[72,40]", "[72,040]", "line is not JSON"),
        ('"VE"', '"V\tE"', "line is not JSON"),
        ('"VE"', '"VE","word":"cat"', "a key stands twice in one object"),
        ('"VE"', '"VE","extra":{"a":1,"a":2}', "a key stands twice in one object"),
        ('"VE"', '"\\ud800"', "countrycode is not text"),
        ('"VE"', "7", "countrycode is not text"),
        ('"word":"cat",', "", "word is missing"),
        ('"cat"', '"dog"', "word is not that of the file"),
        ('"cat"', "null", "word is missing"),
        ('"cat"', "7", "word is not that of the file"),
        ('"cat"', '"cat "', "word is not that of the file"),
        ('"key_id":"5201136883597312",', "", "key_id is missing"),
        ('"5201136883597312"', '""', "key_id is missing"),
        ('"5201136883597312"', "null", "key_id is missing"),
        ('"5201136883597312"', '"-5"', "key_id is negative"),
        ('"5201136883597312"', "-5", "key_id is negative"),
        ('"5201136883597312"', '"5x"', "key_id is not a number"),
        ('"5201136883597312"', "5e3", "key_id is not a number"),
        ('"5201136883597312"', "true", "key_id is not a number"),
        ('"5201136883597312"', '"18446744073709551616"', "key_id is over 64 bits"),
        ('"5201136883597312"', "18446744073709551616", "key_id is over 64 bits"),
        ("true", '"true"', "recognized is neither true nor false"),
        ("true", "1", "recognized is neither true nor false"),
        ("2017-03-02", "2017-02-29", "timestamp is not a date and time"),
        ('"2017-03-02 23:25:10.07453 UTC"', "1488497110", "timestamp is not a date and time"),
        (f',"drawing":{DRAWING}', "", "drawing is missing"),
        (DRAWING, "null", "drawing is missing"),
        (DRAWING, "7", "drawing has no stroke"),
        (DRAWING, "[]", "drawing has no stroke"),
        (DRAWING, f'"{DRAWING}"', "drawing has no stroke"),
        (DRAWING, "[[[1,2]]]", "stroke is not a pair of x and y"),
        (DRAWING, "[[[1,2],[3,4],[5,6]]]", "stroke is not a pair of x and y"),
        (DRAWING, "[[1,2]]", "stroke is not a pair of x and y"),
        (DRAWING, "[[[1,2],[3]]]", "x and y differ in length"),
        (DRAWING, "[[[1,2],[3,4]],[[1],[]]]", "x and y differ in length"),
        (DRAWING, "[[[],[]]]", "stroke is empty"),
        (DRAWING, "[[[1,256],[3,4]]]", "coordinate is outside 0..255"),
        (DRAWING, "[[[1,2],[3,-4]]]", "coordinate is outside 0..255"),
        (DRAWING, "[[[1,2],[3,123456789012345678901234567890]]]", "coordinate is outside 0..255"),
        (DRAWING, "[[[1,2.0],[3,4]]]", "coordinate is not an integer"),
        (DRAWING, "[[[1,2],[3,1e400]]]", "coordinate is not an integer"),
        (DRAWING, "[[[1,true],[3,4]]]", "coordinate is not a number"),
        (DRAWING, '[[[1,2],[3,"4"]]]', "coordinate is not a number"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert old in GOOD
    assert one(GOOD.replace(old, new, 1).rstrip("\n") + "\n") == (0, reason)


def test_a_stroke_too_long_for_its_count_is_refused() -> None:
    axis = "[" + "7," * 65_535 + "7]"
    line = GOOD.replace(DRAWING, f"[[{axis},{axis}]]")
    assert one(line) == (0, "stroke has more than 65535 points")


def test_broken_utf8_is_refused_and_kept_readable() -> None:
    _, rejected = NdjsonReader("cat").read(as_block(b"\xff" + GOOD.encode()), 7)
    assert (rejected[0].line, rejected[0].reason) == (7, "line is not UTF-8")
    assert rejected[0].text == "\\xff" + GOOD.rstrip("\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("\n", ""),
        ("\n", "  \n"),
        ("VE", ""),
        ("VE", "NA"),
        ("VE", "überall"),
        ('"VE"', "null"),
        ('"countrycode":"VE",', ""),
        ("true", "null"),
        ('"recognized":true,', ""),
        (".07453 UTC", " UTC"),
        (".07453 UTC", ".074530"),
        ('"2017-03-02 23:25:10.07453 UTC"', '""'),
        ('"5201136883597312"', "5201136883597312"),
        ('"5201136883597312"', '"18446744073709551615"'),
        (DRAWING, "[[[130, 113], [72, 40]]]"),
        (DRAWING, "[ [[130,\t113] ,[72,40]]]"),
        (DRAWING, f'{DRAWING},"extra":[{{"a":1}},{{"a":2}}]'),
        ('"word":"cat",', '"more":"\\u0041\\ud800","word":"c\\u0061t",'),
    ],
)
def test_unusual_but_sound_lines_are_kept(old: str, new: str) -> None:
    found, rejected = read(GOOD.replace(old, new, 1).encode())
    assert not rejected
    assert found.drawings.strokes(0) == [([130, 113], [72, 40])]


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("", "", 0),
        ("\n", "\r\n", 0),
        ("VE", "", 0),
        ("VE", "ABCDEFGH", 0),
        ("true", "false", 0),
        (".07453", "", 0),
        ("5201136883597312", "0", 0),
        (DRAWING, "[[[130, 113], [72, 40]], [[0], [255]]]", 0),
        ("VE", "ABCDEFGHI", 1),
        ("VE", "x" * 1_000, 1),
        ("VE", "\x7f", 1),
        ("VE", "é", 1),
        ("VE", "\\u0041", 1),
        ('"cat",', '"cat", ', 1),
        (".07453", ".0745300", 1),
        (" UTC", "", 1),
        ("5201136883597312", "18446744073709551615", 1),
        ("\n", " \n", 1),
        ("\n", "\r\r\n", 1),
    ],
)
def test_what_google_writes_is_for_the_compiled_reader_and_the_rest_is_not(
    old: str, new: str, left: int
) -> None:
    line = GOOD.replace(old, new, 1)
    assert lines_left(line.encode()) == left
    assert one(line) == (1, "")


def test_what_a_line_does_not_say_is_none() -> None:
    found, rejected = read(b'{"drawing":[[[1],[2]]],"key_id":5,"word":"cat"}\n')
    assert not rejected
    assert found.key_ids.tolist() == [5]
    assert found.recognized.tolist() == [UNKNOWN_RECOGNIZED]
    assert found.timestamps_us.tolist() == [NO_TIME]
    assert found.country_offsets.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        (DRAWING, "stroke is not x, y and t"),
        ("[[[1,2],[3,4],[5]]]", "t is not as long as x and y"),
        ("[[[1,true],[3,4],[5,6]]]", "coordinate is not a number"),
        ("[[[1,1e999],[3,4],[5,6]]]", "coordinate is not a finite number"),
        ("[]", "drawing has no stroke"),
    ],
)
def test_a_bad_raw_drawing_is_refused_with_its_reason(drawing: str, reason: str) -> None:
    _, rejected = read(GOOD.replace(DRAWING, drawing).encode(), raw=True)
    assert [r.reason for r in rejected] == [reason]


def test_a_raw_drawing_is_simplified() -> None:
    found, rejected = read(
        GOOD.replace(DRAWING, "[[[9.5,60.5],[-1,-1],[0,7]]]").encode(), raw=True
    )
    assert not rejected
    assert found.drawings.strokes(0) == [([0, 255], [0, 0])]


def test_a_word_is_found_in_both_spellings() -> None:
    data = (GOOD.replace('"cat"', '"hot dog"') + GOOD.replace('"cat"', '"hot_dog"')).encode()
    found, rejected = read(data, "hot dog")
    assert (len(found), rejected) == (2, [])


@pytest.mark.parametrize("word", ['say "cat"', "back\\slash", "café", "猫", "line\nfeed", ""])
def test_a_word_may_hold_anything(word: str) -> None:
    for ensure_ascii in (False, True):
        line = GOOD.replace('"cat"', json.dumps(word, ensure_ascii=ensure_ascii))
        assert one(line, word) == (1, "")
        assert one(line, "cat") == (0, "word is not that of the file")


def test_without_a_word_any_will_do() -> None:
    odd = GOOD.replace('"cat"', '"\\u0063at"')
    wordless = GOOD.replace('"word":"cat",', "")
    found, rejected = read((GOOD + odd + wordless).encode(), None)
    assert (len(found), rejected) == (3, [])
    assert lines_left((GOOD + odd).encode(), b"") == 1


def test_lines_are_numbered_and_kept_in_order() -> None:
    keys = range(10, 16)
    lines = [GOOD.replace("5201136883597312", str(key)) for key in keys]
    lines[2] = lines[2].replace("cat", "dog")  # refused
    lines[4] = lines[4].replace("true", "null")  # read by the tolerant reader
    found, rejected = NdjsonReader("cat").read(as_block("".join(lines).encode()), 100)
    assert found.key_ids.tolist() == [10, 11, 13, 14, 15]
    assert [(r.line, r.text) for r in rejected] == [(102, lines[2].rstrip("\n"))]


@given(st.lists(rows, max_size=8))
def test_written_rows_are_read_back_by_the_compiled_reader(written: list[Row]) -> None:
    data = b"".join(ndjson_line(row) for row in written)
    found, rejected = read(data, None)
    assert not rejected
    assert found.key_ids.tolist() == [row.key_id for row in written]
    assert found.recognized.tolist() == [row.recognized for row in written]
    assert found.timestamps_us.tolist() == [row.timestamp_us for row in written]
    assert [found.drawings.strokes(i) for i in range(len(written))] == [
        row.strokes for row in written
    ]
    assert found.country_bytes.tobytes().decode() == "".join(
        row.countrycode or "" for row in written
    )
    assert lines_left(data, b"") == sum(row.key_id >= 10**19 for row in written)


TOKENS = [
    *('{"word":"cat"', '"countrycode":"', '"timestamp":"2017-03-02 23:25:10', " UTC", '"', ","),
    *('"recognized":', "true", "null", '"key_id":"', "0", "00", "18446744073709551615", "\\u0041"),
    *('"drawing":', "[", "]", "[[[1],[2]]]", ", ", " ", "255", "256", ".", "-0", "}", "\r", "\t"),
]
edits = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 4), st.sampled_from(TOKENS)), max_size=3
)


@given(st.lists(st.tuples(rows, edits), min_size=1, max_size=5), st.booleans())
def test_both_readers_agree_on_lines_that_are_nearly_right(drawn: list, raw: bool) -> None:
    data = b""
    for row, changes in drawn:
        line = (raw_line(row) if raw else ndjson_line(row)).removesuffix(b"\n")
        for at, deleted, token in changes:
            line = line[:at] + token.encode() + line[at + deleted :]
        data += line + b"\n"
    for word in ("cat", "ice cream", None):
        check_both_agree(data, word, raw)


@given(st.lists(st.one_of(st.just(GOOD.encode()[:-1]), st.binary(max_size=80)), max_size=20))
def test_no_line_is_lost_whatever_it_holds(lines: list[bytes]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    found, rejected = read(data)
    assert len(found) + len(rejected) == sum(bool(row.strip(BLANK)) for row in data.split(b"\n"))


def test_skipping_stops_where_a_row_begins() -> None:
    data = as_block(GOOD.encode() * 5 + b'{"word":')
    reader = pickle.loads(pickle.dumps(NdjsonReader("cat")))
    assert reader.first_line == 1
    assert reader.skip(data, 0, 2) == (2 * len(GOOD), 2)
    assert reader.skip(data, len(GOOD), 99) == (5 * len(GOOD), 4)


def test_real_drawings_read_as_from_the_csv(shared_data: Path) -> None:
    path = shared_data / "train_simplified" / "hot dog.csv"
    with path.open(newline="") as file:
        lines = [
            {
                "word": row["word"],
                "countrycode": row["countrycode"],
                "timestamp": row["timestamp"] + " UTC",
                "recognized": row["recognized"] == "True",
                "key_id": row["key_id"],
                "drawing": json.loads(row["drawing"]),
            }
            for row in csv.DictReader(file)
        ]
    data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    found, rejected = read(data, "hot dog")
    text = path.read_bytes()
    expected, _ = KaggleReader(Header(TRAIN_COLUMNS), "hot dog").read(
        as_block(text[text.index(b"\n") + 1 :]), 2
    )
    assert not rejected
    assert lines_left(data, b'"hot dog"') == 0
    assert_same_rows(found, expected)


def test_real_raw_drawings_are_read_by_the_compiled_reader(shared_data: Path) -> None:
    with gzip.open(shared_data / "raw" / "full_raw_sample.ndjson.gz") as file:
        data = b"".join(islice(file, 1_000))
    found, rejected = read(data, None, raw=True)
    assert not rejected
    assert lines_left(data, b"", raw=True) == 0
    strokes = [
        [(np.array(x, float), np.array(y, float)) for x, y, _ in json.loads(line)["drawing"]]
        for line in data.splitlines()
    ]
    assert [found.drawings.strokes(i) for i in range(len(found))] == [
        simplify(drawing) for drawing in strokes
    ]


def fuzz(seed: int, blocks: int, raw: bool) -> None:
    """Cuts a line everywhere, damages blocks of 1 to 200 lines, reads all with both readers."""
    rng = np.random.default_rng(seed)
    good = [raw_line(row) if raw else ndjson_line(row) for row in random_rows(rng, 300)]
    for end in range(len(good[0])):
        check_both_agree(good[0][:end], raw=raw)
        check_both_agree(good[0][:end] + b"\n", raw=raw)
    for _ in range(blocks):
        size = int(rng.choice((1, 2, 10, 200)))
        data = b"".join(good[i] for i in rng.integers(len(good), size=size))
        check_both_agree(mutated(rng, data, edits=1 + int(rng.integers(size))), raw=raw)


@pytest.mark.parametrize("raw", [False, True])
def test_damaged_lines_are_read_alike_by_both_readers(raw: bool) -> None:
    fuzz(seed=1, blocks=50, raw=raw)


@pytest.mark.services  # compiles all of it anew
def test_nothing_is_read_past_the_block(tmp_path: Path) -> None:
    run_with_bounds_checked("fuzz(seed=2, blocks=50, raw=False)", "test_ndjson", tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("raw", [False, True])
def test_a_million_damaged_lines_are_read_alike_by_both_readers(raw: bool) -> None:
    fuzz(seed=3, blocks=20_000, raw=raw)


@pytest.mark.soak
@pytest.mark.parametrize("raw", [False, True])
def test_nothing_is_read_past_the_block_in_100_000_damaged_lines(
    tmp_path: Path, raw: bool
) -> None:
    run_with_bounds_checked(f"fuzz(seed=4, blocks=2_000, raw={raw})", "test_ndjson", tmp_path)
