"""From what a user writes (a folder, a glob, a file, an address) to the files that it names.

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
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import EXPECTED_NAMES, split_name
from quickdraw_core.sources.file_names import (
    is_drawings_file,
    is_zip_name,
    may_hold_drawings,
    unzipped_name,
    why_unread,
    word_of,
)
from quickdraw_core.sources.objects import list_objects
from quickdraw_core.sources.stored import Listed
from quickdraw_core.sources.zipped import ZipMember, list_zip
from quickdraw_core.storage.urls import (
    OBJECT_SCHEMES,
    address_of,
    name_of,
    normal_object_url,
    scheme_of,
)

WEB_SCHEMES = ("http", "https")

_TEMPLATE = re.compile(r"\{word\}|%7[Bb]word%7[Dd]")
_SHOWN = 5


@dataclass(frozen=True)
class Candidate:
    """A file that was named or listed; not inspected yet."""

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
    """The files of a folder. unread: names that look like one and are not read, with reasons."""

    files: list[str]
    unread: list[str]


def expand(source: str, wanted: Sequence[str] | None) -> tuple[list[Candidate], Sequence[str]]:
    """The files of a source, and the unread ones (`_Listing`)."""
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
        listing = _local(source)
    elif scheme in OBJECT_SCHEMES:
        listing = _objects(source)
    elif scheme in WEB_SCHEMES:
        listing = _web(source)
    else:
        known = ", ".join(f"{name}://" for name in (*OBJECT_SCHEMES, *WEB_SCHEMES))
        raise InputError(f"cannot read from {scheme}://; give a local path or one of {known}")
    candidates, unread = [], list(listing.unread)
    for location in listing.files:
        files, passed_over = _candidates(location)
        candidates += files
        unread += passed_over
    return candidates, unread


def _candidates(location: str) -> tuple[list[Candidate], Sequence[str]]:
    """The file at a location, or the files inside if it is a zip file; and the unread ones."""
    _require_no_companion(location)
    name = name_of(location)
    if not is_zip_name(name):
        return [Candidate(location, word_of(name))], ()
    try:
        return _inside_zip(location, "")
    except InputError as error:
        return [Candidate(location, word_of(unzipped_name(name)), error=error)], ()


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


def _inside_zip(location: str, inside: str) -> tuple[list[Candidate], list[str]]:
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
    candidates = [
        Candidate(location, word_of(name), member=member)
        for member, name in names.items()
        if is_drawings_file(name)
    ]
    if not candidates:
        address = f"{address_of(location)}/{inside}".rstrip("/")
        names_there = _names_found(member.name for member in listed)
        raise InputError(f"no file of drawings in {address}: {names_there}; {EXPECTED_NAMES}")
    return candidates, _unread(
        (name, False) for name in names.values() if not is_drawings_file(name)
    )


def _unread(names: Iterable[tuple[str, bool]]) -> list[str]:
    """Those of (name, is a folder) that seem to hold drawings, and why they are not read."""
    reasons = ((name, why_unread(name, is_folder)) for name, is_folder in names)
    return [f"{name} ({why})" for name, why in reasons if why is not None]


def _fill(template: str, wanted: Sequence[str] | None) -> list[Candidate]:
    if wanted is None:
        raise InputError(
            f"{address_of(template)} is a template and no classes were given; name the classes "
            "to put in the place of {word}"
        )
    parts = _TEMPLATE.split(template)
    return [Candidate(quote(word).join(parts), word, True) for word in wanted]


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
        return _Listing([str(path)], [])  # to nowhere, as inspecting it will say
    if not glob.has_magic(source):
        raise InputError(_explain_missing(path))
    # Not Path.glob, which finds hidden files too.
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    listing = _of_entries(matches, zips=True)
    if not listing.files:
        raise InputError(
            f"no file matches {path}: {_names_found(map(str, matches))}; {EXPECTED_NAMES}"
        )
    return listing


def _of_entries(entries: Sequence[Path], zips: bool) -> _Listing:
    """The files of drawings, by their names, of a folder's entries; zips: also all zip files. A
    link to nowhere is among them, so that reading it fails.
    """
    files, others = [], []
    for entry in entries:
        wanted = may_hold_drawings(entry.name) or (zips and is_zip_name(entry.name))
        if wanted and (entry.is_file() or (entry.is_symlink() and not entry.exists())):
            files.append(str(entry))
        else:
            others.append((entry.name, entry.is_dir()))
    return _Listing(files, _unread(others))


def _inside(folder: Path) -> _Listing:
    entries = sorted(folder.iterdir())
    listing = _of_entries(entries, zips=False)
    if not listing.files:
        hint = next((entry for entry in entries if _holds_drawings(entry)), None)
        advice = f"did you mean {hint}?" if hint else EXPECTED_NAMES
        names_there = _names_found(entry.name for entry in entries)
        raise InputError(f"no file of drawings in {folder}: {names_there}; {advice}")
    return listing


def _holds_drawings(path: Path) -> bool:
    try:
        if is_zip_name(path.name):
            return path.is_file()
        return path.is_dir() and any(may_hold_drawings(entry.name) for entry in path.iterdir())
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
    """The files of a listing that a pattern matches; all of them without a pattern."""
    parts = [(file, file.path.split("/")) for file in listed]
    matching = [file for file, path in parts if not pattern or _matches(path, pattern)]
    names = {file.location: name_of(file.location) for file in matching}
    files = [
        location
        for location, name in names.items()
        if may_hold_drawings(name) or (pattern and is_zip_name(name))
    ]
    if not files:
        what = "no file matches" if pattern else "no file of drawings in"
        names_there = _names_found(file.path for file in listed)
        raise InputError(f"{what} {address_of(source)}: {names_there}; {EXPECTED_NAMES}")
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


def _names_found(names: Iterable[str]) -> str:
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
