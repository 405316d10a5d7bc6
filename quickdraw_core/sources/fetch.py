"""Google's public Quick, Draw! files, over HTTP into a folder: one file a class.

What comes in is kept in `.<name>.part` and continued from there, after a cut connection as after
`kill -9`; it gets its name only when size and checksum are right. Beside it, `.<name>.part.json`
holds the server's mark of the version the bytes belong to, so that two versions never mix.

Layout of the bucket: `<base>/simplified/<word>.ndjson`, `<base>/raw/<word>.ndjson`,
`<base>/binary/<word>.bin`, words spelled with spaces
(https://github.com/googlecreativelab/quickdraw-dataset).
"""

import base64
import errno
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator
from requests import RequestException, Response, Session
from urllib3.exceptions import HTTPError

from quickdraw_core import __version__
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError, InputError, nearest
from quickdraw_core.labels import challenge_words, spaced
from quickdraw_core.progress import Bar, progress

T = TypeVar("T")

BUCKET = "https://storage.googleapis.com/quickdraw_dataset/full"
FURTHER_WORDS = ("aircraft carrier", "knife", "lighter", "rifle", "syringe")
"""Words of Google's set that the challenge left out: 345 in all."""

FILE_FORMATS = {
    "simplified": ".ndjson",  # scaled to 0..255 and simplified, a drawing a line
    "raw": ".ndjson",  # as drawn, with times, about ten times as large
    "binary": ".bin",  # the simplified drawings, packed
}
"""Name of a format, also its folder in the bucket → ending of its files."""

THREAD_NAME = "quickdraw-fetch"
"""Name of the threads of a call, for whoever looks at the process."""
_CHUNK_BYTES = 1 << 16
_MAX_PAUSE_SECONDS = 60.0
"""No pause between attempts is longer, even when the server asks for it."""
_CLAIM_NAME = ".fetch.json"
_SHOWN = 20
"""Files that an error names; the rest is counted."""
_HALT_SECONDS = 1.0
"""How long a stopped call waits for its threads; none of them writes any more by then."""


