"""What a reader of any format gives: columns of rows, and the lines that it had to refuse.

`Rows` is the form of the compiled readers: flat arrays that become Parquet columns without a
copy. `ParsedRows` is the form of the tolerant ones, which meet few lines and take them one by
one. Lines in = rows out + rejected, always.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from reprlib import Repr

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import (
    DrawingBatch,
    Int64Array,
    UInt8Array,
    UInt64Array,
    joined_bytes,
    joined_offsets,
    ragged_indices,
)

NO_TIME = np.iinfo(np.int64).min
"""In `Rows.timestamps_us`: the source gives no time."""

UNKNOWN_RECOGNIZED = 2
"""In `Rows.recognized`: the source says neither true nor false."""

CUT_SHORT = "row is cut short"
"""Refuses the last row of a file that ends in the middle of it."""


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: object) -> str:
    """A value as it was found, shortened: for `RowError`."""
    return f"found {_SHORT.repr(value)}"


class RowError(ValueError):
    """A line that holds no readable drawing.

    The message is the reason, of which there are few, so that rows can be counted by it; found:
    what this row has instead, in words.
    """

    def __init__(self, reason: str, found: str = "found nothing") -> None:
        super().__init__(reason)
        self.found = found


@dataclass(frozen=True)
class Rejected:
    """A refused line: its number in the file (a CSV's header is line 1), why, its text, and what
    it has instead of what it should.
    """

    line: int
    reason: str
    text: str
    found: str = field(default="", compare=False)


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

    def extend(self, other: "ParsedRows") -> None:
        """Appends the rows of `other`."""
        for column in fields(self):
            getattr(self, column.name).extend(getattr(other, column.name))


@dataclass(frozen=True)
class Rows:
    """N rows as flat arrays, in the file's order.

    key_ids: uint64 [N]; recognized: uint8 [N], 0 false, 1 true, or `UNKNOWN_RECOGNIZED`;
    timestamps_us: int64 [N], microseconds since 1970 UTC, or `NO_TIME`; country_bytes: uint8 [C],
    UTF-8, cut by country_offsets: int64 [N + 1], empty if there is none; drawings: N drawings.
    """

    key_ids: UInt64Array
    recognized: UInt8Array
    timestamps_us: Int64Array
    country_bytes: UInt8Array
    country_offsets: Int64Array
    drawings: DrawingBatch

    def __len__(self) -> int:
        return len(self.key_ids)

    @classmethod
    def of(cls, parsed: ParsedRows) -> "Rows":
        """The rows of a tolerant reader as flat arrays."""
        countries = [(code or "").encode() for code in parsed.countrycodes]
        unsaid = {True: 1, False: 0, None: UNKNOWN_RECOGNIZED}
        return cls(
            np.array(parsed.key_ids, np.uint64),
            np.array([unsaid[value] for value in parsed.recognized], np.uint8),
            np.array([NO_TIME if t is None else t for t in parsed.timestamps_us], np.int64),
            *joined_bytes(countries),
            DrawingBatch.from_packed(parsed.x, parsed.y, parsed.stroke_lengths),
        )

    @classmethod
    def concat(cls, parts: Sequence["Rows"]) -> "Rows":
        """The rows of all `parts`, one after the other."""
        return cls(
            np.concatenate([part.key_ids for part in parts]),
            np.concatenate([part.recognized for part in parts]),
            np.concatenate([part.timestamps_us for part in parts]),
            np.concatenate([part.country_bytes for part in parts]),
            joined_offsets([part.country_offsets for part in parts]),
            DrawingBatch.concat([part.drawings for part in parts]),
        )

    def take(self, indices: npt.NDArray[np.integer]) -> "Rows":
        """The rows at `indices` (int [M]), in that order."""
        countries, country_offsets = ragged_indices(self.country_offsets, indices)
        return Rows(
            self.key_ids[indices],
            self.recognized[indices],
            self.timestamps_us[indices],
            self.country_bytes[countries],
            country_offsets,
            self.drawings.take(indices),
        )
