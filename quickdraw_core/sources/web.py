"""Files behind http:// and https://, read in ranges if the server can, else from the start.

A connection that is cut is made again and continues where it broke off. Bytes of two versions
of a file never mix: a server that names another size or version is an error.
"""

import re
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

from requests import Response

from quickdraw_core.errors import InputError
from quickdraw_core.sources.stored import (
    EDGE_BYTES,
    REQUEST_BYTES,
    FileProbe,
    Listed,
    StoredFile,
    tail_start,
)
from quickdraw_core.sources.web_requests import PASSING, get, persistently
from quickdraw_core.storage.urls import address_of, name_of
from quickdraw_core.system.retries import PassingError

_PIECE_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def probe_web(url: str) -> FileProbe:
    """Probes a file. Raises `InputError` if it is not there or cannot be reached."""
    probe = persistently(url, lambda: _probe(url, 0, EDGE_BYTES))
    start = tail_start(probe.size_bytes)
    if not probe.ranges or start == probe.size_bytes:
        return probe
    tail = persistently(url, lambda: _probe(url, start, probe.size_bytes))
    if replace(tail, head=probe.head) != probe:
        raise _changed(url)
    return replace(probe, tail=tail.head)


def _probe(url: str, start: int, end: int) -> FileProbe:
    """A probe whose head is the bytes [start, end)."""
    with get(url, (start, end)) as response:
        return FileProbe(
            size_bytes=_total_bytes(response),
            mtime_ns=_mtime_ns(response),
            tag=response.headers.get("ETag", ""),
            ranges=response.status_code == 206,
            head=b"" if response.status_code == 416 else _read(response, end - start),
            tail=b"",
        )


def list_web(url: str) -> list[Listed]:
    """The files that a page links to and that lie in its own folder, in the page's order.

    Raises `InputError` if there is no such page.
    """
    text, base = persistently(url, lambda: _page(url))
    links = _Links()
    links.feed(text)
    folder = urljoin(base, ".")
    urls = (urldefrag(urljoin(base, link)).url for link in links.targets)
    names = ((url, url.removeprefix(folder)) for url in urls if url.startswith(folder))
    return [
        Listed(url, name_of(url))
        for url, name in dict.fromkeys(names)
        if name and "/" not in name and "?" not in name
    ]


def _page(url: str) -> tuple[str, str]:
    """The text of a page, and its address after all redirections."""
    with get(url) as response:
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
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


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
            self._size_bytes = probe_web(self._url).size_bytes
        return self._size_bytes

    def _fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view) and not self._is_end(self._position + filled):
            rest, position = view[filled:], self._position + filled
            filled += persistently(self._url, partial(self._read_piece, rest, position))
        return filled

    def _read_piece(self, view: memoryview, position: int) -> int:
        """Some of the bytes from `position` on, as many as come at once: how many."""
        try:
            self._go_to(position, len(view))
            return self._next_bytes(view[:_PIECE_BYTES])
        except PASSING:
            self._hang_up()
            raise

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
        response = get(self._url, (position, position + max(wanted, REQUEST_BYTES)))
        self._response = response
        self._require_same_version(response)
        if response.status_code == 206:
            self._next, self._end = _range(response)
            if self._next != position:
                raise PassingError("it sent another range than it was asked for")
            return
        self._next, self._end = 0, self._size_bytes
        while self._next < position and not self._is_end(self._next):
            self._next_bytes(memoryview(bytearray(min(_PIECE_BYTES, position - self._next))))

    def _require_same_version(self, response: Response) -> None:
        version = _total_bytes(response), response.headers.get("ETag", "")
        if self._version not in (None, version):
            raise _changed(self._url)
        self._version = version
        if version[0] or response.status_code == 416:
            self._size_bytes = version[0]

    def _next_bytes(self, view: memoryview) -> int:
        assert self._response is not None
        count: int = self._response.raw.readinto(view)
        self._next += count
        if not count:
            if self._end is not None and self._next < self._end:
                raise PassingError("the connection was cut")
            self._size_bytes = self._next
        return count


def _changed(url: str) -> InputError:
    return InputError(
        f"{address_of(url)} changed while it was read; read it again once it is complete"
    )


def _read(response: Response, size_bytes: int) -> bytes:
    """The first bytes of a body, or all if it has less. A cut connection is an error."""
    data = b""
    # One read may give less before it notices that the connection was cut.
    while piece := response.raw.read(size_bytes - len(data)):
        data += piece
        if len(data) == size_bytes:
            break
    return data


def _range(response: Response) -> tuple[int, int]:
    """The bytes [start, end) of the file that a 206 response holds."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None:
        raise InputError(
            f"cannot read {address_of(response.url)}: the server answers ranges without saying "
            "which and of how many bytes; download the file first"
        )
    return int(match[1]), int(match[2]) + 1


def _total_bytes(response: Response) -> int:
    """The size of the whole file, 0 if the server does not state it."""
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
    if moment.tzinfo is None:  # "-0000": UTC, of an unknown place (RFC 5322, section 3.3)
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000