class FetchConfig(Config):
    """Which files to download, from where, to where, and how patiently."""

    folder: Path = Field(description="folder to put <word>.ndjson or <word>.bin into")
    classes: tuple[str, ...] | None = Field(
        None, description="words to fetch, with spaces or underscores; none: the challenge's 340"
    )
    format: str = Field("simplified", description="simplified, raw or binary")
    base_url: str = Field(BUCKET, description="address above simplified/, raw/ and binary/")
    parallel: int = Field(4, ge=1, le=32, description="connections at a time")
    retries: int = Field(
        6, ge=0, description="further attempts in a row that may bring nothing new of a file"
    )
    timeout_seconds: float = Field(
        30, gt=0, description="the longest silence of the server, in seconds"
    )
    backoff_seconds: float = Field(
        0.5, ge=0, description="pause before the first further attempt; doubles with each"
    )

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, value: str) -> str:
        if value not in FILE_FORMATS:
            raise ValueError(nearest(value, FILE_FORMATS))
        return value

    @field_validator("base_url")
    @classmethod
    def _base_url_has_a_form(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://host/folder")
        if parts.query or parts.fragment:
            raise ValueError("must end before any ? or #, file names are put behind it")
        return value.rstrip("/")

    def name_of(self, word: str) -> str:
        """Name of a word's file, on the server as in the folder."""
        return word + FILE_FORMATS[self.format]

    def url_of(self, word: str) -> str:
        """Address of a word's file."""
        return f"{self.base_url}/{self.format}/{quote(self.name_of(word))}"


@dataclass(frozen=True)
class FetchResult:
    """What is in the folder now, and how it got there. Words are sorted and have spaces."""

    folder: Path
    format: str
    fetched: tuple[str, ...]
    """Words whose file was completed by this call."""
    present: tuple[str, ...]
    """Words whose file was there already, in the size that the server states."""
    continued: tuple[str, ...]
    """Those of `fetched` that an earlier call had begun."""
    size_bytes: int
    """Size of all these files."""
    received_bytes: int
    """What came over the network, including what had to be thrown away."""


def chosen_words(config: FetchConfig) -> list[str]:
    """The words to fetch, sorted, with spaces. Raises `InputError` for one that is unknown."""
    challenge = challenge_words()
    if config.classes is None:
        return challenge
    known = {*challenge, *FURTHER_WORDS}
    words = sorted({spaced(word.strip()) for word in config.classes})
    if not words:
        raise InputError("no class to fetch: the list is empty; give words, or leave it out")
    for word in words:
        if word not in known:
            raise InputError(f"Quick, Draw! has no class {word!r}: {nearest(word, known)}")
    return words


def fetch(config: FetchConfig) -> FetchResult:
    """Downloads the files of `config.classes`; what is there in full is not fetched again.

    Raises `InputError`: after all other files were finished, when some are missing on the server
    or stay wrong after all retries; at once, when nothing answers or the folder cannot be
    written. Stopped in any way, by Ctrl-C too, it goes on from there when called again.
    """
    words = chosen_words(config)
    with _claimed(config):
        run = _Run(config)
        try:
            remotes = _survey(run, words)
            present = [word for word in remotes if run.is_present(word, remotes[word])]
            missing = {word: remotes[word] for word in remotes if word not in present}
            fetched = _download_all(run, missing)
        finally:
            run.halt()
    if run.refused:
        raise InputError(_explain_refused(config, run.refused, len(words)))
    return FetchResult(
        folder=config.folder,
        format=config.format,
        fetched=tuple(sorted(fetched)),
        present=tuple(sorted(present)),
        continued=tuple(sorted(run.continued)),
        size_bytes=sum(remote.size_bytes for remote in remotes.values()),
        received_bytes=run.received_bytes,
    )


@contextmanager
def _claimed(config: FetchConfig) -> Iterator[None]:
    """Holds the folder, for one call at a time and for files of one format; what fails in
    writing there is an `InputError`.

    Simplified and raw files have the same names, so the one would overwrite the other.
    """
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
        with (config.folder / _CLAIM_NAME).open("a+", encoding="utf-8") as file:
            _lock(file.fileno(), config.folder)
            file.seek(0)
            held = _held_format(file.read())
            if held != config.format:
                if held is not None and any(config.folder.glob(f"*{FILE_FORMATS[held]}")):
                    raise ConfigError(
                        f"{config.folder} holds {held} files; give {config.format} ones another "
                        "folder"
                    )
                file.truncate(0)
                file.write(json.dumps({"format": config.format}) + "\n")
                file.flush()
            yield
    except OSError as error:
        raise InputError(
            f"cannot write to {error.filename or config.folder}: {error.strerror or error}; make "
            "room or check permissions, then the same command goes on from here"
        ) from error


def _held_format(text: str) -> str | None:
    """The format that a claim names; none where it is new, or was cut short by a kill."""
    try:
        held = str(json.loads(text)["format"])
    except (ValueError, KeyError, TypeError):
        return None
    return held if held in FILE_FORMATS else None


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"another fetch is at work in {folder}; wait for its end or give another folder"
        ) from error
    except OSError as error:
        # Some network file systems have no locks: there, it is up to the user.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise InputError(f"cannot lock {folder}: {error.strerror}") from error


def _survey(run: "_Run", words: list[str]) -> dict[str, "_Remote"]:
    """What the server says of each file, in the order of `words`, without those it refuses."""
    remotes: dict[str, _Remote] = {}
    with progress("ask", len(words), "files") as bar:

        def work(session: Session, word: str) -> _Remote:
            return run.persist(word, lambda: _ask(run, session, word))

        def done(word: str, remote: _Remote) -> None:
            remotes[word] = remote
            bar.advance(1)

        _in_parallel(run, words, work, done)
    return {word: remotes[word] for word in words if word in remotes}


def _download_all(run: "_Run", remotes: Mapping[str, "_Remote"]) -> list[str]:
    """Fetches each file; gives the words of those that are whole now."""
    if not remotes:
        return []
    parts = {word: _Part(run.path_of(word)) for word in remotes}
    begun = {word: part.usable_bytes(remotes[word]) for word, part in parts.items()}
    total = sum(remote.size_bytes for remote in remotes.values())
    _require_space(run.config.folder, total - sum(begun.values()))
    fetched: list[str] = []
    with progress("fetch", total, "bytes") as bar:
        run.bar = bar

        def work(session: Session, word: str) -> None:
            run.reach(word, begun[word])
            _download(run, session, word, parts[word], remotes[word])

        def done(word: str, _: None) -> None:
            fetched.append(word)
            bar.note(f"{len(fetched)} of {len(remotes)} files")

        _in_parallel(run, list(remotes), work, done)
    run.continued = [word for word in fetched if begun[word]]
    return fetched


