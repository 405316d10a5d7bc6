"""The compiled and the tolerant reader of Kaggle's CSV agree, whatever a line holds."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from fuzzing import as_block, assert_same_rows, lines_left, run_with_bounds_checked
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import BLANK, TEST_COLUMNS, TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader, format_drawing
from quickdraw_core.formats.lines import MAX_QUOTED_BYTES
from quickdraw_core.formats.rows import Rejected, Rows
from quickdraw_core.formats.scanning.line_scan import MAX_LINE_BYTES

DRAWING = "[[[1, 2], [3, 4]]]"
GOOD = f'US,"{DRAWING}",5666841479348224,True,2017-03-08 21:12:07.266040,cat\n'
CAT = KaggleReader(Header(TRAIN_COLUMNS), "cat")
RAW_CAT = KaggleReader(Header(TRAIN_COLUMNS), "cat", raw=True)


def read_both(reader: KaggleReader, data: bytes) -> tuple[Rows, list[Rejected]]:
    """Reads a block, and checks all that must hold whatever stands in it."""
    found, rejected = reader.read(as_block(data), 2)
    lines = [line + b"\n" for line in data.split(b"\n") if line.strip(BLANK)]
    assert len(found) + len(rejected) == len(lines)
    for row in rejected:
        text = lines[row.line - 2].rstrip(b"\r\n")
        assert row.text == text.decode(errors="backslashreplace")
    refused = {row.line for row in rejected}
    kept = [line for number, line in enumerate(lines, 2) if number not in refused]
    parsed, disagreed = reader.parse_lines(kept, 2)
    assert not disagreed
    assert_same_rows(found, Rows.of(parsed))
    return found, rejected


def one(line: str | bytes, reader: KaggleReader = CAT) -> tuple[int, str]:
    """Rows read, and the reason of the refusal, of a single line."""
    found, rejected = read_both(reader, line if isinstance(line, bytes) else line.encode())
    return len(found), rejected[0].reason if rejected else ""


REFUSED = [
    ("US,", "", "line has fewer fields than the header"),
    (",cat\n", ",ca", "word is not that of the file"),
    ("266040,cat\n", "266", "line has fewer fields than the header"),
    (GOOD[20:], "", "line ends inside quotes"),
    (",cat", ",cat,more", "line has more fields than the header"),
    ("US,", 'US,"', "quotes are misplaced"),
    ("US,", '"US,', "quotes are misplaced"),
    ('"[[[', "[[[", "line has more fields than the header"),
    (DRAWING, "", "drawing is missing"),
    (DRAWING, "[[[1, 2], [3, 4]]", "brackets of the drawing do not balance"),
    (DRAWING, "[[[1, 2], [3, 4]]]]", "brackets of the drawing do not balance"),
    (DRAWING, "[" * 20_000, "brackets of the drawing do not balance"),
    (DRAWING, "[" * 20_000 + "]" * 20_000, "drawing is nested too deeply"),
    (DRAWING, "[[[1, two], [3, 4]]]", "drawing is not JSON"),
    (DRAWING, "[[[1, 02], [3, 4]]]", "drawing is not JSON"),
    (DRAWING, "[]", "drawing has no stroke"),
    (DRAWING, "7", "drawing has no stroke"),
    (DRAWING, "[[[1, 2]]]", "stroke is not a pair of x and y"),
    (DRAWING, "[[[1, 2], [3, 4], [5, 6]]]", "stroke is not a pair of x and y"),
    (DRAWING, "[[[1, 2], [3]]]", "x and y differ in length"),
    (DRAWING, "[[[], []]]", "stroke is empty"),
    (DRAWING, "[[[1, 256], [3, 4]]]", "coordinate is outside 0..255"),
    (DRAWING, "[[[1, -2], [3, 4]]]", "coordinate is outside 0..255"),
    (DRAWING, f"[[[1, 1{'0' * 5000}], [3, 4]]]", "coordinate has too many digits"),
    (DRAWING, "[[[1, 2.0], [3, 4]]]", "coordinate is not an integer"),
    (DRAWING, "[[[1, 1e2], [3, 4]]]", "coordinate is not an integer"),
    (DRAWING, "[[[1, NaN], [3, 4]]]", "coordinate is not an integer"),
    (DRAWING, '[[[1, ""2""], [3, 4]]]', "coordinate is not a number"),
    (DRAWING, "[[[1, true], [3, 4]]]", "coordinate is not a number"),
    (DRAWING, "[[[1, null], [3, 4]]]", "coordinate is not a number"),
    ("5666841479348224", "", "key_id is missing"),
    ("5666841479348224", "-5", "key_id is negative"),
    ("5666841479348224", "+5", "key_id is not a number"),
    ("5666841479348224", "5.0", "key_id went through a float, which loses its last digits"),
    ("5666841479348224", " 5", "key_id is not a number"),
    ("5666841479348224", "٥", "key_id is not a number"),
    ("5666841479348224", "18446744073709551616", "key_id is over 64 bits"),
    ("5666841479348224", "9" * 5000, "key_id is over 64 bits"),
    ("True", "yes", "recognized is neither True nor False"),
    ("2017-03-08", "2017-02-29", "timestamp is not a date and time"),
    ("2017-03-08", "0000-03-08", "timestamp is not a date and time"),
    ("21:12:07", "21:12:61", "timestamp is not a date and time"),
    ("21:12:07", "24:00:00", "timestamp is not a date and time"),
    (",cat", ",dog", "word is not that of the file"),
    ("US", "U\xad\ufeffS", "line holds a byte order mark"),
    ("US", "U\0S", "line holds a NUL byte"),
    ("US", "U\rS", "line holds a lone carriage return"),
    ("1, 2", "1,\r2", "line holds a lone carriage return"),
]


@pytest.mark.parametrize(("old", "new", "reason"), REFUSED)
def test_a_bad_line_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert old in GOOD
    assert one(GOOD.replace(old, new, 1).rstrip("\n") + "\n") == (0, reason)


def test_a_line_cut_anywhere_is_refused() -> None:
    for end in range(1, len(GOOD) - 1):
        assert one(GOOD[:end])[0] == 0, GOOD[:end]


def test_broken_utf8_is_refused() -> None:
    assert one(GOOD.encode().replace(b"US", b"U\xff")) == (0, "line is not UTF-8")
    assert one(GOOD.encode().replace(b"US", b"U\xed\xa0\x80")) == (0, "line is not UTF-8")


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("US", "", 0),
        ("US", "NA", 0),
        ("US", "12345678", 0),
        ("US", "123456789", 1),
        ("US", '"US"', 1),
        ("US", "É", 1),
        ("\n", "\r\n", 0),
        ("True", "None", 0),
        ("True", "", 0),
        ("5666841479348224", "0005", 0),
        ("5666841479348224", "9999999999999999999", 0),
        ("5666841479348224", "18446744073709551615", 1),
        ("2017-03-08 21:12:07.266040", "", 0),
        ("07.266040", "07", 0),
        ("2017-03-08", "2016-02-29", 0),
        ("2017-03-08", "0001-01-01", 0),
        ("07.266040", "07.2660405", 1),
        ("07.266040", "07.26604 UTC", 1),
        ("07.266040", "07Z", 1),
        (DRAWING, "[[[1,2],[3,4]]]", 0),
        (DRAWING, "[[[7], [9]]]", 0),
        (DRAWING, " [ [[1,  2], [3, 4]]]", 1),
        (DRAWING, "[[[1, 2], [3, -0]]]", 1),
    ],
)
def test_unusual_but_sound_lines_are_kept(old: str, new: str, left: int) -> None:
    assert old in GOOD
    line = GOOD.replace(old, new, 1)
    assert one(line) == (1, "")
    assert lines_left(CAT, line.encode()) == left


@pytest.mark.parametrize("word", ["cat", "hot_dog", "hot dog", "crème", "a,b", 'say "a"', ""])
def test_a_word_is_found_in_both_spellings(word: str) -> None:
    reader = KaggleReader(Header(("key_id", "word", "drawing")), word)
    for spelling in (word.replace("_", " "), word.replace(" ", "_")):
        text = spelling.replace('"', '""')
        field = f'"{text}"' if text != spelling or "," in text else text
        assert one(f'5,{field},"{DRAWING}"\n', reader) == (1, "")
        assert one(f'5,{field}s,"{DRAWING}"\n', reader)[0] == 0


@pytest.mark.parametrize("word", ["a\nb", "a\r", "\0", "\ufeff", "\udcff"])
def test_a_word_that_no_line_can_hold_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="no line of a CSV can hold the word"):
        KaggleReader(Header(TRAIN_COLUMNS), word)


def test_without_a_word_any_will_do() -> None:
    data = GOOD.encode() + GOOD.replace("cat", "dog").encode() + GOOD.replace("cat", "").encode()
    reader = KaggleReader(Header(TRAIN_COLUMNS), None)
    found, rejected = read_both(reader, data)
    assert (len(found), rejected, lines_left(reader, data)) == (3, [], 0)


def test_of_two_columns_with_one_name_the_last_counts() -> None:
    columns = ("drawing", "key_id", "countrycode", "countrycode", "drawing")
    found, _ = read_both(
        KaggleReader(Header(columns), None), b'"[]",7,ABCDEFGH,IJKLMNOP,"[[[1],[2]]]"\n' * 50
    )
    assert len(found) == 50
    assert found.country_bytes.tobytes() == b"IJKLMNOP" * 50


def test_a_header_must_name_the_columns_once() -> None:
    with pytest.raises(InputError, match="needs the column 'key_id'"):
        KaggleReader(Header(("drawing",)), None)
    with pytest.raises(InputError, match=r"x\.csv has the column 'key_id' twice"):
        Header.parse(b"key_id,drawing,key_id", ("key_id", "drawing"), "x.csv")
    with pytest.raises(InputError, match=r"x\.csv lacks the column 'key_id'"):
        Header.parse(b"key_id\rdrawing", ("key_id", "drawing"), "x.csv")


def test_a_line_over_16_mib_is_refused_unread_and_quoted_in_part() -> None:
    stroke = "[[" + "0," * 59_999 + "0],[" + "0," * 59_999 + "0]]"
    sound = GOOD.replace(DRAWING, "[" + ",".join([stroke] * 71) + "]")
    assert len(sound) > MAX_LINE_BYTES
    for long in (sound, "é" * (MAX_LINE_BYTES // 2) + "\n"):
        found, rejected = CAT.read(as_block((GOOD + long + GOOD).encode()), 2)
        assert len(found) == 2
        (row,) = rejected
        assert (row.line, row.reason) == (3, "line is longer than 16 MiB")
        assert row.text == long.encode()[:MAX_QUOTED_BYTES].decode()


def test_a_long_line_is_read_and_quoted_in_part_when_refused() -> None:
    long = GOOD.replace("US", "u" * 100_000)
    found, rejected = CAT.read(as_block((long + long.replace("cat", "dog")).encode()), 2)
    assert (len(found), found.country_bytes.size) == (1, 100_000)
    assert [row.text for row in rejected] == ["u" * MAX_QUOTED_BYTES]


def test_a_block_may_be_empty_or_end_in_mid_line() -> None:
    assert CAT.read(as_block(b""), 2)[0].key_ids.tolist() == []
    found, rejected = CAT.read(as_block((GOOD + GOOD[:-1]).encode()), 2)
    assert (len(found), rejected) == (2, [])


# Lines that are sound, nearly sound, or unsound in one field.

NUMBERS = st.integers(0, 255).map(str) | st.sampled_from(
    ["00", "007", "256", "-0", "-1", "1.0", "1e1", "true", '""1""', "99999999999999999999", "1 "]
)
RAW_NUMBERS = (
    st.integers(-2000, 2000).map(str)
    | st.floats(-2000, 2000, width=32).map(str)
    | st.floats(-1e6, 1e6).map(str)
    | st.sampled_from(["1e-05", "1E3", "-0.0", "007", "1.", ".5", "-", "1e308", "NaN", "Infinity"])
    | st.sampled_from(["12345678901234567890", "0.00000000000000000000001", "1e400", "null"])
)


@st.composite
def drawing_texts(draw: st.DrawFn, raw: bool) -> str:
    """A drawing's JSON, spaced in one way or the other, seldom with an odd number."""
    numbers = RAW_NUMBERS if raw else NUMBERS
    usual = st.integers(0, 255).map(str)
    comma = draw(st.sampled_from([", ", ",", ",", ", ", " ,", ",\t"]))
    odd = draw(st.sampled_from([False, False, True]))
    strokes = []
    for _ in range(draw(st.integers(1, 3))):
        points = draw(st.integers(1, 4))
        axes = [[draw(numbers if odd else usual) for _ in range(points)] for _ in range(2 + raw)]
        if draw(st.integers(0, 20)) == 0:
            axes[draw(st.integers(0, 1 + raw))].pop()
        strokes.append("[" + comma.join(f"[{comma.join(axis)}]" for axis in axes) + "]")
    return "[" + comma.join(strokes) + "]"


