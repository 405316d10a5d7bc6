"""From what a user writes (a folder, a glob, a file, an address) to files, checked before work.

data/train_simplified                   a folder: its files that end in a known way
data/*.ndjson.gz   s3://bucket/**/*.csv a glob
data/sun.csv       gs://bucket/sun.bin  one file
train_simplified.zip   all.zip/train_raw    a zip file, or a folder, a file or a glob inside of it
https://host/raw/                       a page of links, such as `python -m http.server` makes
https://host/raw/{word}.ndjson          a template, filled with the wanted classes
"""

import glob
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from quickdraw_core.credentials import whole_address
from quickdraw_core.errors import InputError, nearest
from quickdraw_core.formats.detect import EXPECTED_NAMES, split_name
from quickdraw_core.labels import challenge_words
from quickdraw_core.names import check_word, clean_word
from quickdraw_core.sources.files import SourceFile, inspect
from quickdraw_core.sources.lookalikes import why_unread
from quickdraw_core.sources.objects import list_objects
from quickdraw_core.sources.stored import Listed
from quickdraw_core.sources.zipped import ZipMember, is_zip_name, list_zip
from quickdraw_core.storage.urls import (
    OBJECT_SCHEMES,
    address_of,
    name_of,
    normal_object_url,
    scheme_of,
)

WEB_SCHEMES = ("http", "https")

_TEMPLATE = re.compile(r"\{word\}|%7[Bb]word%7[Dd]")
_GOOGLE_PREFIX = re.compile(r"^full_(simplified|raw|binary|numpy_bitmap)_")
_COPY = re.compile(r"(?: ?\(\d+\)| - Copy(?: \(\d+\))?)$")
"""What browsers and file managers put behind the name of a second copy: `cat (1).bin`."""
_PARALLEL = 16
_SHOWN = 5


@dataclass(frozen=True)
class _Candidate:
    """A file that was named or found; not looked at yet."""

    location: str
    word: str
    from_template: bool = False
    member: ZipMember | None = None
    error: InputError | None = None

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        address = address_of(self.location)
        return address if self.member is None else f"{address}/{self.member.name}"


class _Listing(NamedTuple):
    """The files of a folder, and what looks like one and is not read: name and why."""

    files: list[str]
    unread: list[str]


@dataclass(frozen=True)
class BadFile:
    """A file that was found and cannot be read. word: what its name says; address: for records."""

    word: str
    address: str
    error: InputError


