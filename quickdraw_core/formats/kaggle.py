"""Kaggle's CSV: a header, then one drawing a line.

    countrycode,drawing,key_id,recognized,timestamp,word      train_simplified/<word>.csv
    key_id,countrycode,drawing                                test_simplified.csv

In: lines as bytes. Out: columns (`ParsedRows`) and, for each line that cannot be read, a
`Rejected` with its reason, so that lines in = rows out + rejected. The format holds no line
break inside a field, so a line is a row, and a stray quote costs that line alone.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from quickdraw_core.drawing import Stroke
from quickdraw_core.errors import InputError, nearest
from quickdraw_core.labels import spaced

TRAIN_COLUMNS = ("countrycode", "drawing", "key_id", "recognized", "timestamp", "word")
TEST_COLUMNS = ("key_id", "countrycode", "drawing")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RECOGNIZED = {"True": True, "False": False, "None": None, "": None}
_DRAWING_CHARACTERS = frozenset("0123456789[], ")
_MAX_STROKE_POINTS = 65_535


class RowError(ValueError):
    """A line that holds no readable drawing; the message is the reason, without the text."""


@dataclass(frozen=True)
class Rejected:
    """A refused line: its number in the file (the header is line 1), why, and its text."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Header:
    """Where the columns of a CSV stand, and how many there are."""

    columns: tuple[str, ...]

    @classmethod
    def parse(cls, line: bytes, required: Sequence[str], path: object) -> "Header":
        """Reads a header line; missing columns are an `InputError` that names `path`."""
        text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
        columns = tuple(name.strip() for name in next(csv.reader([text]), []))
        missing = [name for name in required if name not in columns]
        if missing:
            found = ", ".join(columns)[:120] or "an empty line"
            found = "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in found)
            raise InputError(
                f"{path} lacks the column {missing[0]!r}: its header is {found}; "
                f"Kaggle's CSV needs {', '.join(required)}"
            )
        return cls(columns)


@dataclass
class ParsedRows:
    """Columns of N rows, in the file's order; drawings as the store's packed bytes.

    x and y: the coordinates of all points of a drawing, one byte each; stroke_lengths: points
    a stroke, little-endian uint16; timestamps_us: microseconds since 1970 UTC.
    """

    key_ids: list[int] = field(default_factory=list)
    countrycodes: list[str | None] = field(default_factory=list)
    recognized: list[bool | None] = field(default_factory=list)
    timestamps_us: list[int | None] = field(default_factory=list)
    x: list[bytes] = field(default_factory=list)
    y: list[bytes] = field(default_factory=list)
    stroke_lengths: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.key_ids)


def parse_drawing(text: str) -> tuple[bytes, bytes, bytes]:
    """Packs a drawing's JSON, `[[[x, …], [y, …]], …]`, as (x, y, stroke lengths).

    Raises `RowError` when it is not a non-empty list of strokes of as many x as y, all of
    them integers 0..255.
    """
    try:
        strokes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError("drawing is not JSON") from error
    if not isinstance(strokes, list) or not strokes:
        raise RowError("drawing has no stroke")
    xs, ys, lengths = bytearray(), bytearray(), bytearray()
    for stroke in strokes:
        x, y = _parse_stroke(stroke)
        xs += x
        ys += y
        lengths += len(x).to_bytes(2, "little")
    if not _DRAWING_CHARACTERS.issuperset(text):
        raise RowError("coordinate is not an integer")  # true and false count as int in Python
    return bytes(xs), bytes(ys), bytes(lengths)


def _parse_stroke(stroke: object) -> tuple[bytes, bytes]:
    if not isinstance(stroke, list) or len(stroke) != 2:
        raise RowError("stroke is not a pair of x and y")
    if not all(isinstance(axis, list) for axis in stroke):
        raise RowError("stroke is not a pair of x and y")
    if len(stroke[0]) != len(stroke[1]):
        raise RowError("x and y differ in length")
    if not stroke[0]:
        raise RowError("stroke is empty")
    if len(stroke[0]) > _MAX_STROKE_POINTS:
        raise RowError("stroke has more than 65535 points")
    try:
        return bytes(stroke[0]), bytes(stroke[1])
    except ValueError as error:
        raise RowError("coordinate is outside 0..255") from error
    except TypeError as error:
        raise RowError("coordinate is not an integer") from error


def _parse_key_id(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise RowError("key_id is not a number")
    value = int(text) if len(text) <= 20 else 1 << 64
    if value >= 1 << 64:
        raise RowError("key_id is over 64 bits")
    return value


def _parse_timestamp(text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError as error:
        raise RowError("timestamp is not a date and time") from error
    if moment.tzinfo is None:  # Kaggle's times are UTC, unsaid
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def _parse_recognized(text: str) -> bool | None:
    try:
        return _RECOGNIZED[text]
    except KeyError as error:
        raise RowError("recognized is neither True nor False") from error


def _split(line: bytes, header: Header) -> dict[str, str]:
    """Fields of one line by column name."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RowError("line is not UTF-8") from error
    try:
        fields = next(csv.reader([text.rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise RowError("line is not CSV") from error
    if len(fields) != len(header.columns):
        raise RowError("line has another number of fields than the header")
    return dict(zip(header.columns, fields, strict=True))


def parse_lines(
    lines: Iterable[bytes], header: Header, first_line: int, word: str | None
) -> tuple[ParsedRows, list[Rejected]]:
    """Reads data lines; `first_line` is the number of the first one (2 right after the header).

    With `word` each row must carry that word, spaces or underscores. Columns that the header
    lacks come out as nulls. Lines = rows + rejected, always.
    """
    csv.field_size_limit(1 << 30)
    rows, rejected = ParsedRows(), []
    for number, line in enumerate(lines, first_line):
        try:
            fields = _split(line, header)
            key_id = _parse_key_id(fields["key_id"])
            recognized = _parse_recognized(fields.get("recognized", ""))
            timestamp_us = _parse_timestamp(fields.get("timestamp", ""))
            if word is not None and spaced(fields["word"]) != word:
                raise RowError("word is not that of the file")
            x, y, stroke_lengths = parse_drawing(fields["drawing"])
        except RowError as error:
            text = line.rstrip(b"\r\n").decode(errors="backslashreplace")
            rejected.append(Rejected(number, str(error), text))
            continue
        rows.key_ids.append(key_id)
        rows.countrycodes.append(fields.get("countrycode") or None)
        rows.recognized.append(recognized)
        rows.timestamps_us.append(timestamp_us)
        rows.x.append(x)
        rows.y.append(y)
        rows.stroke_lengths.append(stroke_lengths)
    return rows, rejected


def read_key_id(text: str, header: Header) -> int:
    """The key_id of a line that was rejected for something else. Raises `RowError`."""
    return _parse_key_id(_split(text.encode(), header)["key_id"])


def format_drawing(strokes: Sequence[Stroke]) -> str:
    """The JSON text of a drawing, spaced as in Kaggle's files."""
    return json.dumps([[list(x), list(y)] for x, y in strokes])


def require_known_words(words: Iterable[str], known: Iterable[str], where: object) -> None:
    """Raises `InputError` for the first of `words` that `where` does not hold."""
    present = set(known)
    for word in words:
        if word not in present:
            raise InputError(f"no class {word!r} in {where}: {nearest(word, present)}")