dates = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
    st.sampled_from([0, 1, 1600, 1900, 1969, 1970, 2000, 2016, 2017, 9999]),
    st.integers(0, 13) | st.just(2),
    st.integers(0, 32) | st.just(29),
    st.sampled_from([" ", " ", " ", "T", "  ", ""]),
    st.integers(0, 24),
    st.integers(0, 60),
    st.integers(0, 61),
    st.integers(0, 7).map(lambda digits: "." * (digits > 0) + "2660409"[:digits]) | st.just("."),
    st.sampled_from(["", "", "", " UTC", "Z", "+01:00", "-23:59", "+99:00", " "]),
)
FIELDS = {
    "countrycode": st.sampled_from(
        ["US", "NA", "", "U S", "É", "ABCDEFGH", "ABCDEFGHI", "a\tb", '"US"', '"U""S"', '"U,S"']
    ),
    "key_id": st.sampled_from(
        ["5", "0005", "0", str(2**64 - 1), str(2**64), str(10**19 - 1), "-5", "", "+5", '"5"']
    )
    | st.integers(0, 2**64 - 1).map(str),
    "recognized": st.sampled_from(["True", "False", "None", "", "true", "Tru", '"True"']),
    "timestamp": dates | st.sampled_from(["", "2017-03-08", "20170308", "2017-W10-3", "now"]),
    "word": st.sampled_from(
        ["ice cream", "ice_cream", "ice  cream", '"ice cream"', "", "crème", "crème ", "ice"]
    ),
    "extra": st.sampled_from(["", "1", "a b", '"x,y"', "é", "[]"]),
}
WORDS = st.sampled_from(["ice cream", "ice_cream", "crème", None])


