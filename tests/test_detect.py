"""The form of a file is told from its name and its first bytes, whatever its rows hold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from writers import binary_record, csv_line, ndjson_line, random_rows

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import (
    TEST_COLUMNS,
    TRAIN_COLUMNS,
    FileFormat,
    Layout,
    detect_format,
    split_name,
)

HEADER = b"countrycode,drawing,key_id,recognized,timestamp,word\n"
TEST_HEADER = b"key_id,countrycode,drawing\n"
BOM = b"\xef\xbb\xbf"
ROWS = random_rows(np.random.default_rng(0), 5)
CSV = b"".join(csv_line(row) for row in ROWS)
NDJSON = b"".join(ndjson_line(row) for row in ROWS)
BINARY = b"".join(binary_record(row) for row in ROWS)
RAW = "[[[1.5, 2], [3, 4.25], [0, 17]], [[5], [6], [40]]]"
RAW_CSV = f'US,"{RAW}",2097152,True,2017-03-08 21:12:07.266040,cat\n'.encode()
RAW_NDJSON = json.dumps({"word": "cat", "drawing": json.loads(RAW)}).encode() + b"\n"

SHAPES = [
    ("cat.csv", HEADER + CSV, FileFormat(Layout.CSV, False, TRAIN_COLUMNS, 53)),
    ("cat.csv.gz", BOM + HEADER + CSV, FileFormat(Layout.CSV, False, TRAIN_COLUMNS, 56)),
    ("CAT.CSV", HEADER[:-1] + b"\r\n" + CSV, FileFormat(Layout.CSV, False, TRAIN_COLUMNS, 54)),
    ("cat.csv", HEADER + RAW_CSV, FileFormat(Layout.CSV, True, TRAIN_COLUMNS, 53)),
    ("test_raw.csv", TEST_HEADER + b'7,US,"' + RAW.encode() + b'"\n', None),
    ("cat.ndjson", NDJSON, FileFormat(Layout.NDJSON, False, None, 0)),
    ("cat.jsonl.gz", BOM + NDJSON, FileFormat(Layout.NDJSON, False, None, 3)),
    ("cat.ndjson", b"\n\n" + RAW_NDJSON, FileFormat(Layout.NDJSON, True, None, 0)),
    ("cat.bin", BINARY, FileFormat(Layout.BINARY, False, None, 0)),
    ("cat.bin.gz", BINARY, FileFormat(Layout.BINARY, False, None, 0)),
]
TEST_SHAPE = FileFormat(Layout.CSV, True, TEST_COLUMNS, 27)


@pytest.mark.parametrize(("name", "head", "shape"), SHAPES)
def test_every_form_is_known(name: str, head: bytes, shape: FileFormat | None) -> None:
    found = detect_format(head, name)
    assert found == (shape or TEST_SHAPE)
    assert found.has_word == (shape is not None)


def test_reordered_and_further_columns_are_told_in_the_files_order() -> None:
    columns = b"word,key_id,note,drawing,countrycode,timestamp,recognized"
    head = columns + b'\ncat,1,x,"[[[1],[2]]]",US,2017-03-08 21:12:07,True\n'
    assert detect_format(head, "cat.csv").header == tuple(columns.decode().split(","))


@given(st.data())
def test_the_shape_does_not_depend_on_how_much_of_the_file_is_seen(data: st.DataObject) -> None:
    for name, content, first in (
        ("cat.csv", HEADER + CSV, HEADER + csv_line(ROWS[0])),
        ("cat.ndjson", RAW_NDJSON * 3, RAW_NDJSON),
        ("cat.bin", BINARY, binary_record(ROWS[0])),
    ):
        cut = data.draw(st.integers(len(first), len(content)))
        assert detect_format(content[:cut], name) == detect_format(content, name)


@pytest.mark.parametrize(
    "bad", [b"\n", b"{\n", b"\xff\xfe,nonsense\n", b'US,"[[[1],[2]",1,True,,cat\n', b"[[[[[[\n"]
)
def test_a_bad_first_row_decides_nothing(bad: bytes) -> None:
    assert detect_format(HEADER + bad + RAW_CSV * 2, "cat.csv").raw
    assert detect_format(bad + RAW_NDJSON * 2, "cat.ndjson").raw
    assert not detect_format(HEADER + bad + CSV, "cat.csv").raw
    if bad.strip():
        assert not detect_format(HEADER + bad, "cat.csv").raw


def test_one_row_that_lost_its_times_does_not_outvote_the_others() -> None:
    lost = ndjson_line(ROWS[0])
    assert detect_format(lost + RAW_NDJSON * 2, "cat.ndjson").raw
    assert not detect_format(RAW_NDJSON + NDJSON, "cat.ndjson").raw


@pytest.mark.parametrize(
    ("name", "head", "message"),
    [
        ("cat.csv", b"", "cat.csv is empty"),
        ("cat.ndjson", BOM, "cat.ndjson is empty"),
        ("cat.bin", b"", "cat.bin is empty"),
        ("cat.csv", HEADER, "holds no rows: found its header alone"),
        ("cat.csv", HEADER[:-1] + b"\r\n\r\n", "holds no rows: found its header alone"),
        ("cat.csv", HEADER[:-1], "holds no rows: found its header alone"),
        ("cat.ndjson", b"\n \n", "holds no rows: found blank lines alone"),
        ("cat.csv", CSV, "lacks the column 'countrycode': its header is"),
        ("cat.csv", NDJSON, "lacks the column 'countrycode': its header is {"),
        ("cat.csv", HEADER.replace(b",word", b"") + CSV, "lacks the column 'word'"),
        ("test.csv", b"key_id,drawing\n1,2\n", "lacks the column 'countrycode'"),
        ("cat.ndjson", HEADER + CSV, "its first line is 'countrycode,drawing,key_id"),
        ("cat.ndjson", b'{"word": "cat"}\n', "its first line is"),
        ("cat.ndjson", b"[1, 2]\n" + b"\x00\x01\n", "has a JSON object with a"),
        ("cat.bin", b"<!DOCTYPE html><html>", "holds text: it begins with '<!DOCTYPE html>"),
        ("cat.txt", CSV, "no known ending: files end in .csv, .ndjson, .jsonl, .bin"),
        (".csv", CSV, "no known ending"),
    ],
)
def test_what_is_no_drawings_is_refused_in_plain_words(
    name: str, head: bytes, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        detect_format(head, name)
    assert message in str(caught.value)
    assert str(caught.value).startswith(name)
    assert str(caught.value).isprintable()


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.ndjson", "a.bin", "a.jsonl.gz"]))
def test_no_bytes_make_it_fail_in_another_way(head: bytes, name: str) -> None:
    try:
        shape = detect_format(head, name)
    except InputError as error:
        assert name in str(error)  # noqa: PT017 — it may be raised, not must
    else:
        assert 0 <= shape.data_offset <= len(head)


def test_a_name_without_endings() -> None:
    assert split_name("ice cream.ndjson.gz") == ("ice cream", Layout.NDJSON)
    assert split_name("a.b.csv") == ("a.b", Layout.CSV)
    assert split_name("cat.csv.part") == ("cat.csv.part", None)
    assert split_name("cat.gz") == ("cat", None)