def _require_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise InputError(
            f"{needed_bytes:,} bytes are to be fetched, but the disk of {folder} has "
            f"{free_bytes:,} bytes free; make room, or fetch fewer classes"
        )


def _in_parallel(
    run: "_Run",
    words: Sequence[str],
    work: Callable[[Session, str], T],
    done: Callable[[str, T], None],
) -> None:
    """Calls `work` for each word on a few threads, and `done` with what it gives on this one.

    A refusal of the server is put down in `run.refused` and the rest goes on; any other error
    is raised here at once.

    The threads are daemons, because a pool's would keep a stopped process alive until the last
    silent connection has timed out.
    """
    waiting: SimpleQueue[str] = SimpleQueue()
    outcomes: SimpleQueue[tuple[str, Future[T]]] = SimpleQueue()
    for word in words:
        waiting.put(word)

    def serve() -> None:
        with Session() as session:
            session.headers["Accept-Encoding"] = "identity"
            session.headers["User-Agent"] = f"quickdraw-workflow/{__version__}"
            while not run.stopped.is_set():
                try:
                    word = waiting.get_nowait()
                except Empty:
                    return
                outcome: Future[T] = Future()
                try:
                    outcome.set_result(work(session, word))
                except BaseException as error:  # noqa: BLE001 — raised again by the caller
                    outcome.set_exception(error)
                outcomes.put((word, outcome))

    threads = [
        Thread(target=serve, name=THREAD_NAME, daemon=True) for _ in words[: run.config.parallel]
    ]
    run.threads += threads
    for thread in threads:
        thread.start()
    for _ in words:
        word, outcome = outcomes.get()
        try:
            value = outcome.result()
        except _RefusedError as error:
            run.refused[word] = error
        else:
            done(word, value)


def _explain_refused(
    config: FetchConfig, refused: "Mapping[str, _RefusedError]", asked: int
) -> str:
    """All that went wrong, in one line: the missing files first, then each with its reason."""
    missing: list[str] = []
    wrong: list[str] = []
    for word, error in sorted(refused.items()):
        if isinstance(error, _MissingError):
            missing.append(config.name_of(word))
        else:
            wrong.append(f"{config.name_of(word)}: {error}")
    parts = [f"missing there: {_some(missing, ', ')}"] if missing else []
    parts += [_some(wrong, "; ")] if wrong else []
    if len(missing) == asked:
        remedy = "check the base URL"
    else:
        remedy = f"all others are in {config.folder}, the same command tries these again"
    return (
        f"{len(refused)} of {asked} files could not be fetched from {_shown(config.base_url)}: "
        f"{'; '.join(parts)}; {remedy}"
    )


def _some(items: list[str], separator: str) -> str:
    more = f" … and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more


# One file: ask, receive, check, rename.


def _download(run: "_Run", session: Session, word: str, part: "_Part", remote: "_Remote") -> None:
    """Brings one file to its final name, in as many attempts as it takes."""
    known = [remote]

    def attempt() -> None:
        # A failure may mean that the file changed meanwhile: a further attempt asks anew.
        current = known.pop() if known else _ask(run, session, word)
        try:
            _check(part, _receive(run, session, word, part, current))
        except _DistrustedError:
            part.drop()
            raise

    run.persist(word, attempt)
    part.finish()


def _ask(run: "_Run", session: Session, word: str) -> "_Remote":
    """What the server says of a file: by HEAD, or where that says nothing by a GET not read."""
    url = run.config.url_of(word)
    for method, also in (("HEAD", (405, 501)), ("GET", ())):
        with run.answer(session, method, url, {}, also) as response:
            size = _whole_number(response.headers.get("Content-Length"))
            if response.status_code == 200 and size is not None:
                return _Remote.of(response, url, size)
    raise _RefusedError(
        "the server states no size, so that a cut file could not be told from a whole one"
    )


