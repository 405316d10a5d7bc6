"""What the threads of one `fetch` share: patience, counts, and the way to stop."""

import random
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from requests import RequestException, Response, Session

from quickdraw_core.credentials import without_login
from quickdraw_core.errors import InputError
from quickdraw_core.progress import Bar
from quickdraw_core.sources.fetch_parts import Part, Remote, whole_number

if TYPE_CHECKING:
    from quickdraw_core.sources.fetch import FetchConfig

T = TypeVar("T")

_MAX_PAUSE_SECONDS = 60.0
"""No pause between attempts is longer, even when the server asks for it."""
_HALT_SECONDS = 1.0
"""How long a stopped call waits for its threads; none of them writes any more by then."""


class PassingError(Exception):
    """An attempt failed in a way that the next one may not."""

    def __init__(self, reason: str, wait_seconds: float = 0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class DistrustedError(PassingError):
    """The same, and what has come so far is not to be continued."""


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

    def __init__(self, config: "FetchConfig") -> None:
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
        failures, reached, answers = 0, self._reached.get(word, 0), self._answers
        while True:
            try:
                return act()
            except PassingError as error:
                failure = error
            if self._reached.get(word, 0) > reached:
                failures, reached, answers = 0, self._reached[word], self._answers
            failures += 1
            if failures > self.config.retries:
                text = f"{failure} (attempts: {failures})"
                if isinstance(failure, UnansweredError) and self._answers == answers:
                    raise InputError(
                        f"no answer from {without_login(self.config.base_url)}: {text}; check "
                        "address and network, then the same command goes on from here"
                    ) from failure
                raise RefusedError(text) from failure
            pause = pause_seconds(self.config.backoff_seconds, failures, failure.wait_seconds)
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


def pause_seconds(backoff_seconds: float, failures: int, asked_seconds: float) -> float:
    """How long to wait after so many failures in a row: twice as long each time, and what the
    server asks for, with jitter so that the threads do not come back all at once."""
    pause = backoff_seconds * 2.0 ** min(failures - 1, 20) * random.uniform(0.5, 1)
    pause = max(pause, asked_seconds * random.uniform(1, 1.1))
    return min(pause, _MAX_PAUSE_SECONDS)


def _require_usable(response: Response, url: str, also: tuple[int, ...]) -> None:
    """Raises what a status means, and refuses what would make a check impossible."""
    status = response.status_code
    if status in (404, 410):
        raise MissingError(f"the server answers {status}")
    if status in (408, 425, 429) or (status >= 500 and status not in also):
        wait = retry_after_seconds(response.headers.get("Retry-After"))
        raise PassingError(f"the server answers {status}", wait)
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


def retry_after_seconds(retry_after: str | None) -> float:
    """`Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3)."""
    seconds = whole_number(retry_after)
    if seconds is not None or retry_after is None:
        return float(seconds or 0)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:  # "-0000": UTC, of an unknown place (RFC 5322, section 3.3)
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - datetime.now(UTC).timestamp())