@st.composite
def headers(draw: st.DrawFn) -> Header:
    columns = draw(
        st.sampled_from([(*TRAIN_COLUMNS, "extra"), TRAIN_COLUMNS, TEST_COLUMNS]).flatmap(
            st.permutations
        )
    )
    return Header(tuple(columns))


@settings(max_examples=150, deadline=None)
@given(st.data(), headers(), WORDS, st.booleans())
def test_both_readers_agree(
    data: st.DataObject, header: Header, word: str | None, raw: bool
) -> None:
    lines = []
    for _ in range(data.draw(st.integers(1, 6))):
        fields = {
            "countrycode": "US",
            "key_id": "7",
            "recognized": "True",
            "timestamp": "2017-03-08 21:12:07.266040",
            "word": word or "ice cream",
            "extra": "",
            "drawing": f'"{data.draw(drawing_texts(raw))}"',
        }
        for name in data.draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2)):
            fields[name] = data.draw(FIELDS[name], name)
        ending = data.draw(st.sampled_from(["\n", "\n", "\r\n", "\r\r\n", " \n"]))
        lines.append(",".join(fields[name] for name in header.columns) + ending)
    read_both(KaggleReader(header, word, raw), "".join(lines).encode())


@settings(max_examples=100, deadline=None)
@given(dates)
def test_a_time_is_read_alike_whatever_it_is(date: str) -> None:
    read_both(CAT, GOOD.replace("2017-03-08 21:12:07.266040", date).encode())