def _receive(
    run: "_Run", session: Session, word: str, part: "_Part", remote: "_Remote"
) -> "_Remote":
    """One GET of what is missing, into `part`. Returns the version that the bytes belong to."""
    have = part.usable_bytes(remote)
    if have and have == remote.size_bytes:
        return remote
    headers = {"Range": f"bytes={have}-", "If-Range": remote.validator or ""} if have else {}
    with run.answer(session, "GET", remote.url, headers, also=(206, 416)) as response:
        if response.status_code == 200:
            have = 0  # the server knows no ranges, or has another file by now
            remote = _answered_in_full(response, remote)
        else:
            _require_continuation(response, remote, have)
        try:
            with part.open(remote, have) as file:
                # Each piece as it comes: `iter_content` waits until a chunk is full, and drops
                # what it has of it when the connection breaks.
                while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
                    run.require_going()
                    have += len(chunk)
                    if have > remote.size_bytes:
                        raise _DistrustedError(
                            f"got at least {have:,} bytes, expected {remote.size_bytes:,}"
                        )
                    file.write(chunk)
                    file.flush()
                    run.reach(word, have, received_bytes=len(chunk))
        except HTTPError as error:
            run.require_going()
            raise _PassingError(
                f"got {have:,} bytes, expected {remote.size_bytes:,}: {_reason(error)}"
            ) from error
    return remote


def _answered_in_full(response: Response, remote: "_Remote") -> "_Remote":
    """The version that a 200 carries. Its size has to be the one that was stated before."""
    size = _whole_number(response.headers.get("Content-Length"))
    if size is not None and size != remote.size_bytes:
        raise _DistrustedError(
            f"got an answer of {size:,} bytes, expected {remote.size_bytes:,} as stated before"
        )
    return _Remote.of(response, remote.url, remote.size_bytes)


def _require_continuation(response: Response, remote: "_Remote", have: int) -> None:
    """Refuses to append anything but the bytes from `have` on, of the same version.

    Some servers send a range whatever `If-Range` says, hence the look at their marks as well.
    """
    stated = response.headers.get("Content-Range", "")
    expected = rf"bytes {have}-\d+/{remote.size_bytes}"
    if response.status_code != 206 or not have or not re.fullmatch(expected, stated):
        raise _DistrustedError(
            f"got {have:,} bytes, expected {remote.size_bytes:,}, but asked for the rest the "
            f"server answers {response.status_code}, range {stated or 'unsaid'!r}"
        )
    now = _Remote.of(response, remote.url, remote.size_bytes)
    if now.etag not in (None, remote.etag) or now.modified not in (None, remote.modified):
        raise _DistrustedError(f"got {have:,} bytes, then the file changed on the server")


def _check(part: "_Part", remote: "_Remote") -> None:
    """Refuses a part that is not the whole file, or not the server's.

    A `.ndjson` that stops within a line was cut before the server measured it: the one lie
    about sizes that no header gives away.
    """
    size = part.path.stat().st_size
    if size != remote.size_bytes:
        raise _PassingError(f"got {size:,} bytes, expected {remote.size_bytes:,}")
    with part.path.open("rb") as file:
        if remote.md5 is not None:
            digest = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
            found = base64.b64encode(digest.digest()).decode()
            if found != remote.md5:
                raise _DistrustedError(
                    f"got {size:,} bytes as expected, but of md5 {found}, expected {remote.md5}"
                )
        if size and part.final.suffix == ".ndjson":
            file.seek(-1, os.SEEK_END)
            if file.read(1) not in (b"\n", b"}"):
                raise _DistrustedError(
                    f"got {size:,} bytes as stated, expected more: they end within a drawing"
                )


