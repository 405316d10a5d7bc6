"""The compiled reader of Kaggle's CSV lines: one pass from bytes to columns.

It takes what is written as Kaggle's files are, with the columns in any order: fields without
quotes but the drawing, which has them. Every other line is left to `KaggleReader.parse_line`.
"""

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array, UInt8Array
from quickdraw_core.formats.rows import NO_TIME, UNKNOWN_RECOGNIZED
from quickdraw_core.formats.scanning.columns import MAX_COUNTRY_BYTES, Columns
from quickdraw_core.formats.scanning.drawing_scan import scan_drawing
from quickdraw_core.formats.scanning.field_scan import (
    COMMA,
    FAILED,
    QUOTE,
    START,
    scan_text,
    scan_timestamp,
    scan_unsigned,
)
from quickdraw_core.formats.scanning.line_scan import MAX_LINE_BYTES, is_blank, line_end
from quickdraw_core.formats.scanning.raw_scan import RawRoom, scan_raw_drawing
from quickdraw_core.system.compiled import compiled

COLUMN_CODES = {
    "countrycode": 0,
    "drawing": 1,
    "key_id": 2,
    "recognized": 3,
    "timestamp": 4,
    "word": 5,
}
"""What `scan_lines` calls the columns; any other number is a column to pass over."""

PASSED_OVER = -1
_TRUE = np.frombuffer(b"True", np.uint8)
_FALSE = np.frombuffer(b"False", np.uint8)
_NONE = np.frombuffer(b"None", np.uint8)


@compiled(forceinline=True)
def _ends_field(byte: int) -> bool:
    return byte == COMMA or byte == 10 or byte == 13


@compiled(forceinline=True)
def _scan_plain(block: UInt8Array, i: int) -> int:
    """A field of printable ASCII without quotes: where it ends."""
    while not _ends_field(block[i]):
        if block[i] == QUOTE or block[i] < 32 or block[i] > 126:
            return FAILED
        i += 1
    return i


@compiled(forceinline=True)
def _scan_recognized(block: UInt8Array, i: int, recognized: UInt8Array, row: int) -> int:
    """True or False into `recognized[row]`, or None, or nothing: where it ends."""
    if block[i] == _TRUE[0]:
        recognized[row] = 1
        return scan_text(block, i, _TRUE)
    if block[i] == _FALSE[0]:
        recognized[row] = 0
        return scan_text(block, i, _FALSE)
    return scan_text(block, i, _NONE) if block[i] == _NONE[0] else i


@compiled(forceinline=True)
def _scan_line(
    block: UInt8Array,
    i: int,
    codes: npt.NDArray[np.int8],
    spaced: UInt8Array,
    underscored: UInt8Array,
    raw: RawRoom | None,
    columns: Columns,
    row: int,
) -> int:
    """One line into row `row` of `columns`: where the next line begins."""
    point, stroke = columns.point_offsets[row], columns.stroke_offsets[row]
    country_end = columns.country_offsets[row]
    columns.recognized[row] = UNKNOWN_RECOGNIZED
    columns.timestamps_us[row] = NO_TIME
    for field in range(len(codes)):
        if field:
            if block[i] != COMMA:
                return FAILED
            i += 1
        code = codes[field]
        if code == 1:
            if block[i] != QUOTE:
                return FAILED
            if raw is None:  # settled while compiling: neither form carries the other's code
                i, point, stroke = scan_drawing(block, i + 1, columns, point, stroke)
            else:
                i, point, stroke = scan_raw_drawing(block, i + 1, raw, columns, point, stroke)
            if i < 0 or block[i] != QUOTE:
                return FAILED
            i += 1
        elif code == 2:
            i, columns.key_ids[row] = scan_unsigned(block, i)
        elif code == 4:
            if not _ends_field(block[i]):
                i, columns.timestamps_us[row] = scan_timestamp(block, i)
        elif code == 0:
            start, i = i, _scan_plain(block, i)
            if i - start > MAX_COUNTRY_BYTES:
                return FAILED
            for k in range(start, i):
                columns.country_bytes[country_end] = block[k]
                country_end += 1
        elif code == 3:
            i = _scan_recognized(block, i, columns.recognized, row)
        elif code == 5:
            end = scan_text(block, i, spaced)
            i = scan_text(block, i, underscored) if end < 0 else end
        else:
            i = _scan_plain(block, i)
        if i < 0:
            return FAILED
    if block[i] == 13:
        i += 1
    if block[i] != 10:
        return FAILED
    columns.country_offsets[row + 1] = country_end
    columns.point_offsets[row + 1] = point
    columns.stroke_offsets[row + 1] = stroke
    return i + 1


@compiled()
def scan_lines(
    block: UInt8Array,
    codes: npt.NDArray[np.int8],
    spaced: UInt8Array,
    underscored: UInt8Array,
    raw: RawRoom | None,
    columns: Columns,
    left: Int64Array,
) -> tuple[int, int]:
    """Reads all lines of a block that are strictly shaped.

    block: uint8 [B], complete lines, the last byte a line feed; codes: int8 [fields of a line],
    of `COLUMN_CODES`; spaced, underscored: both spellings of the file's word, UTF-8, without line
    breaks; raw: room for raw drawings, None if they are simplified; left: int64 [lines, 3],
    filled with (line, start, end) of each line that is not strictly shaped. Blank lines are
    passed over and not counted. Returns the numbers of rows read and of lines left.
    """
    i = line = row = left_over = START
    while i < len(block):
        end = _scan_line(block, i, codes, spaced, underscored, raw, columns, row)
        if 0 < end <= i + MAX_LINE_BYTES:
            columns.lines[row] = line
            row += 1
        else:
            end = line_end(block, i)
            if is_blank(block, i, end):
                i = end
                continue
            left[left_over, 0], left[left_over, 1], left[left_over, 2] = line, i, end
            left_over += 1
        i = end
        line += 1
    return row, left_over