# Lines that were damaged byte by byte.

TOKENS = [
    *(b'"', b'""', b"[", b"]", b"[[", b"]]", b"[]", b",", b", ", b" ", b"-", b".", b"e", b"0"),
    *(b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"NaN", b"Infinity"),
    *(b"256", b"99999999999999999999999999", b"1e308", b"-1e308", b"1e-400", b"1.5", b"1E5"),
]


def damaged(rng: random.Random, line: bytes, other: bytes) -> bytes:
    """A line after one act of damage; `other` is the line that it may be spliced with."""
    at = rng.randrange(len(line) + 1)
    end = min(len(line), at + 1 + int(rng.expovariate(0.3)))
    match rng.randrange(8):
        case 0 if at < len(line):
            return line[:at] + bytes([line[at] ^ 1 << rng.randrange(8)]) + line[at + 1 :]
        case 1:
            return line[:at] + rng.randbytes(1 + rng.randrange(3)) + line[at:]
        case 2:
            return line[:at] + line[end:]
        case 3:
            return line[:end] + line[at:]
        case 4 if rng.random() < 0.3:
            return line[:at]
        case 5:
            return line[:at] + other[rng.randrange(len(other) + 1) :]
        case _:
            return line[:at] + rng.choice(TOKENS) + line[rng.choice((at, at, end)) :]