@dataclass(frozen=True)
class _Remote:
    """A file as the server describes it. `md5` is base64, the other marks are as sent."""

    url: str
    size_bytes: int
    etag: str | None
    modified: str | None
    md5: str | None

    @classmethod
    def of(cls, response: Response, url: str, size_bytes: int) -> "_Remote":
        """Reads the headers. `x-goog-hash` is that of the whole file, also beside a range.

        Source: https://cloud.google.com/storage/docs/hashes-etags
        """
        headers = response.headers
        md5 = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
        return cls(
            url=url,
            size_bytes=size_bytes,
            etag=headers.get("ETag"),
            modified=headers.get("Last-Modified"),
            md5=md5[1] if md5 else None,
        )

    @property
    def validator(self) -> str | None:
        """What `If-Range` may carry: a strong tag, else the date (RFC 9110, section 13.1.5).

        A weak tag does not promise equal bytes: such a file is never continued.
        """
        if self.etag is None:
            return self.modified
        return None if self.etag.startswith("W/") else self.etag

    @property
    def note(self) -> dict[str, object]:
        """What two answers have in common when their bytes may be put together."""
        return {"url": _shown(self.url), "size": self.size_bytes, "validator": self.validator}


class _Part:
    """The bytes of a file that have come so far, and the note of whose they are."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f".{final.name}.part")
        self._note = final.with_name(f".{final.name}.part.json")

    def usable_bytes(self, remote: _Remote) -> int:
        """How many bytes are there that `remote` continues; 0 when they are of another file."""
        try:
            noted = json.loads(self._note.read_bytes())
            size = self.path.stat().st_size
        except (FileNotFoundError, ValueError):  # none, or cut short by a kill
            return 0
        same = remote.validator is not None and noted == remote.note
        return size if same and size <= remote.size_bytes else 0

    @contextmanager
    def open(self, remote: _Remote, have: int) -> Iterator[BinaryIO]:
        """A file to write to, at `have`.

        At 0, the old bytes go, then the note is made, then new bytes come: killed in between,
        nothing is there that could be taken for a part of another version.
        """
        if have == 0:
            self.drop()
            self._note.write_text(json.dumps(remote.note), encoding="utf-8")
        with self.path.open("ab") as file:
            yield file

    def drop(self) -> None:
        """Removes the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Makes the bytes durable, then gives them their name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.final)
        folder = os.open(self.final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.drop()


# What the threads of a call share: patience, counts, and the way to stop.


class _PassingError(Exception):
    """An attempt failed in a way that the next one may not."""

    def __init__(self, reason: str, wait_seconds: float = 0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _DistrustedError(_PassingError):
    """The same, and what has come so far is not to be continued."""


class _UnansweredError(_PassingError):
    """The server did not answer at all."""


class _RefusedError(Exception):
    """This file cannot be had; others may."""


class _MissingError(_RefusedError):
    """The server has no such file."""


class _StoppedError(Exception):
    """Another thread's error, or Ctrl-C, ended the call."""


class _Run:
    """One call of `fetch`."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.stopped = Event()
        self.threads: list[Thread] = []
        self.refused: dict[str, _RefusedError] = {}
        self.continued: list[str] = []
        self.received_bytes = 0
        self.bar: Bar | None = None
        self._lock = Lock()
        self._answers = 0
        self._open: set[Response] = set()
        self._reached: dict[str, int] = {}

    def require_going(self) -> None:
        """Raises `_StoppedError` once the call was stopped: nothing more is to be written."""
        if self.stopped.is_set():
            raise _StoppedError

    def path_of(self, word: str) -> Path:
        """Where a word's file is when it is whole."""
        return self.config.folder / self.config.name_of(word)

    def is_present(self, word: str, remote: _Remote) -> bool:
        """Whether the file is there in full; then a part beside it is of no use."""
        path = self.path_of(word)
        if not path.is_file() or path.stat().st_size != remote.size_bytes:
            return False
        _Part(path).drop()
        return True

    def reach(self, word: str, offset: int, received_bytes: int = 0) -> None:
        """Reports how far a file is. The bar shows the furthest point: it never goes back."""
        with self._lock:
            self.received_bytes += received_bytes
            further = offset - self._reached.get(word, 0)
            if further > 0:
                self._reached[word] = offset
                if self.bar is not None:
                    self.bar.advance(further)

    def persist(self, word: str, act: Callable[[], T]) -> T:
        """Calls `act` until it succeeds, `retries` times more than once without progress.

        An attempt that got further into the file than all before counts as progress: a line
        that is cut every few megabytes takes long, but it is no reason to give up.
        """
        failures, reached, answers = 0, self._reached.get(word, 0), self._answers
        while True:
            try:
                return act()
            except _PassingError as error:
                failure = error
            if self._reached.get(word, 0) > reached:
                failures, reached, answers = 0, self._reached[word], self._answers
            failures += 1
            if failures > self.config.retries:
                text = f"{failure} (attempts: {failures})"
                if isinstance(failure, _UnansweredError) and self._answers == answers:
                    raise InputError(
                        f"no answer from {_shown(self.config.base_url)}: {text}; check address "
                        "and network, then the same command goes on from here"
                    ) from failure
                raise _RefusedError(text) from failure
            pause = _pause_seconds(self.config.backoff_seconds, failures, failure.wait_seconds)
            if self.stopped.wait(pause):
                raise _StoppedError

    @contextmanager
    def answer(
        self,
        session: Session,
        method: str,
        url: str,
        headers: Mapping[str, str],
        also: tuple[int, ...],
    ) -> Iterator[Response]:
        """The answer to one request: status 200, or one of `also`. The body is not read yet."""
        self.require_going()
        try:
            response = session.request(
                method,
                url,
                headers=headers,
                stream=method != "HEAD",
                allow_redirects=True,
                timeout=self.config.timeout_seconds,
            )
        except RequestException as error:
            raise _unanswered(error, url) from error
        with self._lock:
            self._answers += 1
            self._open.add(response)
        try:
            # After `_open`: from here on, either `halt` finds the answer or this finds the stop.
            self.require_going()
            _require_usable(response, url, also)
            yield response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def halt(self) -> None:
        """Ends all threads: none writes any more when this returns.

        A thread that waits for a body is woken by shutting its connection down; one that waits
        for a connection or an answer holds nothing, and finds out when it is done waiting.
        """
        self.stopped.set()
        with self._lock:
            waiting = list(self._open)
        for response in waiting:
            with suppress(OSError, RuntimeError, ValueError):  # it just ended by itself
                response.raw.shutdown()
        deadline = monotonic() + _HALT_SECONDS
        for thread in self.threads:
            thread.join(max(0, deadline - monotonic()))


def _pause_seconds(backoff_seconds: float, failures: int, asked_seconds: float) -> float:
    """How long to wait after so many failures in a row: twice as long each time, and what the
    server asks for, with jitter so that the threads do not come back all at once."""
    pause = backoff_seconds * 2.0 ** min(failures - 1, 20) * random.uniform(0.5, 1)
    pause = max(pause, asked_seconds * random.uniform(1, 1.1))
    return min(pause, _MAX_PAUSE_SECONDS)


def _require_usable(response: Response, url: str, also: tuple[int, ...]) -> None:
    """Raises what a status means, and refuses what would make a check impossible."""
    status = response.status_code
    if status in (404, 410):
        raise _MissingError(f"the server answers {status}")
    if status in (408, 425, 429) or (status >= 500 and status not in also):
        wait = _seconds_of(response.headers.get("Retry-After"))
        raise _PassingError(f"the server answers {status}", wait)
    if status != 200 and status not in also:
        raise _RefusedError(f"the server answers {status}")
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise _RefusedError(f"the server leads away from https to {_shown(response.url)}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise _RefusedError(f"the server sends it as {encoding}, unasked: no size can be checked")


def _unanswered(error: RequestException, url: str) -> Exception:
    """What a failed request means. A certificate does not get better by waiting."""
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InputError(
            f"cannot trust {_shown(url)}: {cause.verify_message}; check the address, or name the "
            "authority's certificates in REQUESTS_CA_BUNDLE"
        )
    return _UnansweredError(_reason(cause))


def _root(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _reason(error: BaseException) -> str:
    """The innermost cause of a failure, in a few words."""
    cause = _root(error)
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return " ".join(text.split()) or type(cause).__name__


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _seconds_of(retry_after: str | None) -> float:
    """`Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3)."""
    seconds = _whole_number(retry_after)
    if seconds is not None or retry_after is None:
        return float(seconds or 0)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, moment.timestamp() - datetime.now(UTC).timestamp())


def _shown(url: str) -> str:
    """An address as it may stand in a message or a note: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
