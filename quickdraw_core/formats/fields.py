"""The small fields of a row as text → their values: what the tolerant readers share."""

import re
from datetime import UTC, datetime, timedelta

from quickdraw_core.formats.rows import RowError, shown
from quickdraw_core.labels import is_same_word, spaced

WRONG_WORD = "word is not that of the file"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLOAT = re.compile(r"\d+\.\d*([eE]\+?\d+)?|\d+[eE]\+?\d+")
"""As `5.04787e+15`: what spreadsheets, and pandas beside missing values, make of it."""
_MICROSECOND = timedelta(microseconds=1)


def parse_key_id(text: str) -> int:
    """A key_id of decimal digits, below 2**64. Raises `RowError`."""
    if not text:
        raise RowError("key_id is missing")
    if text[0] == "-" and text[1:].isdigit():
        raise RowError("key_id is negative", shown(text))
    if _FLOAT.fullmatch(text):
        raise RowError("key_id went through a float, which loses its last digits", shown(text))
    if not (text.isascii() and text.isdigit()):
        raise RowError("key_id is not a number", shown(text))
    value = int(text) if len(text) <= 20 else 1 << 64
    if value >= 1 << 64:
        raise RowError("key_id is over 64 bits", shown(text))
    return value


def parse_timestamp(text: str) -> int | None:
    """A date and time as microseconds since 1970; UTC unless it says otherwise, None if empty.

    Raises `RowError`.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError as error:
        raise RowError("timestamp is not a date and time", shown(text)) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def require_word(text: object, word: str) -> None:
    """Raises `RowError` unless a row says the `word` of its file, with spaces or underscores."""
    if not isinstance(text, str) or not is_same_word(text, word):
        file_says = f"by its name the file should hold {spaced(word)!r}"
        row_says = shown(text).removeprefix("found ")
        raise RowError(WRONG_WORD, f"the row says {row_says}, {file_says}")
