"""Kaggle's CSV: a header, then one drawing a line.

    countrycode,drawing,key_id,recognized,timestamp,word      train_simplified/<word>.csv
    key_id,countrycode,drawing                                test_simplified.csv

The raw pair of the same has the same columns; a stroke is `[[x, …], [y, …], [t, …]]`.

In: lines as bytes. Out: columns (`ParsedRows`) and, for each line that cannot be read, a
`Rejected` with its reason, so that lines in = rows out + rejected. The format holds no line
break inside a field, so a line is a row, and a stray quote costs that line alone.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array, Stroke, UInt8Array
from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import Header
from quickdraw_core.formats.fields import parse_key_id, parse_timestamp, require_word
from quickdraw_core.formats.lines import LineReader
from quickdraw_core.formats.rows import ParsedRows, RowError, shown
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.kaggle_scan import COLUMN_CODES, PASSED_OVER, scan_lines
from quickdraw_core.formats.scanning.raw_scan import make_raw_room
from quickdraw_core.formats.strokes import pack_raw_strokes, pack_strokes
from quickdraw_core.labels import spaced, underscored

ROW_COLUMNS = ("key_id", "drawing")
"""What a row cannot do without."""

_RECOGNIZED = {"True": True, "False": False, "None": None, "": None}
_UNFIT_CHARACTERS = {
    "\ufeff": "a byte order mark",
    "\0": "a NUL byte",
    "\r": "a lone carriage return",
}


def parse_drawing(text: str, raw: bool = False) -> tuple[bytes, bytes, bytes]:
    """Packs a drawing's JSON as (x, y, stroke lengths); a raw one is simplified.

    Raises `RowError`, as `pack_strokes` and `pack_raw_strokes` do and when it is not JSON.
    """
    try:
        strokes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(_why_not_json(text, error), shown(text)) from error
    return pack_raw_strokes(strokes) if raw else pack_strokes(strokes)


def _why_not_json(text: str, error: Exception) -> str:
    if not text.strip():
        return "drawing is missing"
    if text.count("[") != text.count("]"):
        return "brackets of the drawing do not balance"
    if isinstance(error, json.JSONDecodeError):
        return "drawing is not JSON"
    if isinstance(error, RecursionError):
        return "drawing is nested too deeply"
    return "coordinate has too many digits"  # for Python, which bounds them for security


def _parse_recognized(text: str) -> bool | None:
    try:
        return _RECOGNIZED[text]
    except KeyError as error:
        raise RowError("recognized is neither True nor False", shown(text)) from error


def _split(line: bytes, header: Header) -> dict[str, str]:
    """Fields of one line by column name."""
    csv.field_size_limit(1 << 30)
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RowError("line is not UTF-8", shown(line[error.start :])) from error
    for character, name in _UNFIT_CHARACTERS.items():
        if character in text:
            raise RowError(f"line holds {name}", f"as character {text.index(character) + 1}")
    try:
        fields = next(csv.reader([text], strict=True))
    except csv.Error as error:
        unended = "unexpected end of data" in str(error)
        reason = "line ends inside quotes" if unended else "quotes are misplaced"
        raise RowError(reason, shown(text)) from error
    if len(fields) != len(header.columns):
        which = "fewer" if len(fields) < len(header.columns) else "more"
        found = f"found {len(fields)}, the header has {len(header.columns)}"
        raise RowError(f"line has {which} fields than the header", found)
    return dict(zip(header.columns, fields, strict=True))


@dataclass(frozen=True)
class KaggleReader(LineReader):
    """Reads the rows of one CSV: a `RowReader`.

    word: what each row must say, with spaces or underscores; None: it is passed over. raw: whether
    a stroke is x, y and t, not x and y; such drawings are simplified. Raises `InputError` for a
    word that no line can hold, and for a header without `ROW_COLUMNS`.
    """

    header: Header
    word: str | None
    raw: bool = False

    first_line = 2

    def __post_init__(self) -> None:
        for name in ROW_COLUMNS:
            if name not in self.header.columns:
                raise InputError(f"a CSV of drawings needs the column {name!r}; add it")
        word = self.word or ""
        if any(c in "\n\r\0\ufeff" or "\ud800" <= c <= "\udfff" for c in word):
            raise InputError(
                f"no line of a CSV can hold the word {word!r}: it has a line break, or one "
                "that is no character; rename the file"
            )

    def scan(self, block: UInt8Array, columns: Columns, left: Int64Array) -> tuple[int, int]:
        """See `LineReader.scan`."""
        word = spaced(self.word or "")
        spellings = _field(word), _field(underscored(word))
        raw = make_raw_room() if self.raw else None
        return scan_lines(block, self.codes(), *spellings, raw, columns, left)

    def parse_line(self, line: bytes) -> ParsedRows:
        """See `LineReader.parse_line`. Columns that the header lacks come out as nulls."""
        fields = _split(line, self.header)
        key_id = parse_key_id(fields["key_id"])
        recognized = _parse_recognized(fields.get("recognized", ""))
        timestamp_us = parse_timestamp(fields.get("timestamp", ""))
        if self.word is not None:
            require_word(fields.get("word", self.word), self.word)
        x, y, stroke_lengths = parse_drawing(fields["drawing"], self.raw)
        countrycode = fields.get("countrycode") or None
        return ParsedRows(
            [key_id], [countrycode], [recognized], [timestamp_us], [x], [y], [stroke_lengths]
        )

    def is_whole(self, line: bytes) -> bool:
        """Whether a line has all its fields, the last one to its end as far as can be told."""
        try:
            fields = _split(line, self.header)
        except RowError:
            return False
        if self.header.columns[-1] != "word" or self.word is None:
            return line.rstrip().endswith(b'"')
        said, word = spaced(fields["word"]), spaced(self.word)
        return said == word or not word.startswith(said)

    def codes(self) -> npt.NDArray[np.int8]:
        """What `scan_lines` calls the columns; of two with one name the last one counts."""
        names = self.header.columns
        codes = [
            PASSED_OVER if name in names[column + 1 :] else COLUMN_CODES.get(name, PASSED_OVER)
            for column, name in enumerate(names)
        ]
        if self.word is None:
            codes = [PASSED_OVER if code == COLUMN_CODES["word"] else code for code in codes]
        return np.array(codes, np.int8)


def _field(text: str) -> UInt8Array:
    """A text as CSV writes it: its bytes, UTF-8."""
    if "," in text or '"' in text:
        text = '"' + text.replace('"', '""') + '"'
    return np.frombuffer(text.encode(), np.uint8)


def read_key_id(text: str, header: Header) -> int:
    """The key_id of a line that was rejected for something else. Raises `RowError`."""
    return parse_key_id(_split(text.encode(), header)["key_id"])


def format_drawing(strokes: Sequence[Stroke]) -> str:
    """The JSON text of a drawing, spaced as in Kaggle's files."""
    return json.dumps([[list(x), list(y)] for x, y in strokes])
