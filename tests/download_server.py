"""A server of drawings for the tests of the download: it cuts, lies and changes its mind."""

import base64
import hashlib
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Event, Lock, Thread
from urllib.parse import unquote

import pytest

from quickdraw_core.errors import InputError
from quickdraw_core.sources.fetch import FetchResult, fetch
from quickdraw_core.sources.fetch_config import FetchConfig

Answer = tuple[int, dict[str, str]]
"""Status and headers of an answer without a body."""


FOLDERS = {"simplified": ".ndjson", "raw": ".ndjson", "binary": ".bin"}


def drawings(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that end as a file of drawings does."""
    return random.Random(seed).randbytes(max(0, size_bytes - 2)) + b"}\n"


def md5_header(body: bytes) -> str:
    return "md5=" + base64.b64encode(hashlib.md5(body).digest()).decode()


@dataclass
class Served:
    """One file of the server, and how it misbehaves."""

    body: bytes
    etag: str | None = '"1"'
    modified: str | None = None
    hashes: tuple[str, ...] = ()
    ranges: bool = True
    heeds_if_range: bool = True
    head_status: int = 200
    head_size: int | None = None
    """What a HEAD states, where it is not the truth."""
    get_size: int | None = None
    """What a GET states, where it is not the truth; -1: nothing, the body comes chunked."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes of its body each of the next GETs is cut off."""
    head_answers: list[Answer] = field(default_factory=list)
    get_answers: list[Answer] = field(default_factory=list)
    """What the next HEADs and GETs are answered instead of the file."""
    after_get: Callable[["Served"], None] = lambda served: None
    """What becomes of the file as soon as a GET has been understood."""
    pause_at: int | None = None
    """After how many bytes a GET falls silent, until the server's `go_on` is set; -1: before
    the answer."""


@dataclass
class Request:
    """One request, and how many bytes of body it got."""

    method: str
    word: str
    path: str
    headers: dict[str, str]
    sent_bytes: int = 0


class Server(ThreadingHTTPServer):
    """Serves `files[word]` below /simplified, /raw and /binary, and keeps what it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.lock = Lock()
        self.go_on = Event()
        self.meet: Barrier | None = None
        self.busy = self.most_busy = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def of(self, word: str, method: str = "GET") -> list[Request]:
        return [
            request
            for request in self.requests
            if (request.method, request.word) == (method, word)
        ]

    def sent_bytes(self) -> int:
        return sum(request.sent_bytes for request in self.requests)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with ranges, `If-Range` and everything that can go wrong."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        served, _ = self._served()
        if served is not None:
            size = len(served.body) if served.head_size is None else served.head_size
            self._head(served, served.head_status, {"Content-Length": str(size)})

    def do_GET(self) -> None:
        served, request = self._served()
        if served is None:
            return
        with self.server.lock:
            self.server.busy += 1
            self.server.most_busy = max(self.server.most_busy, self.server.busy)
            now = replace(served)
            served.after_get(served)
        if self.server.meet is not None:
            self.server.meet.wait(timeout=30)
        # Before the answer: what a client does after it must not be counted as meanwhile.
        with self.server.lock:
            self.server.busy -= 1
        self._get(now, request)

    def _served(self) -> tuple[Served | None, Request]:
        folder, name = unquote(self.path).strip("/").split("/")
        word = name.removesuffix(FOLDERS[folder])
        request = Request(self.command, word, self.path, dict(self.headers.items()))
        with self.server.lock:
            self.server.requests.append(request)
            served = self.server.files.get(word)
            if served is None:
                instead: list[Answer] = [(404, {})]
            else:
                instead = served.head_answers if self.command == "HEAD" else served.get_answers
            answer = instead.pop(0) if instead else None
        if answer is not None:
            self._head(None, answer[0], {"Content-Length": "0", **answer[1]})
            return None, request
        return served, request

    def _head(self, served: Served | None, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if served is not None:
            marks = [("ETag", served.etag), ("Last-Modified", served.modified)]
            for name, mark in marks + [("x-goog-hash", value) for value in served.hashes]:
                if mark is not None:
                    self.send_header(name, mark)
        self.end_headers()

    def _get(self, served: Served, request: Request) -> None:
        if served.pause_at == -1:
            self.server.go_on.wait(timeout=300)
        start = self._start(served)
        if start > 0 and start >= len(served.body):
            self._head(None, 416, {"Content-Range": f"bytes */{len(served.body)}"})
            return
        body, headers = served.body[start:], {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(served.body) - 1}/{len(served.body)}"
        stated = len(body) if served.get_size is None or start else served.get_size
        headers |= {"Transfer-Encoding": "chunked"} if stated < 0 else {"Content-Length": stated}
        self._head(served, 206 if start else 200, headers)
        with self.server.lock:
            cut = served.cuts.pop(0) if served.cuts else None
        self._send(request, body[:cut], stated < 0, served.pause_at)
        if cut is not None or stated != len(body) >= 0:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True

    def _start(self, served: Served) -> int:
        """Where the answer begins."""
        asked = self.headers.get("Range", "")
        if not served.ranges or not asked:
            return 0
        condition = self.headers.get("If-Range")
        if served.heeds_if_range and condition not in (None, served.etag, served.modified):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, request: Request, body: bytes, chunked: bool, pause_at: int | None) -> None:
        pieces = [body] if pause_at is None else [body[:pause_at], body[pause_at:]]
        for number, piece in enumerate(pieces):
            if number:
                self.wfile.flush()
                self.server.go_on.wait(timeout=300)
            request.sent_bytes += len(piece)  # before the client can know
            if chunked and piece:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            else:
                self.wfile.write(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


def config_of(server: Server, folder: Path, **options: object) -> FetchConfig:
    values = {"folder": folder, "base_url": server.url, "classes": tuple(server.files)}
    quick = {"backoff_seconds": 0.001, "retries": 3, "timeout_seconds": 10}
    return FetchConfig.parse(values | quick | options)


def run(server: Server, folder: Path, **options: object) -> FetchResult:
    return fetch(config_of(server, folder, **options))


def require_whole(server: Server, folder: Path) -> None:
    """Every file is there, byte for byte, and nothing of the work is left."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found.pop(".fetch.json")
    suffix = Path(next(iter(found))).suffix
    assert found == {f"{word}{suffix}": served.body for word, served in server.files.items()}


def require_refused(server: Server, folder: Path, message: str, **options: object) -> None:
    """`cat` is refused with `message` after all attempts, and `dog` is there nevertheless."""
    server.files["dog"] = Served(drawings(500, 7))
    with pytest.raises(InputError, match=message):
        run(server, folder, **options)
    assert not (folder / "cat.ndjson").exists()
    assert (folder / "dog.ndjson").read_bytes() == server.files["dog"].body
