import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzzing import as_block, assert_same_rows, mutated, run_with_bounds_checked
from hypothesis import given
from hypothesis import strategies as st
from writers import Row, binary_record, csv_line, random_rows, rows

from quickdraw_core.formats.binary import BinaryReader
from quickdraw_core.formats.detect import TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.lines import MAX_QUOTED_BYTES
from quickdraw_core.formats.rows import CUT_SHORT, ParsedRows, Rejected, Rows
from quickdraw_core.formats.scanning.binary_scan import MAX_CUT_BYTES, OUT_OF_STEP

CAT = Row(5201136883597312, "VE", True, 1488497110_000_000, "cat", [([130, 113], [72, 40])])
GOOD = binary_record(CAT)


def read(data: bytes) -> tuple[Rows, list[Rejected]]:
    return BinaryReader("cat").read(as_block(data), 1)


def records_of(data: bytes) -> list[bytes]:
    """The records of `data`, of which the last one may be cut off."""
    found, at = [], 0
    while at < len(data):
        end = at + 17
        for _ in range(int.from_bytes(data[at + 15 : end], "little") if end <= len(data) else 0):
            points = int.from_bytes(data[end : end + 2], "little")
            end += 2 + 2 * points
            if end > len(data):
                break
        found.append(data[at:end])
        at = end
    return found


def read_plainly(data: bytes) -> tuple[Rows, list[Rejected]]:
    """What `BinaryReader` promises, by `struct` and one record after the other."""
    found, rejected = ParsedRows(), []
    for number, record in enumerate(records_of(data), 1):
        reason, strokes = "", []
        try:
            key_id, country, recognized, seconds, count = struct.unpack_from("<Q2sbIH", record)
            at = 17
            for _ in range(count):
                (points,) = struct.unpack_from("<H", record, at)
                strokes.append(struct.unpack_from(f"{points}s{points}s", record, at + 2))
                at += 2 + 2 * points
        except struct.error:
            reason = OUT_OF_STEP if len(record) > MAX_CUT_BYTES else CUT_SHORT
        else:
            if recognized not in (0, 1):
                reason = "recognized is neither 0 nor 1"
            elif country != b"\0\0" and not (country.isalpha() and country.isupper()):
                reason = "countrycode is not two capital letters"
            elif not strokes:
                reason = "drawing has no stroke"
            elif not all(x for x, _ in strokes):
                reason = "stroke is empty"
        if reason:
            rejected.append(Rejected(number, reason, record[:MAX_QUOTED_BYTES].hex()))
            continue
        found.key_ids.append(key_id)
        found.countrycodes.append(country.decode().strip("\0") or None)
        found.recognized.append(bool(recognized))
        found.timestamps_us.append(seconds * 1_000_000)
        found.x.append(b"".join(x for x, _ in strokes))
        found.y.append(b"".join(y for _, y in strokes))
        found.stroke_lengths.append(b"".join(struct.pack("<H", len(x)) for x, _ in strokes))
    return Rows.of(found), rejected


def test_a_record_becomes_a_row() -> None:
    found, rejected = read(GOOD)
    assert len(GOOD) == 23
    assert not rejected
    assert found.key_ids.tolist() == [5201136883597312]
    assert found.country_bytes.tobytes() == b"VE"
    assert found.recognized.tolist() == [1]
    assert found.timestamps_us.tolist() == [1488497110_000_000]
    assert found.drawings.strokes(0) == [([130, 113], [72, 40])]


@given(st.lists(rows, max_size=8))
def test_written_rows_are_read_back(written: list[Row]) -> None:
    found, rejected = read(b"".join(binary_record(row) for row in written))
    assert not rejected
    assert found.key_ids.tolist() == [row.key_id for row in written]
    assert found.recognized.tolist() == [row.recognized for row in written]
    assert found.timestamps_us.tolist() == [
        row.timestamp_us // 1_000_000 * 1_000_000 for row in written
    ]
    assert [found.drawings.strokes(i) for i in range(len(written))] == [
        row.strokes for row in written
    ]
    assert np.diff(found.country_offsets).tolist() == [
        len(row.countrycode or "") for row in written
    ]
    assert found.country_bytes.tobytes().decode() == "".join(
        row.countrycode or "" for row in written
    )


@pytest.mark.parametrize(
    ("at", "damage", "reason"),
    [
        (10, b"\x02", "recognized is neither 0 nor 1"),
        (10, b"\xff", "recognized is neither 0 nor 1"),
        (8, b"ve", "countrycode is not two capital letters"),
        (8, b"V\0", "countrycode is not two capital letters"),
        (8, b"\0V", "countrycode is not two capital letters"),
        (8, b"[4", "countrycode is not two capital letters"),
        (8, b"\xc3\x9c", "countrycode is not two capital letters"),
    ],
)
def test_a_bad_record_costs_itself_alone(at: int, damage: bytes, reason: str) -> None:
    bad = GOOD[:at] + damage + GOOD[at + len(damage) :]
    found, rejected = BinaryReader("cat").read(as_block(GOOD + bad + GOOD), 40)
    assert len(found) == 2
    assert rejected == [Rejected(41, reason, bad.hex())]