def sound_lines(rng: random.Random, raw: bool) -> list[bytes]:
    """Lines as Kaggle's files hold them, but with small drawings."""

    def number() -> float:
        return rng.choice((rng.randrange(1000), float(np.float32(rng.random() * 700))))

    lines = []
    for _ in range(300):
        sizes = [1 + int(rng.expovariate(0.4)) for _ in range(1 + int(rng.expovariate(0.7)))]
        if raw:
            drawing = json.dumps([[[number() for _ in range(n)] for _ in "xyt"] for n in sizes])
        else:
            drawing = format_drawing([(list(rng.randbytes(n)), rng.randbytes(n)) for n in sizes])
        key, second = rng.getrandbits(42) << 21, f"{rng.randrange(6 * 10**7) / 1e6:09.6f}"
        lines.append(
            f'{rng.choice(("US", "NA", ""))},"{drawing}",{key},{rng.random() < 0.9},'
            f"2017-03-{1 + rng.randrange(31):02} 21:12:{second},cat\n".encode()
        )
    return lines


def fuzz(seed: int, lines: int, raw: bool) -> None:
    """Cuts some lines at each byte, and damages most of so many in blocks of a thousand."""
    rng = random.Random(seed)
    sound = sound_lines(rng, raw)
    for line in sound[:10]:
        for end in range(len(line) + 1):
            read_both(RAW_CAT if raw else CAT, line[:end])
    kept = refused = 0
    while kept + refused < lines:
        block = []
        for line in rng.choices(sound, k=1000):
            for _ in range(rng.choice((0, 1, 1, 2))):
                line = damaged(rng, line, rng.choice(sound))
            block.append(line)
        found, rejected = read_both(RAW_CAT if raw else CAT, b"".join(block))
        kept, refused = kept + len(found), refused + len(rejected)
    assert min(kept, refused) > lines / 5


def test_damaged_lines_are_read_alike_by_both_readers() -> None:
    fuzz(seed=1, lines=30_000, raw=False)


def test_damaged_raw_lines_are_read_alike_by_both_readers() -> None:
    fuzz(seed=2, lines=8_000, raw=True)


@pytest.mark.soak
def test_a_million_damaged_lines_are_read_alike_by_both_readers() -> None:
    fuzz(seed=3, lines=700_000, raw=False)
    fuzz(seed=4, lines=300_000, raw=True)


@pytest.mark.services  # compiles all of it anew
def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    calls = "fuzz(5, 10_000, False), test_kaggle_scan.fuzz(6, 5_000, True)"
    run_with_bounds_checked(calls, "test_kaggle_scan", tmp_path)


@pytest.mark.soak
def test_nothing_is_read_or_written_out_of_bounds_in_200_000_lines(tmp_path: Path) -> None:
    calls = "fuzz(7, 150_000, False), test_kaggle_scan.fuzz(8, 50_000, True)"
    run_with_bounds_checked(calls, "test_kaggle_scan", tmp_path)


@pytest.mark.parametrize("count", [0, 3])
def test_blank_lines_at_the_end_of_a_block_are_no_rows(count: int) -> None:
    rows, rejected = CAT.read(as_block((GOOD * count + "\n \n\n").encode()), 2)
    assert (len(rows), rejected) == (count, [])
