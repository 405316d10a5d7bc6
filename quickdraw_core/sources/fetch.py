"""Google's public Quick, Draw! files, over HTTP into a folder: one file a class.

What comes in is kept in `.<name>.part` and continued from there, after a cut connection as after
`kill -9`; it gets its name only when size and checksum are right. Beside it, `.<name>.part.json`
holds the server's mark of the version the bytes belong to, so that two versions never mix.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from requests import Session

from quickdraw_core import __version__
from quickdraw_core.credentials import without_login
from quickdraw_core.errors import ConfigError, InputError, first_few
from quickdraw_core.progress import progress
from quickdraw_core.sources.fetch_call import Call, MissingError, RefusedError
from quickdraw_core.sources.fetch_config import FILE_FORMATS, FetchConfig, chosen_words
from quickdraw_core.sources.fetch_file import ask, download
from quickdraw_core.sources.fetch_parts import Part, Remote
from quickdraw_core.system.locks import held_folder

T = TypeVar("T")

THREAD_NAME = "quickdraw-fetch"
"""Name of the threads of a call, as debuggers show it."""
_CLAIM_NAME = ".fetch.json"
_SHOWN = 20
"""Files that an error names; the rest is counted."""


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


def fetch(config: FetchConfig) -> FetchResult:
    """Downloads the files of `config.classes`; what is there in full is not fetched again.

    Raises `InputError`: after all other files were finished, when some are missing on the server
    or stay wrong after all retries; at once, when nothing answers or the folder cannot be
    written. Stopped in any way, by Ctrl-C too, it goes on from there when called again.
    """
    words = chosen_words(config)
    with _claimed(config):
        run = Call(config)
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
        with (
            held_folder(config.folder, "fetch"),
            (config.folder / _CLAIM_NAME).open("a+", encoding="utf-8") as file,
        ):
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
    """The format that a claim names; none if it is new, or was cut short by a kill."""
    try:
        held = str(json.loads(text)["format"])
    except (ValueError, KeyError, TypeError):
        return None
    return held if held in FILE_FORMATS else None


def _survey(run: Call, words: list[str]) -> dict[str, Remote]:
    """What the server says of each file, in the order of `words`, without those it refuses."""
    remotes: dict[str, Remote] = {}
    with progress("ask", len(words), "files") as bar:

        def work(session: Session, word: str) -> Remote:
            return run.persist(word, lambda: ask(run, session, word))

        def done(word: str, remote: Remote) -> None:
            remotes[word] = remote
            bar.advance(1)

        _in_parallel(run, words, work, done)
    return {word: remotes[word] for word in words if word in remotes}


def _download_all(run: Call, remotes: Mapping[str, Remote]) -> list[str]:
    """Fetches each file; gives the words of those that are whole now."""
    if not remotes:
        return []
    parts = {word: Part(run.path_of(word)) for word in remotes}
    begun = {word: part.usable_bytes(remotes[word]) for word, part in parts.items()}
    total = sum(remote.size_bytes for remote in remotes.values())
    _require_space(run.config.folder, total - sum(begun.values()))
    fetched: list[str] = []
    with progress("fetch", total, "bytes") as bar:
        run.bar = bar

        def work(session: Session, word: str) -> None:
            run.reach(word, begun[word])
            download(run, session, word, parts[word], remotes[word])

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
    run: Call,
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
                if outcome.exception() and not isinstance(outcome.exception(), RefusedError):
                    run.stopped.set()  # no thread begins another file

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
        except RefusedError as error:
            run.refused[word] = error
        else:
            done(word, value)


def _explain_refused(config: FetchConfig, refused: Mapping[str, RefusedError], asked: int) -> str:
    """All that went wrong, in one line: the missing files first, then each with its reason."""
    missing: list[str] = []
    wrong: list[str] = []
    for word, error in sorted(refused.items()):
        if isinstance(error, MissingError):
            missing.append(config.name_of(word))
        else:
            wrong.append(f"{config.name_of(word)}: {error}")
    parts = [f"missing there: {first_few(missing, _SHOWN)}"] if missing else []
    parts += [first_few(wrong, _SHOWN, "; ")] if wrong else []
    if len(missing) == asked:
        remedy = "check the base URL"
    else:
        remedy = f"all others are in {config.folder}, the same command tries these again"
    server = without_login(config.base_url)
    return (
        f"{len(refused)} of {asked} files could not be fetched from {server}: "
        f"{'; '.join(parts)}; {remedy}"
    )