@pytest.mark.parametrize(
    ("strokes", "reason"),
    [
        ([], "drawing has no stroke"),
        ([([], [])], "stroke is empty"),
        ([([1], [2]), ([], []), ([3], [4])], "stroke is empty"),
    ],
)
def test_a_drawing_without_points_is_refused(strokes: list, reason: str) -> None:
    bad = binary_record(Row(1, "US", True, 0, "cat", strokes))
    found, rejected = read(GOOD + bad + GOOD)
    assert found.drawings.strokes(1) == [([130, 113], [72, 40])]
    assert rejected == [Rejected(2, reason, bad.hex())]


@pytest.mark.parametrize("size_bytes", range(1, len(GOOD)))
def test_a_record_cut_short_is_refused_with_what_is_there(size_bytes: int) -> None:
    cut = GOOD[:size_bytes]
    found, rejected = read(GOOD + cut)
    assert len(found) == 1
    assert rejected == [Rejected(2, CUT_SHORT, cut.hex())]


def test_a_lost_byte_is_told_from_a_cut_record() -> None:
    records = [binary_record(row) for row in random_rows(np.random.default_rng(0), 300)]
    intact, damaged = b"".join(records[:100]), b"".join(records[100:])
    found, rejected = read(intact + damaged[:15] + damaged[16:])
    assert len(found) >= 100
    assert rejected[-1].reason == OUT_OF_STEP


def test_a_large_record_is_read_and_shown_in_part_when_refused() -> None:
    axis = [7] * 65_535
    record = binary_record(Row(1, None, False, 0, "cat", [(axis, axis), ([1], [2])]))
    found, rejected = read(record + record[:-1])
    assert found.drawings.stroke_lengths.tolist() == [65_535, 1]
    assert rejected == [Rejected(2, OUT_OF_STEP, record[:MAX_QUOTED_BYTES].hex())]


def test_no_bytes_are_no_rows() -> None:
    found, rejected = read(b"")
    assert (len(found), rejected) == (0, [])


@given(
    st.lists(rows, max_size=6),
    st.integers(0, 3),
    st.integers(0, 7),
    st.integers(0, 400),
)
def test_skipping_stops_where_a_record_begins(
    written: list[Row], first: int, count: int, cut: int
) -> None:
    records = [binary_record(row) for row in written]
    data = b"".join(records)[: max(0, sum(map(len, records)) - cut)]
    ends = np.cumsum([0, *map(len, records)]).tolist()
    first = min(first, len(records))
    complete = sum(end <= len(data) for end in ends) - 1
    reader = pickle.loads(pickle.dumps(BinaryReader("cat")))
    assert reader.first_line == 1
    if ends[first] <= len(data):
        last = min(first + count, complete)
        assert reader.skip(as_block(data), ends[first], count) == (ends[last], last - first)


@given(st.binary(max_size=300) | st.lists(st.sampled_from([GOOD, b"\0", b"\1"])).map(b"".join))
def test_no_record_is_lost_whatever_it_holds(data: bytes) -> None:
    found, rejected = read(data)
    expected, expected_rejected = read_plainly(data)
    assert_same_rows(found, expected)
    assert rejected == expected_rejected


def test_rows_read_the_same_as_from_the_csv() -> None:
    written = random_rows(np.random.default_rng(0), 200)
    whole_seconds = [
        replace(row, timestamp_us=row.timestamp_us // 1_000_000 * 1_000_000) for row in written
    ]
    found, _ = read(b"".join(map(binary_record, whole_seconds)))
    lines = b"".join(map(csv_line, whole_seconds))
    expected, rejected = KaggleReader(Header(TRAIN_COLUMNS), "cat").read(as_block(lines), 2)
    assert not rejected
    assert_same_rows(found, expected)


def check_as_promised(data: bytes) -> None:
    reader = BinaryReader("cat")
    found, rejected = reader.read(as_block(data), 1)
    expected, expected_rejected = read_plainly(data)
    assert_same_rows(found, expected)
    assert rejected == expected_rejected
    cut = (CUT_SHORT, OUT_OF_STEP)
    whole = len(found) + sum(r.reason not in cut for r in rejected)
    end, passed = reader.skip(as_block(data), 0, 1 << 40)
    assert passed == whole
    assert end == sum(map(len, records_of(data)[:whole]))


def fuzz(seed: int, blocks: int) -> None:
    """Cuts a record everywhere, damages blocks of 1 to 100, and reads all in both ways."""
    for end in range(len(GOOD)):
        check_as_promised(GOOD[:end])
    rng = np.random.default_rng(seed)
    good = [binary_record(row) for row in random_rows(rng, 300)]
    for _ in range(blocks):
        size = int(rng.choice((1, 2, 10, 100)))
        data = b"".join(good[i] for i in rng.integers(len(good), size=size))
        check_as_promised(mutated(rng, data, edits=1 + int(rng.integers(3))))


def test_damaged_records_are_read_as_promised() -> None:
    fuzz(seed=1, blocks=1_000)


@pytest.mark.services  # compiles all of it anew
def test_nothing_is_read_past_the_block(tmp_path: Path) -> None:
    run_with_bounds_checked("fuzz(seed=2, blocks=500)", "test_binary", tmp_path)


@pytest.mark.soak
def test_a_million_damaged_records_are_read_as_promised() -> None:
    fuzz(seed=3, blocks=40_000)


@pytest.mark.soak
def test_nothing_is_read_past_the_block_in_100_000_damaged_records(tmp_path: Path) -> None:
    run_with_bounds_checked("fuzz(seed=4, blocks=4_000)", "test_binary", tmp_path)
