"""From what a user writes (a folder, a glob, a file, an address) to files, checked before work.

data/train_simplified                   a folder: its files that end in a known way
data/*.ndjson.gz   s3://bucket/**/*.csv a glob
data/sun.csv       gs://bucket/sun.bin  one file
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
from urllib.parse import quote, unquote, urlsplit

from quickdraw_core.credentials import whole_address
from quickdraw_core.errors import InputError, nearest
from quickdraw_core.formats.detect import EXPECTED_NAMES, split_name
from quickdraw_core.formats.kaggle import require_known_words
from quickdraw_core.labels import challenge_words
from quickdraw_core.names import check_word, clean_word
from quickdraw_core.sources.files import SourceFile, inspect
from quickdraw_core.sources.objects import OBJECT_SCHEMES, list_objects, normal_location
from quickdraw_core.sources.stored import Listed, address_of, name_of, scheme_of
from quickdraw_core.sources.web import list_web

WEB_SCHEMES = ("http", "https")

_TEMPLATE = re.compile(r"\{word\}|%7[Bb]word%7[Dd]")
_GOOGLE_PREFIX = re.compile(r"^full_(simplified|raw|binary)_")
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


@dataclass(frozen=True)
class BadFile:
    """A file that was found and cannot be read. word: what its name says; address: for records."""

    word: str
    address: str
    error: InputError


def find_sources(
    sources: str | Path | Sequence[str | Path], words: Iterable[str] | None = None
) -> list[SourceFile]:
    """The files of `sources`, sorted by word; with `words`, of those classes alone.

    Checks before any work: all is there, every word has one file and one alone, every file is
    what its ending promises, and test files do not mix with training files. Raises `InputError`
    otherwise.
    """
    files, bad = find_readable(sources, words)
    if bad:
        raise bad[0].error
    return files


def find_readable(
    sources: str | Path | Sequence[str | Path], words: Iterable[str] | None = None
) -> tuple[list[SourceFile], list[BadFile]]:
    """What `find_sources` finds, and apart from it the files that cannot be read.

    Raises what `find_sources` raises, but for a file only where no file can be read.
    """
    listed = [sources] if isinstance(sources, str | Path) else sources
    given = [whole_address(str(source)) for source in listed]
    if not given:
        raise InputError("no source was given; give a folder, a glob, a file or an address")
    wanted = None if words is None else sorted({clean_word(word) for word in words})
    for word in wanted or ():
        check_word(word)
    candidates = [found for source in given for found in _expand(source, wanted)]
    if wanted is not None:
        where = ", ".join(address_of(source) for source in given)
        require_known_words(wanted, [found.word for found in candidates], where)
    by_word: dict[str, _Candidate] = {}
    for candidate in candidates:
        if wanted is None or candidate.word in wanted:
            _require_same(by_word.setdefault(candidate.word, candidate), candidate)
    files, bad = _inspect_all(by_word.values())
    _require_one_kind(files)
    return sorted(files, key=lambda file: file.word or ""), sorted(bad, key=lambda b: b.word)


def word_of(name: str) -> str:
    """The word that a file's name stands for, with spaces: `ice cream` of `ice_cream.csv.gz`.

    As downloads really are named: with the folders of Google's public files in front
    (`full_simplified_cat.ndjson`, `full%2Fbinary%2Fcat.bin`), or a browser's mark of a copy behind
    (`cat (1).bin`). Whether it has a word's form is not looked at (`names.check_word`).
    """
    stem = split_name(unquote(name).rpartition("/")[2])[0]
    return clean_word(_GOOGLE_PREFIX.sub("", _COPY.sub("", stem)))


def _expand(source: str, wanted: Sequence[str] | None) -> list[_Candidate]:
    scheme = scheme_of(source)
    if scheme == "file":
        scheme, source = "", unquote(urlsplit(source).path)
    if scheme in WEB_SCHEMES:
        _require_no_login(source)
    if scheme and _TEMPLATE.search(source):
        return _fill(source, wanted)
    if not scheme:
        found = _local(source)
    elif scheme in OBJECT_SCHEMES:
        found = _objects(source)
    elif scheme in WEB_SCHEMES:
        found = _web(source)
    else:
        known = ", ".join(f"{name}://" for name in (*OBJECT_SCHEMES, *WEB_SCHEMES))
        raise InputError(f"cannot read from {scheme}://; give a local path or one of {known}")
    for location in found:
        _require_no_companion(location)
    return [_Candidate(location, word_of(name_of(location))) for location in found]


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


def _local(source: str) -> list[str]:
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
        return [str(path)]
    if not glob.has_magic(source):
        raise InputError(_explain_missing(path))
    # Not Path.glob, which finds hidden files too.
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207
    files = sorted(match for match in matches if _is_wanted(Path(match).name))
    files = [match for match in files if Path(match).is_file()]
    if not files:
        raise InputError(f"no file matches {path}: {_found(matches)}; {EXPECTED_NAMES}")
    return files


def _inside(folder: Path) -> list[str]:
    entries = sorted(folder.iterdir())
    files = [str(entry) for entry in entries if _is_wanted(entry.name) and entry.is_file()]
    if not files:
        hint = next((entry for entry in entries if _holds_drawings(entry)), None)
        advice = f"did you mean {hint}?" if hint else f"{EXPECTED_NAMES}"
        raise InputError(
            f"no file of drawings in {folder}: {_found(entry.name for entry in entries)}; {advice}"
        )
    return files


def _holds_drawings(path: Path) -> bool:
    try:
        return path.is_dir() and any(_is_wanted(entry.name) for entry in path.iterdir())
    except OSError:
        return False  # only a hint: what cannot be read is not suggested


def _objects(source: str) -> list[str]:
    base, pattern = _split_pattern(source)
    if not pattern and split_name(name_of(source))[1] is not None:
        return [normal_location(source)]
    listed = list_objects(base, recursive=len(pattern) > 1 or "**" in pattern)
    return _of_listing(source, listed, pattern)


def _web(source: str) -> list[str]:
    base, pattern = _split_pattern(source)
    if len(pattern) > 1:
        raise InputError(
            f"{address_of(source)} has a * above its last part; a web page lists one folder"
        )
    if not pattern and split_name(name_of(source))[1] is not None:
        return [source]
    return _of_listing(source, list_web(base), pattern)


def _of_listing(source: str, listed: Sequence[Listed], pattern: Sequence[str]) -> list[str]:
    """The files of a listing that a pattern matches, or all, where there is none."""
    parts = [(file, file.path.split("/")) for file in listed]
    matching = [file for file, path in parts if not pattern or _matches(path, pattern)]
    files = [file.location for file in matching if _is_wanted(name_of(file.location))]
    if not files:
        what = "no file matches" if pattern else "no file of drawings in"
        found = _found(file.path for file in listed)
        raise InputError(f"{what} {address_of(source)}: {found}; {EXPECTED_NAMES}")
    return sorted(files)


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
    """Whether a file that nobody named by itself is one of drawings, and complete."""
    return not name.startswith(".") and split_name(name)[1] is not None


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
    if first.location != second.location:
        raise InputError(
            f"two files hold {first.word!r}: {address_of(first.location)} and "
            f"{address_of(second.location)}; give one of them"
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
    """Looks at files side by side. Raises the first error where no file can be read; where none
    of so many as are looked at side by side can, the others are left alone.
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
                    bad.append(BadFile(candidate.word, address_of(candidate.location), error))
                    if not files and len(bad) == min(_PARALLEL, len(looks)):
                        raise bad[0].error from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return files, bad


def _inspect(candidate: _Candidate) -> SourceFile:
    try:
        file = inspect(candidate.location, candidate.word)
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
