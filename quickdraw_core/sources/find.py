"""The files of drawings that sources name, checked before work."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from quickdraw_core.credentials import whole_address
from quickdraw_core.errors import InputError, first_few, nearest
from quickdraw_core.labels import challenge_words
from quickdraw_core.names import check_word, clean_word
from quickdraw_core.sources.file_names import word_of
from quickdraw_core.sources.files import SourceFile, inspect
from quickdraw_core.sources.listing import Candidate, expand
from quickdraw_core.storage.urls import (
    address_of,
    scheme_of,
)

_PARALLEL = 16


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be read. word: what its name says; address: for records."""

    word: str
    address: str
    error: InputError


class FoundFiles(NamedTuple):
    """files: to read; bad: those that cannot be read; unread: names that look like files of
    drawings and are not read, each with the reason.
    """

    files: list[SourceFile]
    bad: list[BadFile]
    unread: list[str]


def find_sources(
    sources: str | Path | Sequence[str | Path], words: Iterable[str] | None = None
) -> list[SourceFile]:
    """The files of `sources`, sorted by word; with `words`, of those classes alone.

    Checks before any work: all is there, every word has one file and one alone, every file is
    what its ending promises, and test files do not mix with training files. Raises `InputError`
    otherwise.
    """
    files, bad, _ = find_readable(sources, words)
    if bad:
        raise bad[0].error
    return files


def find_readable(
    sources: str | Path | Sequence[str | Path], words: Iterable[str] | None = None
) -> FoundFiles:
    """What `find_sources` finds, and apart from it what cannot be read or is not read.

    Raises what `find_sources` raises, but for a file only if no file can be read.
    """
    listed = [sources] if isinstance(sources, str | Path) else sources
    given = [whole_address(str(source)) for source in listed]
    if not given:
        raise InputError("no source was given; give a folder, a glob, a file or an address")
    wanted = None if words is None else sorted({clean_word(word) for word in words})
    for word in wanted or ():
        check_word(word)
    candidates: list[Candidate] = []
    unread: list[str] = []
    for source in given:
        expanded, passed_over = expand(source, wanted)
        candidates += expanded
        unread += passed_over
    if wanted is not None:
        unread = [text for text in unread if word_of(text.lstrip(".").partition(".")[0]) in wanted]
        where = ", ".join(address_of(source) for source in given)
        _require_words(wanted, candidates, where, unread)
    by_word: dict[str, Candidate] = {}
    for candidate in candidates:
        if wanted is None or candidate.word in wanted:
            _require_same(by_word.setdefault(candidate.word, candidate), candidate)
    files, bad = _inspect_all(by_word.values())
    _require_one_kind(files)
    files.sort(key=lambda file: file.word or "")
    return FoundFiles(files, sorted(bad, key=lambda b: b.word), unread)


def _require_words(
    wanted: Sequence[str], candidates: Sequence[Candidate], where: str, unread: Sequence[str]
) -> None:
    present = {candidate.word for candidate in candidates}
    absent = next((word for word in wanted if word not in present), None)
    if absent is not None:
        passed_over = f"; not read there: {first_few(unread)}" if unread else ""
        raise InputError(
            f"no class {absent!r} in {where}: {nearest(absent, present)}{passed_over}"
        )


def _require_same(first: Candidate, second: Candidate) -> None:
    if (first.location, first.member) != (second.location, second.member):
        raise InputError(
            f"two files hold {first.word!r}: {first.address} and {second.address}; give one of "
            "them"
        )


def _require_one_kind(files: Sequence[SourceFile]) -> None:
    """Raises `InputError` unless all files have a word, or it is one test file."""
    test = [file for file in files if file.word is None]
    if test and len(files) > 1:
        other = next(file for file in files if file is not test[0])
        kind = "a test file too" if other.word is None else "a training file"
        raise InputError(
            f"{test[0].address} is a test file, without words, and {other.address} is {kind}; "
            "give a test file alone"
        )


def _inspect_all(
    candidates: Iterable[Candidate],
) -> tuple[list[SourceFile], list[BadFile]]:
    """Inspects files side by side. Raises the first error if no file can be read; of a server, if
    none of the first `_PARALLEL` can.
    """
    files: list[SourceFile] = []
    bad: list[BadFile] = []
    with ThreadPoolExecutor(_PARALLEL) as pool:
        inspections = [(candidate, pool.submit(_inspect, candidate)) for candidate in candidates]
        try:
            for candidate, inspection in inspections:
                try:
                    files.append(inspection.result())
                except InputError as error:
                    bad.append(BadFile(candidate.word, candidate.address, error))
                    is_unreachable = scheme_of(candidate.location) and len(bad) == _PARALLEL
                    if not files and (is_unreachable or len(bad) == len(inspections)):
                        raise bad[0].error from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return files, bad


def _inspect(candidate: Candidate) -> SourceFile:
    try:
        if candidate.error is not None:
            raise candidate.error
        file = inspect(candidate.location, candidate.word, candidate.member)
        _require_word(file)
        return file
    except InputError as error:
        known = challenge_words()
        if not candidate.from_template or candidate.word in known:
            raise
        raise InputError(f"{error}; of the class, {nearest(candidate.word, known)}") from error


def _require_word(file: SourceFile) -> None:
    try:
        if file.word is not None:
            check_word(file.word)
    except InputError as error:
        raise InputError(f"{file.address}: {error}") from error
