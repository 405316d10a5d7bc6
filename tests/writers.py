"""One drawing written in each published form, for tests that need files of them."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st
from strategies import drawing

from quickdraw_core.drawing import Stroke
from quickdraw_core.formats.kaggle import format_drawing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """What all forms say of a drawing; strokes: pairs of xs and ys, integers 0..255.

    timestamp_us: microseconds since 1970 UTC; the binary form keeps whole seconds of it.
    """

    key_id: int
    countrycode: str | None
    recognized: bool
    timestamp_us: int
    word: str
    strokes: Sequence[Stroke]


def csv_line(row: Row) -> bytes:
    """A line of Kaggle's training CSV, in the order of `TRAIN_COLUMNS`."""
    moment = _moment(row).isoformat(" ", "microseconds").removesuffix("+00:00")
    fields = (
        row.countrycode or "",
        f'"{format_drawing(row.strokes)}"',
        str(row.key_id),
        str(row.recognized),
        moment,
        row.word,
    )
    return (",".join(fields) + "\n").encode()


def ndjson_line(row: Row) -> bytes:
    """A line of Google's simplified ndjson: a fraction of a second without trailing zeros."""
    moment = _moment(row).isoformat(" ", "microseconds").removesuffix("+00:00")
    fields = {
        "word": row.word,
        "countrycode": row.countrycode or "",
        "timestamp": moment.rstrip("0").rstrip(".") + " UTC",
        "recognized": row.recognized,
        "key_id": str(row.key_id),
        "drawing": [[list(x), list(y)] for x, y in row.strokes],
    }
    return (json.dumps(fields, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def binary_record(row: Row) -> bytes:
    """A record of Google's binary form."""
    country = (row.countrycode or "").encode()
    seconds = row.timestamp_us // 1_000_000
    strokes = [struct.pack("<H", len(x)) + bytes(x) + bytes(y) for x, y in row.strokes]
    head = struct.pack("<Q2sbIH", row.key_id, country, row.recognized, seconds, len(row.strokes))
    return head + b"".join(strokes)


def _moment(row: Row) -> datetime:
    return _EPOCH + timedelta(microseconds=row.timestamp_us)


rows = st.builds(
    Row,
    key_id=st.integers(0, 2**64 - 1),
    countrycode=st.none() | st.sampled_from(["US", "NA", "ZZ"]),
    recognized=st.booleans(),
    timestamp_us=st.integers(0, 2**32 * 1_000_000 - 1),
    word=st.sampled_from(["cat", "ice cream"]),
    strokes=drawing,
)
"""A strategy of rows that all forms can hold."""


def random_rows(rng: np.random.Generator, count: int, word: str = "cat") -> list[Row]:
    """`count` rows of random scribbles, with as many strokes and points as real drawings have."""
    return [
        Row(
            key_id=int(rng.integers(1 << 43)) << 21,
            countrycode=("US", "GB", "NA", "ZZ", None)[rng.integers(5)],
            recognized=bool(rng.random() < 0.92),
            timestamp_us=1_488_000_000_000_000 + int(rng.integers(10**13)),
            word=word,
            strokes=[_random_stroke(rng) for _ in range(1 + min(rng.geometric(0.23), 74))],
        )
        for _ in range(count)
    ]


def _random_stroke(rng: np.random.Generator) -> Stroke:
    points = rng.integers(256, size=(2, 1 + min(int(rng.geometric(0.13)), 500)))
    return points[0].tolist(), points[1].tolist()