class FoundFiles(NamedTuple):
    """The files to read, those that cannot be read, and what looks like drawings and is not read:
    name and why.
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
    found = find_readable(sources, words)
    if found.bad:
        raise found.bad[0].error
    return found.files


def find_readable(
    sources: str | Path | Sequence[str | Path], words: Iterable[str] | None = None
) -> FoundFiles:
    """What `find_sources` finds, and apart from it the files that cannot be read and what looks
    like one.

    Raises what `find_sources` raises, but for a file only where no file can be read.
    """
    listed = [sources] if isinstance(sources, str | Path) else sources
    given = [whole_address(str(source)) for source in listed]
    if not given:
        raise InputError("no source was given; give a folder, a glob, a file or an address")
    wanted = None if words is None else sorted({clean_word(word) for word in words})
    for word in wanted or ():
        check_word(word)
    candidates: list[_Candidate] = []
    unread: list[str] = []
    for source in given:
        expanded, passed_over = _expand(source, wanted)
        candidates += expanded
        unread += passed_over
    if wanted is not None:
        unread = [text for text in unread if word_of(text.lstrip(".").partition(".")[0]) in wanted]
        where = ", ".join(address_of(source) for source in given)
        _require_words(wanted, candidates, where, unread)
    by_word: dict[str, _Candidate] = {}
    for candidate in candidates:
        if wanted is None or candidate.word in wanted:
            _require_same(by_word.setdefault(candidate.word, candidate), candidate)
    files, bad = _inspect_all(by_word.values())
    _require_one_kind(files)
    files.sort(key=lambda file: file.word or "")
    return FoundFiles(files, sorted(bad, key=lambda b: b.word), unread)


def _require_words(
    wanted: Sequence[str], candidates: Sequence[_Candidate], where: str, unread: Sequence[str]
) -> None:
    present = {candidate.word for candidate in candidates}
    absent = next((word for word in wanted if word not in present), None)
    if absent is not None:
        passed_over = f"; not read there: {', '.join(unread[:_SHOWN])}" if unread else ""
        raise InputError(
            f"no class {absent!r} in {where}: {nearest(absent, present)}{passed_over}"
        )


def word_of(name: str) -> str:
    """The word that a file's name stands for, with spaces: `ice cream` of `ice_cream.csv.gz`.

    As downloads really are named: with the folders of Google's public files in front
    (`full_simplified_cat.ndjson`, `full%2Fbinary%2Fcat.bin`), or a browser's mark of a copy behind
    (`cat (1).bin`). Whether it has a word's form is not looked at (`names.check_word`).
    """
    stem = split_name(unquote(name).rpartition("/")[2])[0]
    return clean_word(_GOOGLE_PREFIX.sub("", _COPY.sub("", stem)))


def _expand(source: str, wanted: Sequence[str] | None) -> tuple[list[_Candidate], Sequence[str]]:
    """The files of a source, and what looks like one and is not read."""
    scheme = scheme_of(source)
    if scheme == "file":
        scheme, source = "", unquote(urlsplit(source).path)
    if scheme in WEB_SCHEMES:
        _require_no_login(source)
    if scheme and _TEMPLATE.search(source):
        return _fill(source, wanted), ()
    zipped = _split_zip(source)
    if zipped is not None:
        return _inside_zip(*zipped)
    if not scheme:
        found = _local(source)
    elif scheme in OBJECT_SCHEMES:
        found = _objects(source)
    elif scheme in WEB_SCHEMES:
        found = _web(source)
    else:
        known = ", ".join(f"{name}://" for name in (*OBJECT_SCHEMES, *WEB_SCHEMES))
        raise InputError(f"cannot read from {scheme}://; give a local path or one of {known}")
    candidates, unread = [], list(found.unread)
    for location in found.files:
        files, passed_over = _candidates(location)
        candidates += files
        unread += passed_over
    return candidates, unread


def _candidates(location: str) -> tuple[list[_Candidate], Sequence[str]]:
    """The file at a location, or the files inside, where it is a zip file; and what looks like
    one there and is not read.
    """
    _require_no_companion(location)
    name = name_of(location)
    if not is_zip_name(name):
        return [_Candidate(location, word_of(name))], ()
    try:
        return _inside_zip(location, "")
    except InputError as error:
        return [_Candidate(location, word_of(_unzipped_name(name)), error=error)], ()


def _split_zip(source: str) -> tuple[str, str] | None:
    """The location of the zip file that a source names, and the path inside of it, if any."""
    if scheme_of(source):
        address, mark, query = source.partition("?")
        parts = re.fullmatch(r"(.*?\.zip)(?:/(.*))?", address, re.IGNORECASE)
        if parts is None or glob.has_magic(parts[1]):
            return None
        location = parts[1] + mark + query
        if scheme_of(source) in OBJECT_SCHEMES:
            location = normal_object_url(location)
        return location, unquote(parts[2] or "")
    path = Path(source).expanduser().absolute() if ".zip" in source.lower() else Path()
    for folder in [*reversed(path.parents), path]:
        if is_zip_name(folder.name) and folder.is_file():
            return str(folder), "" if folder == path else path.relative_to(folder).as_posix()
    return None


def _inside_zip(location: str, inside: str) -> tuple[list[_Candidate], list[str]]:
    """The files of drawings in a zip file, all or those that a path or glob in it names; and what
    looks like one and is not read.
    """
    listed = list_zip(location)
    pattern = inside.strip("/").split("/") if inside.strip("/") else ["**"]
    matching = [
        member
        for member in listed
        if _matches(member.name.split("/"), pattern)
        or _matches(member.name.split("/"), [*pattern, "*"])
    ]
    names = {member: member.name.rpartition("/")[2] for member in matching}
    found = [
        _Candidate(location, word_of(name), member=member)
        for member, name in names.items()
        if _is_file_name(name)
    ]
    if not found:
        address = f"{address_of(location)}/{inside}".rstrip("/")
        names_there = _found(member.name for member in listed)
        raise InputError(f"no file of drawings in {address}: {names_there}; {EXPECTED_NAMES}")
    return found, _unread((name, False) for name in names.values() if not _is_file_name(name))


def _unread(names: Iterable[tuple[str, bool]]) -> list[str]:
    """Of names that are not read, and whether each is a folder's: those of drawings, and why."""
    reasons = ((name, why_unread(name, is_folder)) for name, is_folder in names)
    return [f"{name} ({why})" for name, why in reasons if why is not None]


