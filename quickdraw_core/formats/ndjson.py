"""Google's ndjson: one drawing a line, as a JSON object; no header.

    {"word":"cat","countrycode":"VE","timestamp":"2017-03-02 23:25:10.07453 UTC",
     "recognized":true,"key_id":"5201136883597312","drawing":[[[130,113],[72,40]]]}

The raw files have the same keys; a stroke is `[[x, …], [y, …], [t, …]]`.

In: lines as bytes. Out: columns (`ParsedRows`) and, for each line that cannot be read, a
`Rejected` with its reason, so that lines in = rows out + rejected. JSON writes a line break
inside a string as `\\n`, so a line is a row.

Source of the form: the README of Google's `quickdraw-dataset`.
"""

import json
from dataclasses import dataclass

import numpy as np

from quickdraw_core.drawing import Int64Array, UInt8Array
from quickdraw_core.formats.fields import parse_key_id, parse_timestamp, require_word
from quickdraw_core.formats.lines import LineReader
from quickdraw_core.formats.rows import ParsedRows, RowError, shown
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.ndjson_scan import scan_lines
from quickdraw_core.formats.scanning.raw_scan import make_raw_room
from quickdraw_core.formats.strokes import pack_raw_strokes, pack_strokes
from quickdraw_core.labels import spaced, underscored

Fields = dict[str, object]


def _unique(pairs: list[tuple[str, object]]) -> Fields:
    """An object as a dict. A key that stands twice has no one value, so it is refused."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RowError("a key stands twice in one object", shown(twice))
    return fields


def _refuse_constant(name: str) -> None:
    """Python's decoder takes NaN and the infinities, which JSON does not know."""
    raise RowError("line is not JSON", shown(name))


_ANY_WORD = np.frombuffer(b"", np.uint8)
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _decode(line: bytes) -> Fields:
    """The members of one line's object by key."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RowError("line is not UTF-8", shown(line[error.start :])) from error
    try:
        fields = _DECODER.decode(text)
    except RowError:
        raise
    except (ValueError, RecursionError) as error:
        raise RowError(_why_not_json(text.strip(), error), shown(text)) from error
    if not isinstance(fields, dict):
        raise RowError("line is not a JSON object", shown(fields))
    return fields


def _why_not_json(text: str, error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return "line has a number of too many digits or is nested too deeply"
    if text.startswith("{") and not text.endswith("}"):
        return "line ends inside its object"
    if text.count("[") != text.count("]"):
        return "brackets of the line do not balance"
    return "line is not JSON"


def _required(fields: Fields, key: str) -> object:
    value = fields.get(key)
    if value is None:
        raise RowError(f"{key} is missing")
    return value


def _parse_key_id(value: object) -> int:
    """A string of digits, as Google writes it, or a number; true and false are neither."""
    if type(value) is int:
        return parse_key_id(str(value))
    if not isinstance(value, str):
        raise RowError("key_id is not a number", shown(value))
    return parse_key_id(value)


def _parse_countrycode(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError("countrycode is not text", shown(value))
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of an escaped pair: "\ud800"
        raise RowError("countrycode is not text", shown(value)) from error
    return value or None


def _parse_recognized(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise RowError("recognized is neither true nor false", shown(value))
    return value


def _parse_timestamp(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError("timestamp is not a date and time", shown(value))
    return parse_timestamp(value)


def _spelled(word: str) -> UInt8Array:
    """A word as a JSON string, in quotes: its bytes, ASCII."""
    return np.frombuffer(json.dumps(word).encode(), np.uint8)


@dataclass(frozen=True)
class NdjsonReader(LineReader):
    """Reads the rows of one ndjson file: a `RowReader`.

    word: what each row must say, with spaces or underscores; None: it is passed over. raw: whether
    a stroke is x, y and t, not x and y; such drawings are simplified. Keys may stand in any order;
    those not known are passed over. A countrycode, recognized or timestamp that is missing or null
    comes out as a null.
    """

    word: str | None
    raw: bool = False

    def scan(self, block: UInt8Array, columns: Columns, left: Int64Array) -> tuple[int, int]:
        """See `LineReader.scan`."""
        spellings = _ANY_WORD, _ANY_WORD
        if self.word is not None:
            spellings = _spelled(spaced(self.word)), _spelled(underscored(self.word))
        raw = make_raw_room() if self.raw else None
        return scan_lines(block, *spellings, raw, columns, left)

    def parse_line(self, line: bytes) -> ParsedRows:
        """See `LineReader.parse_line`."""
        fields = _decode(line)
        key_id = _parse_key_id(_required(fields, "key_id"))
        recognized = _parse_recognized(fields.get("recognized"))
        timestamp_us = _parse_timestamp(fields.get("timestamp"))
        if self.word is not None:
            require_word(_required(fields, "word"), self.word)
        countrycode = _parse_countrycode(fields.get("countrycode"))
        strokes = _required(fields, "drawing")
        x, y, stroke_lengths = pack_raw_strokes(strokes) if self.raw else pack_strokes(strokes)
        return ParsedRows(
            [key_id], [countrycode], [recognized], [timestamp_us], [x], [y], [stroke_lengths]
        )

    def is_whole(self, line: bytes) -> bool:
        """Whether a line has the end of its object."""
        return line.rstrip().endswith(b"}")
