"""The compiled reader of Google's ndjson: one pass from bytes to columns.

It takes what is written as Google's files are: these keys in this order, no space between them,
values of printable ASCII without escapes. Every other line is left to `NdjsonReader.parse_line`.
Why nothing is read past the block: see `field_scan`; no text looked for here holds a line feed.
"""

import numpy as np

from quickdraw_core.drawing import Int64Array, UInt8Array
from quickdraw_core.formats.scanning.columns import MAX_COUNTRY_BYTES, Columns
from quickdraw_core.formats.scanning.drawing_scan import scan_drawing
from quickdraw_core.formats.scanning.field_scan import (
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

_WORD = np.frombuffer(b'{"word":', np.uint8)
_COUNTRYCODE = np.frombuffer(b',"countrycode":"', np.uint8)
_TIMESTAMP = np.frombuffer(b'","timestamp":"', np.uint8)
_RECOGNIZED = np.frombuffer(b' UTC","recognized":', np.uint8)
_TRUE = np.frombuffer(b"true", np.uint8)
_FALSE = np.frombuffer(b"false", np.uint8)
_KEY_ID = np.frombuffer(b',"key_id":"', np.uint8)
_DRAWING = np.frombuffer(b'","drawing":', np.uint8)
_END = np.frombuffer(b"}", np.uint8)
_BACKSLASH = ord("\\")


@compiled(forceinline=True)
def _scan_plain(block: UInt8Array, i: int) -> int:
    """Printable ASCII without escapes up to a quote: where the quote stands."""
    while block[i] != QUOTE:
        if block[i] < 32 or block[i] > 126 or block[i] == _BACKSLASH:
            return FAILED
        i += 1
    return i


@compiled(forceinline=True)
def _scan_word(block: UInt8Array, i: int, spaced: UInt8Array, underscored: UInt8Array) -> int:
    """The file's word in its quotes, or any plain one: where it ends."""
    if len(spaced) == 0:
        if block[i] != QUOTE:
            return FAILED
        end = _scan_plain(block, i + 1)
        return FAILED if end < 0 else end + 1
    end = scan_text(block, i, spaced)
    return scan_text(block, i, underscored) if end < 0 else end


@compiled(forceinline=True)
def _then(block: UInt8Array, i: int, text: UInt8Array) -> int:
    """`text` at `i`, if all before it went well: where it ends."""
    return FAILED if i < 0 else scan_text(block, i, text)


@compiled(forceinline=True)
def _scan_line(
    block: UInt8Array,
    i: int,
    spaced: UInt8Array,
    underscored: UInt8Array,
    raw: RawRoom | None,
    columns: Columns,
    row: int,
) -> int:
    """One line into row `row` of `columns`: where the next line begins."""
    i = scan_text(block, i, _WORD)
    if i < 0:
        return FAILED
    start = _then(block, _scan_word(block, i, spaced, underscored), _COUNTRYCODE)
    if start < 0:
        return FAILED
    i = _scan_plain(block, start)
    if i - start > MAX_COUNTRY_BYTES:
        return FAILED
    country_end = columns.country_offsets[row]
    for k in range(start, i):
        columns.country_bytes[country_end] = block[k]
        country_end += 1
    i = _then(block, i, _TIMESTAMP)
    if i < 0:
        return FAILED
    i, columns.timestamps_us[row] = scan_timestamp(block, i)
    i = _then(block, i, _RECOGNIZED)
    if i < 0:
        return FAILED
    columns.recognized[row] = block[i] == _TRUE[0]
    i = scan_text(block, i, _TRUE if columns.recognized[row] else _FALSE)
    i = _then(block, i, _KEY_ID)
    if i < 0:
        return FAILED
    i, columns.key_ids[row] = scan_unsigned(block, i)
    i = _then(block, i, _DRAWING)
    if i < 0:
        return FAILED
    point, stroke = columns.point_offsets[row], columns.stroke_offsets[row]
    if raw is None:  # settled while compiling: neither form carries the other's code
        i, point, stroke = scan_drawing(block, i, columns, point, stroke)
    else:
        i, point, stroke = scan_raw_drawing(block, i, raw, columns, point, stroke)
    i = _then(block, i, _END)
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
    spaced: UInt8Array,
    underscored: UInt8Array,
    raw: RawRoom | None,
    columns: Columns,
    left: Int64Array,
) -> tuple[int, int]:
    """Reads all lines of a block that are strictly shaped.

    block: uint8 [B], complete lines, the last byte a line feed; spaced, underscored: both
    spellings of the file's word as JSON strings, in quotes, or both empty if any word will do;
    raw: room for raw drawings, None if they are simplified; left: int64 [lines, 3], filled
    with (line, start, end) of each line that is not strictly shaped. Blank lines are passed over
    and not counted. Returns the numbers of rows read and of lines left.
    """
    i = line = row = left_over = START
    while i < len(block):
        end = _scan_line(block, i, spaced, underscored, raw, columns, row)
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
