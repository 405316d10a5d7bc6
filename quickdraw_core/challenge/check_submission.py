"""Checks a submission as Kaggle would: `key_id,word`, up to three words a row.

In: a CSV, whoever wrote it, and the test file that it answers. Out: what is wrong with it.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quickdraw_core.challenge.test_file import open_test_file, parsed_pieces
from quickdraw_core.drawing import UInt64Array
from quickdraw_core.errors import InputError, and_more, first_few, nearest
from quickdraw_core.formats.fields import parse_key_id
from quickdraw_core.formats.rows import RowError
from quickdraw_core.labels import GUESSES, challenge_words, underscored

CHALLENGE_ROWS = 112_199
"""Rows of the challenge's test set."""
_HEADER = ["key_id", "word"]
_EXAMPLES = 3
_PROBLEMS = 10
"""Faulty lines that are named; the rest is counted."""


@dataclass
class SubmissionCheck:
    """What a submission holds. problems: why Kaggle would refuse it; empty if it would not."""

    path: Path
    rows: int = 0
    problems: list[str] = field(default_factory=list)


def check_submission(path: Path, test: str | None = None) -> SubmissionCheck:
    """Reads a submission and says what is wrong with it.

    test: the test file that it answers. None: the challenge's, whose number of rows is known.
    Raises `InputError` for files that cannot be read.
    """
    result, key_ids, faulty = SubmissionCheck(path), [], 0
    known = {underscored(word) for word in challenge_words()}
    for line, row in _rows(path):
        result.rows += 1
        try:
            key_ids.append(_checked(row, known))
        except RowError as error:
            faulty += 1
            if faulty <= _PROBLEMS:
                result.problems.append(f"line {line}: {error}{_advice(error, known)}")
    if faulty > _PROBLEMS:
        result.problems.append(and_more(faulty - _PROBLEMS, "lines").strip())
    answered = np.array(key_ids, np.uint64)
    if test is None:
        result.problems += key_id_problems(answered, result.rows)
    else:
        result.problems += _duplicate_problems(answered)
        asked = [piece.key_ids for _, piece in parsed_pieces(open_test_file(test))]
        asked_ids = np.concatenate([*asked, np.empty(0, np.uint64)])
        result.problems += _differences(answered, asked_ids, test)
    return result


def key_id_problems(key_ids: UInt64Array, rows: int) -> list[str]:
    """Why Kaggle would refuse the key_ids of a submission's rows, uint64 [N]."""
    problems = _duplicate_problems(key_ids)
    if rows != CHALLENGE_ROWS:
        problems.append(f"{rows:,} rows; the challenge's test set has {CHALLENGE_ROWS:,}")
    return problems


def _duplicate_problems(key_ids: UInt64Array) -> list[str]:
    unique, counts = np.unique(key_ids, return_counts=True)
    twice = unique[counts > 1]
    if not len(twice):
        return []
    return [f"{len(twice):,} key_ids stand more than once: {_some(twice)}"]


def _differences(answered: UInt64Array, asked: UInt64Array, test: str) -> list[str]:
    missing, strange = np.setdiff1d(asked, answered), np.setdiff1d(answered, asked)
    problems = []
    if len(missing):
        problems.append(f"{len(missing):,} rows of {test} are not answered: {_some(missing)}")
    if len(strange):
        problems.append(f"{len(strange):,} key_ids are not in {test}: {_some(strange)}")
    return problems


def _some(key_ids: UInt64Array) -> str:
    return first_few([str(key_id) for key_id in key_ids.tolist()], _EXAMPLES)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each row that is not blank. Raises `InputError`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if header != _HEADER:
                raise InputError(
                    f"{path} is no submission: its first line is {','.join(header)!r}, and must "
                    "be 'key_id,word'"
                )
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read the submission {path}: {error}") from error


_WORD = re.compile(r"\S+")


def _checked(row: list[str], known: set[str]) -> int:
    """The key_id of a row. Raises `RowError` if the row is not valid."""
    if len(row) != len(_HEADER):
        raise RowError(f"{len(row)} fields, must be key_id and words")
    key_id, words = parse_key_id(row[0]), _WORD.findall(row[1])
    if not 1 <= len(words) <= GUESSES:
        raise RowError(f"{len(words)} words, must be 1 to {GUESSES} with spaces between")
    if len({*words}) < len(words):
        raise RowError(f"the same word twice: {row[1]!r}")
    for word in words:
        if word not in known:
            raise _WordError(word)
    return key_id


class _WordError(RowError):
    """A word that is no class of the challenge."""

    def __init__(self, word: str) -> None:
        super().__init__(f"no class {word!r}")
        self.word = word


def _advice(error: RowError, known: set[str]) -> str:
    """The words that may be meant; slow, so only for the lines that are named."""
    return f": {nearest(error.word, known, limit=3)}" if isinstance(error, _WordError) else ""
