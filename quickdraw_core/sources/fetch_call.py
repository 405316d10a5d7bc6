"""What the threads of one `fetch` share: patience, counts, and the way to stop."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import TypeVar

from requests import RequestException, Response, Session

from quickdraw_core.credentials import without_login
from quickdraw_core.errors import InputError
from quickdraw_core.progress import Bar
from quickdraw_core.sources.fetch_config import FetchConfig
from quickdraw_core.sources.fetch_parts import Part, Remote
from quickdraw_core.sources.web_requests import retry_after_seconds
from quickdraw_core.system.retries import Attempts, PassingError

T = TypeVar("T")

_HALT_SECONDS = 1.0
"""How long a stopped call waits for its threads; none of them writes any more by then."""


class DistrustedError(PassingError):
    """An attempt failed, and what has come so far is not to be continued."""


class UnansweredError(PassingError):
    """The server did not answer at all."""


class RefusedError(Exception):
    """This file cannot be had; others may."""


class MissingError(RefusedError):
    """The server has no such file."""


class StoppedError(Exception):
    """Another thread's error, or Ctrl-C, ended the call."""


class Call:
    """One call of `fetch`."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.stopped = Event()
        self.threads: list[Thread] = []
        self.refused: dict[str, RefusedError] = {}
        self.continued: list[str] = []
        self.received_bytes = 0
        self.bar: Bar | None = None
        self._lock = Lock()
        self._answers = 0
        self._open: set[Response] = set()
        self._reached: dict[str, int] = {}

    def require_going(self) -> None:
        """Raises `StoppedError` once the call was stopped: nothing more is to be written."""
        if self.stopped.is_set():
            raise StoppedError

    def path_of(self, word: str) -> Path:
        """Where a word's file is when it is whole."""
        return self.config.folder / self.config.name_of(word)

    def is_present(self, word: str, remote: Remote) -> bool:
        """Whether the file is there in full; then a part beside it is of no use."""
        path = self.path_of(word)
        if not path.is_file() or path.stat().st_size != remote.size_bytes:
            return False
        Part(path).drop()
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
        attempts = Attempts(self.config.retries, self.config.backoff_seconds)
        reached, answers = self._reached.get(word, 0), self._answers
        while True:
            try:
                return act()
            except PassingError as error:
                failure = error
            if self._reached.get(word, 0) > reached:
                attempts.succeeded()
                reached, answers = self._reached[word], self._answers
            pause = attempts.failed(failure)
            if pause is None:
                text = f"{failure} (attempts: {attempts.failures})"
                if isinstance(failure, UnansweredError) and self._answers == answers:
                    raise InputError(
                        f"no answer from {without_login(self.config.base_url)}: {text}; check "
                        "address and network, then the same command goes on from here"
                    ) from failure
                raise RefusedError(text) from failure
            if self.stopped.wait(pause):
                raise StoppedError

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


def _require_usable(response: Response, url: str, also: tuple[int, ...]) -> None:
    """Raises what a status means, and refuses what would make a check impossible."""
    status = response.status_code
    if status in (404, 410):
        raise MissingError(f"the server answers {status}")
    if status in (408, 425, 429) or (status >= 500 and status not in also):
        raise PassingError(f"the server answers {status}", retry_after_seconds(response))
    if status != 200 and status not in also:
        raise RefusedError(f"the server answers {status}")
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise RefusedError(f"the server leads away from https to {without_login(response.url)}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise RefusedError(f"the server sends it as {encoding}, unasked: no size can be checked")


def _unanswered(error: RequestException, url: str) -> Exception:
    """What a failed request means. A certificate does not get better by waiting."""
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InputError(
            f"cannot trust {without_login(url)}: {cause.verify_message}; check the address, or "
            "name the authority's certificates in REQUESTS_CA_BUNDLE"
        )
    return UnansweredError(reason_of(cause))


def _root(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def reason_of(error: BaseException) -> str:
    """The innermost cause of a failure, in a few words."""
    cause = _root(error)
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return " ".join(text.split()) or type(cause).__name__
