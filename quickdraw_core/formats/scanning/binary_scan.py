"""The compiled reader of Google's binary records: one pass from bytes to columns.

Nothing is read past the block: a record's bytes are looked at only once its end is known to lie
inside, and a length only once both its bytes do.
"""

import numpy as np
from numba import uint64

from quickdraw_core.drawing import Int64Array, UInt8Array
from quickdraw_core.formats.rows import CUT_SHORT
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.field_scan import FAILED, START
from quickdraw_core.system.compiled import compiled

HEAD_BYTES = 17
"""Key id 8, country code 2, recognized 1, seconds 4, number of strokes 2."""

COUNTRY_BYTES = 2
_COUNTRY = 8
_RECOGNIZED = 10
_SECONDS = 11
_STROKES = 15

# The fewest bytes there are, which bound what a block can hold.
_BYTES_PER_ROW = HEAD_BYTES
_BYTES_PER_POINT = 2
_BYTES_PER_STROKE = 2

MAX_CUT_BYTES = 1 << 12
"""At most this is left of a record that the end of its file cuts off.

What is longer is no record (the largest drawing known takes under 1,200 bytes): a damaged length
put the reader out of step.
"""

REASONS = (
    "",
    CUT_SHORT,
    "records are out of step from here on",
    "recognized is neither 0 nor 1",
    "countrycode is not two capital letters",
    "drawing has no stroke",
    "stroke is empty",
)
"""Why a record is refused, by the code that `scan_records` gives; code 0 is that of a row."""

_SOUND, _CUT_SHORT, _OUT_OF_STEP, _NOT_A_BOOL, _NOT_A_COUNTRY, _NO_STROKE, _EMPTY_STROKE = range(7)

OUT_OF_STEP = REASONS[_OUT_OF_STEP]
"""Refuses all the rest of a file, many drawings as a rule, as one record."""


def records_at_most(size_bytes: int) -> int:
    """How many records, the last one cut off, a block can hold."""
    return size_bytes // _BYTES_PER_ROW + 1


def found_in(record: bytes, fault: int) -> str:
    """What a refused record has instead of what it should; fault: an index of `REASONS`."""
    if fault == _NOT_A_BOOL:
        return f"found {record[_RECOGNIZED]}"
    if fault == _NOT_A_COUNTRY:
        return f"found {record[_COUNTRY : _COUNTRY + COUNTRY_BYTES]!r}"
    if fault in (_CUT_SHORT, _OUT_OF_STEP):
        return f"found {len(record):,} bytes to the file's end"
    return "found none" if fault == _NO_STROKE else "found one without points"


def columns_for(size_bytes: int) -> Columns:
    """Room for whatever records a block of `size_bytes` bytes can hold."""
    rows = records_at_most(size_bytes)
    points, strokes = size_bytes // _BYTES_PER_POINT, size_bytes // _BYTES_PER_STROKE
    return Columns.empty(rows, points, strokes, rows * COUNTRY_BYTES)


@compiled()
def _unsigned(block: UInt8Array, i: int, size_bytes: int) -> np.uint64:
    """A little-endian number of `size_bytes` bytes."""
    value = uint64(0)
    for k in range(size_bytes):
        value |= uint64(block[i + k]) << uint64(8 * k)
    return value


@compiled()
def _record_end(block: UInt8Array, i: int) -> int:
    """Where the record at `i` ends, or -1 where the block ends before."""
    if i + HEAD_BYTES > len(block):
        return FAILED
    strokes = int(_unsigned(block, i + _STROKES, 2))
    i += HEAD_BYTES
    for _ in range(strokes):
        if i + 2 > len(block):
            return FAILED
        i += 2 + 2 * int(_unsigned(block, i, 2))
    return i if i <= len(block) else FAILED


@compiled()
def skip_records(block: UInt8Array, start: int, records: int) -> tuple[int, int]:
    """Passes over up to `records` complete records from `start` on: (where it stops, how many)."""
    i, passed = start, 0
    while passed < records and i < len(block):
        end = _record_end(block, i)
        if end < 0:
            break
        i = end
        passed += 1
    return i, passed


@compiled()
def _is_capital(byte: int) -> bool:
    return byte >= 65 and byte <= 90


@compiled()
def _fault(block: UInt8Array, i: int) -> int:
    """What is wrong with the head of the record at `i`, as an index of `REASONS`."""
    if block[i + _RECOGNIZED] > 1:
        return _NOT_A_BOOL
    first, second = block[i + _COUNTRY], block[i + _COUNTRY + 1]
    if not (_is_capital(first) and _is_capital(second)) and (first != 0 or second != 0):
        return _NOT_A_COUNTRY
    if _unsigned(block, i + _STROKES, 2) == 0:
        return _NO_STROKE
    return _SOUND


@compiled()
def _read_strokes(block: UInt8Array, i: int, strokes: int, columns: Columns, row: int) -> bool:
    """The strokes at `i` into row `row` of `columns`; False when one of them is empty."""
    x, y, stroke_lengths = columns.x, columns.y, columns.stroke_lengths
    point, stroke = columns.point_offsets[row], columns.stroke_offsets[row]
    for _ in range(strokes):
        points = int(_unsigned(block, i, 2))
        if points == 0:
            return False
        i += 2
        first, at, length = uint64(point), uint64(i), uint64(points)
        for k in range(length):  # a signed index costs a third: it might count from the end
            x[first + k] = block[at + k]
            y[first + k] = block[at + length + k]
        i += 2 * points
        stroke_lengths[stroke] = points
        stroke += 1
        point += points
    columns.point_offsets[row + 1] = point
    columns.stroke_offsets[row + 1] = stroke
    return True


@compiled()
def _read_record(block: UInt8Array, i: int, columns: Columns, row: int) -> int:
    """The complete record at `i` into row `row` of `columns`: an index of `REASONS`."""
    fault = _fault(block, i)
    if fault != _SOUND:
        return fault
    strokes = int(_unsigned(block, i + _STROKES, 2))
    if not _read_strokes(block, i + HEAD_BYTES, strokes, columns, row):
        return _EMPTY_STROKE
    columns.key_ids[row] = _unsigned(block, i, 8)
    columns.recognized[row] = block[i + _RECOGNIZED]
    columns.timestamps_us[row] = int(_unsigned(block, i + _SECONDS, 4)) * 1_000_000
    country_end = columns.country_offsets[row]
    if block[i + _COUNTRY]:
        for k in range(COUNTRY_BYTES):
            columns.country_bytes[country_end] = block[i + _COUNTRY + k]
            country_end += 1
    columns.country_offsets[row + 1] = country_end
    return _SOUND


@compiled()
def scan_records(block: UInt8Array, columns: Columns, refused: Int64Array) -> tuple[int, int]:
    """Reads all records of a block, of which the last one may be cut off.

    block: uint8 [B], beginning with a record; columns: `columns_for(B)`; refused: int64
    [records_at_most(B), 4], filled with (record, start, end, index of `REASONS`) of each record
    that holds no drawing. Returns the numbers of rows read and of records refused.
    """
    i = record = row = count = START
    while i < len(block):
        end = _record_end(block, i)
        if end < 0:
            end = len(block)
            fault = _CUT_SHORT if end - i <= MAX_CUT_BYTES else _OUT_OF_STEP
        else:
            fault = _read_record(block, i, columns, row)
        if fault == _SOUND:
            columns.lines[row] = record
            row += 1
        else:
            refused[count, 0], refused[count, 1] = record, i
            refused[count, 2], refused[count, 3] = end, fault
            count += 1
        i = end
        record += 1
    return row, count
