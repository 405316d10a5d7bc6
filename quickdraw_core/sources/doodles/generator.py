"""Kaggle's CSVs of generated doodles: a stand-in for the real ones, for a run without data.

In: words, a number of rows, a seed. Out: `FOLDER/<word>.csv`, byte for byte in the form of the
challenge's `train_simplified` files. The same word, rows and seed give the same bytes, whichever
other words are made; a shorter file is the beginning of a longer one. That holds for one version
of NumPy, whose random distributions may change between versions.

A core makes about 5,000 drawings a second.
"""

import filecmp
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np

from quickdraw_core.errors import ConfigError, WriteError
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.formats.kaggle import format_drawing
from quickdraw_core.formats.scanning.simplification import nested, simplify_points
from quickdraw_core.labels import challenge_words, spaced
from quickdraw_core.sources.doodles.geometry import chance
from quickdraw_core.sources.doodles.hand import drawn, spoiled, usual_sloppiness
from quickdraw_core.sources.doodles.programs import program_of
from quickdraw_core.system.files import cause_of, require_writable

UNRECOGNIZED_SHARE = 0.06
ROWS_PER_REPORT = 500

_HEADER = ",".join(TRAIN_COLUMNS) + "\n"

# Thousandths of the real drawings' countries, the most frequent ones; `NA` is Namibia.
_COUNTRIES = {
    "US": 437, "GB": 72, "CA": 38, "DE": 30, "RU": 23, "AU": 23, "BR": 19, "FI": 18, "SE": 18,
    "CZ": 18, "FR": 15, "IT": 15, "PL": 15, "KR": 15, "TH": 13, "PH": 13, "SA": 13, "NL": 12,
    "HU": 12, "ID": 9, "RO": 9, "IN": 8, "SK": 8, "VN": 8, "JP": 8, "AE": 8, "TW": 8, "UA": 6,
    "NO": 6, "MY": 6, "HR": 5, "TR": 5, "NZ": 5, "AT": 5, "HK": 5, "IE": 5, "BG": 4, "PT": 4,
    "RS": 4, "MX": 4, "DK": 4, "ES": 3, "CH": 3, "SG": 3, "IL": 3, "EE": 3, "AR": 3, "BE": 3,
    "ZA": 2, "IQ": 2, "GR": 2, "LT": 2, "NA": 1, "ZZ": 1,
}  # fmt: skip

# Real ids are odd multiples of 2**21 from 2**52 on. The 2**29 of them up to 1.5 * 2**52 are
# dealt out to the 340 words in turn; each word takes its own in an order set by the seed.
_KEY_SHIFT = 21
_FIRST_KEY = 2**31
_KEYS_PER_WORD = 1_579_031
"""A prime, so that every step walks through all; 340 times as many fit into 2**29."""

_FIRST_TIME = datetime(2017, 1, 22)
_TIME_SPAN = 68 * 24 * 3600 * 100_000
"""Time stamps count hundred-thousandths of a second, over the 68 days of most real drawings."""


def generate_drawing(
    word: str, rng: np.random.Generator, unrecognized_share: float
) -> tuple[list[tuple[list[int], list[int]]], bool]:
    """Draws `word` (spaces or underscores) once.

    Returns the simplified strokes, per stroke its x and its y (0..255, at least two points
    each), and whether it is recognised. `unrecognized_share` (0..1) is the chance of a scribble,
    a half-finished or a very sloppy drawing. Raises `InputError` for a word without a program.
    """
    strokes, sloppiness = program_of(word)(rng), usual_sloppiness(rng)
    recognized = not chance(rng, unrecognized_share)
    if not recognized:
        strokes, sloppiness = spoiled(strokes, rng)
    return nested(*simplify_points(*drawn(strokes, rng, sloppiness))), recognized


def generate_csvs(
    folder: Path,
    words: Sequence[str],
    rows: int,
    seed: int,
    on_rows: Callable[[int], None] | None = None,
    unrecognized_share: float = UNRECOGNIZED_SHARE,
) -> list[Path]:
    """Writes `folder/<word>.csv` with `rows` drawings for each of `words`; returns the paths.

    A file appears only when it is whole; one of the same name is replaced. `on_rows` is called
    with the number of rows made since its last call. Raises `InputError` for a word without a
    program, `ConfigError` for a number out of range or a folder that cannot be written, both
    before any file is made, and `WriteError` for a disk that fills up.
    """
    words = list(dict.fromkeys(spaced(word) for word in words))
    for word in words:
        program_of(word)
    if not words:
        raise ConfigError("no word to generate; give at least one")
    if not 1 <= rows <= _KEYS_PER_WORD:
        raise ConfigError(f"rows a word must be 1 to {_KEYS_PER_WORD:,}, found {rows}")
    if seed < 0:
        raise ConfigError(f"the seed must be 0 or more, found {seed}")
    if not 0.0 <= unrecognized_share <= 1.0:
        raise ConfigError(f"the unrecognized share must be 0 to 1, found {unrecognized_share}")
    report = on_rows or (lambda _: None)
    require_writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            _write_csv(
                folder / f"{word}.csv", csv_lines(word, seed, unrecognized_share), rows, report
            )
            for word in words
        ]
    except OSError as error:
        raise WriteError(f"cannot write the doodles to {folder}: {cause_of(error)}") from error


def csv_lines(word: str, seed: int, unrecognized_share: float) -> Iterator[str]:
    """The rows of one word's CSV, without end (up to 1,579,031), each with its line end."""
    digest = hashlib.sha256(word.encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    codes, cumulative = list(_COUNTRIES), np.cumsum(list(_COUNTRIES.values()))
    word_index, words = challenge_words().index(word), len(challenge_words())
    offset, stride = (int(n) for n in rng.integers(1, _KEYS_PER_WORD, 2))
    for row in range(_KEYS_PER_WORD):
        strokes, recognized = generate_drawing(word, rng, unrecognized_share)
        country = codes[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], "right"))]
        time = _FIRST_TIME + timedelta(microseconds=10 * int(rng.integers(_TIME_SPAN)))
        turn = (offset + row * stride) % _KEYS_PER_WORD
        key_id = (_FIRST_KEY + 2 * (turn * words + word_index) + 1) << _KEY_SHIFT
        yield (
            f'{country},"{format_drawing(strokes)}",{key_id},{recognized},'
            f"{time.isoformat(' ', 'microseconds')},{word}\n"
        )


def _write_csv(path: Path, lines: Iterator[str], rows: int, report: Callable[[int], None]) -> Path:
    """Writes the first `rows` lines under a temporary name, then renames: never half a file."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_HEADER)
            while rows:
                count = min(rows, ROWS_PER_REPORT)
                file.writelines(islice(lines, count))
                report(count)
                rows -= count
        # One that is just so already keeps its date, so that an ingest finds nothing changed.
        if not (path.is_file() and filecmp.cmp(partial, path, shallow=False)):
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
