"""Files behind http:// and https://, read in ranges where the server can, else from the start.

A connection that is cut is made again and continues where it broke off. Bytes of two versions
of a file never mix: a server that names another size or version is an error.
"""

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import lru_cache
from html.parser import HTMLParser
from time import monotonic, sleep
from typing import TypeVar
from urllib.parse import unquote, urldefrag, urljoin

from requests import RequestException, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from quickdraw_core.errors import InputError
from quickdraw_core.sources.stored import (
    EDGE_BYTES,
    Listed,
    Look,
    StoredFile,
    address_of,
    tail_start,
)

T = TypeVar("T")

_TRIES = 4
_PAUSE_SECONDS = 0.25
_MAX_SECONDS = 20.0
"""No further try begins when so long nothing came."""
_TIMEOUT_SECONDS = (5.0, 12.0)
"""For a connection, and for a next byte."""
_REQUEST_BYTES = 8 << 20
"""One request asks for no less, so that small reads do not cost a round trip each."""
_PIECE_BYTES = 1 << 20
_PASSING_STATUS = (408, 429, 500, 502, 503, 504)
_REASONS = (
    ("NameResolution", "its host name is not known"),
    ("Connection refused", "nothing listens there"),
    ("timed out", "it does not answer"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ("IncompleteRead", "the connection was cut"),
    ("Connection aborted", "the connection was cut"),
    ("Connection broken", "the connection was cut"),
    ("Connection reset", "the connection was cut"),
)
_STATUS = {
    401: "it asks for a password; serve the files without one, or download them first",
    403: "access is refused; is it public?",
    404: "it is not there; correct the address",
    410: "it is not there any more; correct the address",
}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _PassingError(Exception):
    """Something that may be over with the next try."""


_PASSING = (_PassingError, RequestException, HTTPError)


class _Patience:
    """Counts the tries in a row that brought nothing, and pauses between them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.renew()

    def renew(self) -> None:
        self._failures, self._since = 0, monotonic()

    def lose(self, error: Exception) -> None:
        """Pauses before the next try. Raises `InputError` when there is to be none."""
        self._failures += 1
        if self._failures >= _TRIES or monotonic() - self._since > _MAX_SECONDS:
            raise InputError(
                f"cannot read {address_of(self._url)}: {_reason(error)}, after "
                f"{self._failures} tries; check the address and the network, then try again"
            ) from error
        sleep(_PAUSE_SECONDS * 2 ** (self._failures - 1))


def look_web(url: str) -> Look:
    """Looks at a file. Raises `InputError` where it is not there or cannot be reached."""
    return _persistently(url, lambda: _look(url))


def _look(url: str) -> Look:
    with _get(url, (0, EDGE_BYTES)) as response:
        ranges, size = response.status_code == 206, _total_bytes(response)
        head = b"" if response.status_code == 416 else _read(response, EDGE_BYTES)
        tag, mtime_ns = response.headers.get("ETag", ""), _mtime_ns(response)
    start = tail_start(size)
    tail = b""
    if ranges and start < size:
        with _get(url, (start, size)) as response:
            if response.status_code != 206 or _total_bytes(response) != size:
                raise _PassingError("it changed while it was looked at")
            tail = _read(response, size - start)
    return Look(size, mtime_ns, tag, ranges, head, tail)


def list_web(url: str) -> list[Listed]:
    """The files that a page links to and that lie in its own folder, in the page's order.

    Raises `InputError` where there is no such page.
    """
    text, base = _persistently(url, lambda: _page(url))
    links = _Links()
    links.feed(text)
    folder = urljoin(base, ".")
    found = (urldefrag(urljoin(base, link)).url for link in links.found)
    names = ((link, link.removeprefix(folder)) for link in found if link.startswith(folder))
    return [
        Listed(link, unquote(name))
        for link, name in dict.fromkeys(names)
        if name and "/" not in name and "?" not in name
    ]


def _page(url: str) -> tuple[str, str]:
    """The text of a page, and its address after all redirections."""
    with _get(url) as response:
        kind = response.headers.get("Content-Type", "no type").partition(";")[0]
        if kind not in ("text/html", "application/xhtml+xml"):
            raise InputError(
                f"{address_of(url)} is neither a file of drawings by its name nor a page of "
                f"links: found {kind}; give a file's address, a folder's page, or a template "
                "with {word}"
            )
        return response.text, response.url


class _Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


class WebFile(StoredFile):
    """A file on a web server, as it is stored there."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._response: Response | None = None
        self._next = 0
        """Byte of the file that the response gives next."""
        self._end: int | None = None
        """Byte of the file where the response ends, as far as it says."""
        self._size_bytes: int | None = None
        self._version: tuple[int, str] | None = None

    def close(self) -> None:
        """Hangs up."""
        self._hang_up()
        super().close()

    def _size(self) -> int:
        if self._size_bytes is None:
            self._size_bytes = look_web(self._url).size_bytes
        return self._size_bytes

    def _fill(self, view: memoryview) -> int:
        filled, patience = 0, _Patience(self._url)
        while filled < len(view) and not self._is_end(self._position + filled):
            try:
                self._go_to(self._position + filled, len(view) - filled)
                count = self._next_bytes(view[filled : filled + _PIECE_BYTES])
            except _PASSING as error:
                self._hang_up()
                patience.lose(error)
                continue
            filled += count
            patience.renew()
        return filled

    def _is_end(self, position: int) -> bool:
        return self._size_bytes is not None and position >= self._size_bytes

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _go_to(self, position: int, wanted: int) -> None:
        """Makes the response give the byte at `position` next."""
        if self._response is not None and position == self._next != self._end:
            return
        self._hang_up()
        response = _get(self._url, (position, position + max(wanted, _REQUEST_BYTES)))
        self._response = response
        self._require_same_version(response)
        if response.status_code == 206:
            self._next, self._end = _range(response)
            if self._next != position:
                raise _PassingError("it sent another range than it was asked for")
            return
        self._next, self._end = 0, self._size_bytes
        while self._next < position and not self._is_end(self._next):
            self._next_bytes(memoryview(bytearray(min(_PIECE_BYTES, position - self._next))))

    def _require_same_version(self, response: Response) -> None:
        version = _total_bytes(response), response.headers.get("ETag", "")
        if self._version not in (None, version):
            raise InputError(
                f"{address_of(self._url)} changed while it was read; read it again once it is "
                "complete"
            )
        self._version = version
        if version[0] or response.status_code == 416:
            self._size_bytes = version[0]

    def _next_bytes(self, view: memoryview) -> int:
        assert self._response is not None
        count: int = self._response.raw.readinto(view)
        self._next += count
        if not count:
            if self._end is not None and self._next < self._end:
                raise _PassingError("the connection was cut")
            self._size_bytes = self._next
        return count


@lru_cache(maxsize=1)
def _session() -> Session:
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=32))
    # Bytes as they are stored: a range of what a server packs for the way would be useless.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _get(url: str, span: tuple[int, int] | None = None) -> Response:
    """Asks for a file, or for its bytes [span[0], span[1]); the body is not read yet.

    The status is 200, 206 or 416. Raises `InputError` for what will not change soon.
    """
    headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    response = _session().get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
    status = response.status_code
    if status in (200, 206) or (status == 416 and span is not None):
        return response
    response.close()
    if status in _PASSING_STATUS:
        raise _PassingError(f"it answers {status} {response.reason}")
    why = _STATUS.get(status, f"it answers {status} {response.reason}; check the address")
    raise InputError(f"cannot read {address_of(url)}: {why}")


def _persistently(url: str, action: Callable[[], T]) -> T:
    patience = _Patience(url)
    while True:
        try:
            return action()
        except _PASSING as error:
            patience.lose(error)


def _read(response: Response, size_bytes: int) -> bytes:
    data: bytes = response.raw.read(size_bytes)
    return data


def _range(response: Response) -> tuple[int, int]:
    """The bytes [start, end) of the file that a 206 response holds."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if found is None:
        raise InputError(
            f"cannot read {address_of(response.url)}: the server answers ranges without saying "
            "which and of how many bytes; download the file first"
        )
    return int(found[1]), int(found[2]) + 1


def _total_bytes(response: Response) -> int:
    """The size of the whole file, 0 where the server does not say."""
    if response.status_code == 206:
        _range(response)
        return int(response.headers["Content-Range"].rpartition("/")[2])
    if response.status_code == 416:
        return 0
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else 0


def _mtime_ns(response: Response) -> int:
    try:
        moment = parsedate_to_datetime(response.headers.get("Last-Modified", ""))
    except ValueError:
        return 0
    return int(moment.timestamp()) * 1_000_000_000


def _reason(error: Exception) -> str:
    text = f"{error!r} {error}"
    return next((words for sign, words in _REASONS if sign in text), str(error))
