"""The first line of Kaggle's CSV: which columns a file has, and where they stand."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from quickdraw_core.errors import InputError

TRAIN_COLUMNS = ("countrycode", "drawing", "key_id", "recognized", "timestamp", "word")
TEST_COLUMNS = ("key_id", "countrycode", "drawing")


@dataclass(frozen=True)
class Header:
    """Where the columns of a CSV stand, and how many there are."""

    columns: tuple[str, ...]

    @classmethod
    def parse(cls, line: bytes, required: Sequence[str], path: object) -> "Header":
        """Reads a header line.

        Raises `InputError`, naming `path`, where a required column is missing or stands twice.
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
