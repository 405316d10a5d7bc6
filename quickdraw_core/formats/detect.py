"""Which form a file has, by its name and its first bytes.

In: a name and the head of the decompressed file. Out: a `FileFormat`, all that a reader must know
before the first row. Whether the rows themselves can be read is the reader's business: a bad
first row does not decide anything here.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from quickdraw_core.errors import InputError

TRAIN_COLUMNS = ("countrycode", "drawing", "key_id", "recognized", "timestamp", "word")
TEST_COLUMNS = ("key_id", "countrycode", "drawing")

BLANK = b" \t\r\n"
"""All that a blank line may hold."""


class Layout(StrEnum):
    """How drawings stand in a file."""

    CSV = "csv"
    """Kaggle's: a header, then one drawing a line."""

    NDJSON = "ndjson"
    """Google's: one JSON object a line."""

    BINARY = "binary"
    """Google's packed records; always simplified."""


@dataclass(frozen=True)
class FileFormat:
    """The format of a file.

    raw: strokes have three lists (x, y, t) instead of two; header: a CSV's columns, in the
    file's order; data_offset: byte of the decompressed file where the first row begins.
    """

    layout: Layout
    raw: bool
    header: tuple[str, ...] | None
    data_offset: int

    @property
    def has_word(self) -> bool:
        """False for Kaggle's test files: their rows do not say what they draw."""
        return self.header is None or "word" in self.header


ENDINGS = {
    ".csv": Layout.CSV,
    ".ndjson": Layout.NDJSON,
    ".jsonl": Layout.NDJSON,
    ".bin": Layout.BINARY,
}
"""Ending of a file's name → its layout. Each may be followed by `.gz`."""

EXPECTED_NAMES = "files end in " + ", ".join(ENDINGS) + ", each also with .gz"
"""For messages about names that fit none of them."""

_BOM = b"\xef\xbb\xbf"
_LINES_LOOKED_AT = 64
_VOTES = 5
_NUMBERS = rb"\s*\[[^\[\]]*\]\s*"
_FIRST_STROKE = re.compile(
    rb"\[\s*\[" + _NUMBERS + rb"," + _NUMBERS + rb"(?P<times>," + _NUMBERS + rb")?\]"
)
"""A drawing's opening brackets and its first stroke: lists of x, of y and, if raw, of t."""


@dataclass(frozen=True)
class Header:
    """Where the columns of a CSV stand, and how many there are."""

    columns: tuple[str, ...]

    @classmethod
    def parse(cls, line: bytes, required: Sequence[str], path: object) -> "Header":
        """Reads a header line.

        Raises `InputError`, naming `path`, if a required column is missing or stands twice.
        """
        text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
        try:
            columns = tuple(name.strip() for name in next(csv.reader([text]), []))
        except csv.Error:
            columns = (text,)
        missing = [name for name in required if name not in columns]
        if missing:
            found = ", ".join(columns)[:120] or "an empty line"
            found = "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in found)
            raise InputError(
                f"{path} lacks the column {missing[0]!r}: its header is {found}"
                f"{_other_separator(columns)}; Kaggle's CSV needs {', '.join(TRAIN_COLUMNS)}, a "
                f"test file {', '.join(TEST_COLUMNS)}"
            )
        for name in required:
            if columns.count(name) > 1:
                raise InputError(f"{path} has the column {name!r} twice; remove or rename one")
        return cls(columns)


def _other_separator(columns: Sequence[str]) -> str:
    """What separates the columns of a header instead of commas, for a message."""
    found = [mark for mark in (";", "\t", "|") if len(columns) == 1 and mark in columns[0]]
    return f", with {found[0]!r} between columns and not a comma" if found else ""


def split_name(name: str) -> tuple[str, Layout | None]:
    """A file's name without its endings, and its layout: None if the ending is not known."""
    plain = name[:-3] if name.lower().endswith(".gz") else name
    for ending, layout in ENDINGS.items():
        if plain.lower().endswith(ending) and len(plain) > len(ending):
            return plain[: -len(ending)], layout
    return plain, None


def detect_format(head: bytes, name: str) -> FileFormat:
    """The format of the file `name`, whose decompressed bytes begin with `head`.

    Raises `InputError` that names the file if its ending is not known, it holds nothing, or
    its content is not what the ending promises.
    """
    _, layout = split_name(name)
    if layout is None:
        raise InputError(f"{name} has no known ending: {EXPECTED_NAMES}")
    if not head.removeprefix(_BOM):
        raise InputError(f"{name} is empty; fetch it again, or leave it out")
    if layout is Layout.BINARY:
        return _detect_binary(head, name)
    return _detect_csv(head, name) if layout is Layout.CSV else _detect_ndjson(head, name)


def _detect_csv(head: bytes, name: str) -> FileFormat:
    line, _, rows = _without_blank_lines(head).partition(b"\n")
    columns = Header.parse(line, (), name).columns
    unlabelled = not {"word", "recognized", "timestamp"}.intersection(columns)
    is_test = unlabelled and set(TEST_COLUMNS).issubset(columns)
    header = Header.parse(line, TEST_COLUMNS if is_test else TRAIN_COLUMNS, name)
    _require_rows(rows, name, "its header alone")
    return FileFormat(Layout.CSV, _is_raw(rows), header.columns, len(head) - len(rows))


def _detect_ndjson(head: bytes, name: str) -> FileFormat:
    rows = head.removeprefix(_BOM)
    _require_rows(rows, name, "blank lines alone")
    lines = [line.strip() for line in rows.splitlines() if line.strip()]
    if not any(line.startswith(b"{") and b'"drawing"' in line for line in lines):
        raise InputError(
            f"{name} holds no drawings: its first line is {_quoted(lines[0])}; Google's ndjson "
            'has a JSON object with a "drawing" on each line'
        )
    return FileFormat(Layout.NDJSON, _is_raw(rows), None, len(head) - len(rows))


def _detect_binary(head: bytes, name: str) -> FileFormat:
    # A record's fifth to eighth bytes are the upper half of a key_id, and text has no bytes
    # below 9; a real record has zeros in its first ones.
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:64]):
        raise InputError(
            f"{name} holds text: it begins with {_quoted(head)}; Google's binary form is "
            "packed records of a key_id, a country and strokes"
        )
    return FileFormat(Layout.BINARY, False, None, 0)


def _without_blank_lines(head: bytes) -> bytes:
    """`head` from its first line on that is not blank, without a byte order mark."""
    head = head.removeprefix(_BOM)
    rows = head.lstrip(BLANK)
    return head[head.rfind(b"\n", 0, len(head) - len(rows)) + 1 :]


def _require_rows(rows: bytes, name: str, found: str) -> None:
    if not rows.strip():
        raise InputError(f"{name} holds no rows: found {found}; fetch it again, or leave it out")


def _is_raw(rows: bytes) -> bool:
    """What most of the first lines say that look like a drawing; False if none does."""
    strokes = (_FIRST_STROKE.search(line) for line in rows.split(b"\n", _LINES_LOOKED_AT))
    votes = [match["times"] is not None for match in islice(filter(None, strokes), _VOTES)]
    return sum(votes) * 2 > len(votes)


def _quoted(line: bytes) -> str:
    text = line[:60].decode(errors="replace")
    return repr("".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text))