def _fill(template: str, wanted: Sequence[str] | None) -> list[_Candidate]:
    if wanted is None:
        raise InputError(
            f"{address_of(template)} is a template and no classes were given; name the classes "
            "to put in the place of {word}"
        )
    parts = _TEMPLATE.split(template)
    return [_Candidate(quote(word).join(parts), word, True) for word in wanted]


def _require_no_companion(location: str) -> None:
    name = name_of(location)
    if name.startswith("._"):
        raise InputError(
            f"{address_of(location)} is what macOS keeps beside a file on other disks, and holds "
            f"no drawings; did you mean {name.removeprefix('._')}?"
        )


def _require_no_login(source: str) -> None:
    parts = urlsplit(source)
    if parts.username or parts.password:
        raise InputError(
            f"{parts.scheme}://…@{parts.hostname} holds a password in the address, which would "
            "get into logs; serve the files without one, or download them first"
        )


def _local(source: str) -> _Listing:
    try:
        path = Path(source).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(f"{source} begins with the home folder of no known user") from error
    try:
        if path.is_dir():
            return _inside(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    if path.is_file():
        if split_name(path.name)[1] is None:
            raise InputError(
                f"{path} is a file without a known ending: {EXPECTED_NAMES}; "
                "give such a file, or the folder that holds them"
            )
        return _Listing([str(path)], [])
    if path.is_symlink():
        return _Listing([str(path)], [])  # to nowhere, as the first look at it says
    if not glob.has_magic(source):
        raise InputError(_explain_missing(path))
    # Not Path.glob, which finds hidden files too.
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    found = _of_entries(matches, zips=True)
    if not found.files:
        raise InputError(f"no file matches {path}: {_found(map(str, matches))}; {EXPECTED_NAMES}")
    return found


def _of_entries(entries: Sequence[Path], zips: bool) -> _Listing:
    """Those of files and folders that are read: by their name files of drawings; zips: also all
    zip files. A link to nowhere is among them, so that reading it fails.
    """
    files, others = [], []
    for entry in entries:
        wanted = _is_wanted(entry.name) or (zips and is_zip_name(entry.name))
        if wanted and (entry.is_file() or (entry.is_symlink() and not entry.exists())):
            files.append(str(entry))
        else:
            others.append((entry.name, entry.is_dir()))
    return _Listing(files, _unread(others))


def _inside(folder: Path) -> _Listing:
    entries = sorted(folder.iterdir())
    found = _of_entries(entries, zips=False)
    if not found.files:
        hint = next((entry for entry in entries if _holds_drawings(entry)), None)
        advice = f"did you mean {hint}?" if hint else f"{EXPECTED_NAMES}"
        raise InputError(
            f"no file of drawings in {folder}: {_found(entry.name for entry in entries)}; {advice}"
        )
    return found


def _holds_drawings(path: Path) -> bool:
    try:
        if is_zip_name(path.name):
            return path.is_file()
        return path.is_dir() and any(_is_wanted(entry.name) for entry in path.iterdir())
    except OSError:
        return False  # only a hint: what cannot be read is not suggested


def _objects(source: str) -> _Listing:
    base, pattern = _split_pattern(source)
    if not pattern and split_name(name_of(source))[1] is not None:
        return _Listing([normal_object_url(source)], [])
    listed = list_objects(base, recursive=len(pattern) > 1 or "**" in pattern)
    return _of_listing(source, listed, pattern)


def _web(source: str) -> _Listing:
    base, pattern = _split_pattern(source)
    if len(pattern) > 1:
        raise InputError(
            f"{address_of(source)} has a * above its last part; a web page lists one folder"
        )
    if not pattern and split_name(name_of(source))[1] is not None:
        return _Listing([source], [])
    from quickdraw_core.sources.web import list_web  # its client takes long to import

    return _of_listing(source, list_web(base), pattern)


def _of_listing(source: str, listed: Sequence[Listed], pattern: Sequence[str]) -> _Listing:
    """The files of a listing that a pattern matches, or all, where there is none."""
    parts = [(file, file.path.split("/")) for file in listed]
    matching = [file for file, path in parts if not pattern or _matches(path, pattern)]
    names = {file.location: name_of(file.location) for file in matching}
    files = [
        location
        for location, name in names.items()
        if _is_wanted(name) or (pattern and is_zip_name(name))
    ]
    if not files:
        what = "no file matches" if pattern else "no file of drawings in"
        found = _found(file.path for file in listed)
        raise InputError(f"{what} {address_of(source)}: {found}; {EXPECTED_NAMES}")
    others = ((name, False) for location, name in names.items() if location not in files)
    return _Listing(sorted(files), _unread(others))


def _split_pattern(url: str) -> tuple[str, list[str]]:
    """The URL of the folder above the first part with a `*` or `[`, and the parts from there."""
    address, mark, query = url.partition("?")
    head, *parts = address.split("://", 1)[1].split("/")
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if first == len(parts):
        return url, []
    folder = "/".join([address.split("://", 1)[0] + "://" + head, *parts[:first], ""])
    return folder + mark + query, [unquote(part) for part in parts[first:]]


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a glob; `**` stands for any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        rest = pattern[1:] or ["*"]
        return any(_matches(path[i:], rest) for i in range(len(path)))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _is_wanted(name: str) -> bool:
    """Whether a file that nobody named by itself is one of drawings, and complete; also where it
    stands alone in a zip file that is named after it, as Kaggle serves it: `cat.csv.zip`.
    """
    return _is_file_name(_unzipped_name(name))


def _is_file_name(name: str) -> bool:
    return not name.startswith(".") and split_name(name)[1] is not None


def _unzipped_name(name: str) -> str:
    return name[: -len(".zip")] if is_zip_name(name) else name


def _found(names: Iterable[str]) -> str:
    shown = list(islice(names, _SHOWN))
    return "found " + (", ".join(shown) or "nothing")


def _explain_missing(path: Path) -> str:
    parent = path.parent
    if parent.is_dir():
        inside = [entry for entry in sorted(parent.iterdir()) if not entry.name.startswith(".")]
        found = f"{parent} holds {', '.join(entry.name for entry in inside[:8]) or 'nothing'}"
    else:
        found = f"{parent} is missing too"
    return f"no folder or file {path}: {found}; give the folder that holds the drawings"


def _require_same(first: _Candidate, second: _Candidate) -> None:
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
    candidates: Iterable[_Candidate],
) -> tuple[list[SourceFile], list[BadFile]]:
    """Looks at files side by side. Raises the first error where no file can be read; of a server,
    where none of so many as are looked at side by side can, the others are left alone.
    """
    files: list[SourceFile] = []
    bad: list[BadFile] = []
    with ThreadPoolExecutor(_PARALLEL) as pool:
        looks = [(candidate, pool.submit(_inspect, candidate)) for candidate in candidates]
        try:
            for candidate, look in looks:
                try:
                    files.append(look.result())
                except InputError as error:
                    bad.append(BadFile(candidate.word, candidate.address, error))
                    is_away = scheme_of(candidate.location) and len(bad) == _PARALLEL
                    if not files and (is_away or len(bad) == len(looks)):
                        raise bad[0].error from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return files, bad


def _inspect(candidate: _Candidate) -> SourceFile:
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
