"""A web server of a folder, with ranges, that cuts or refuses if told to."""

import functools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Requests:
    """What a web server was asked for, and how it behaves."""

    ranges: bool = True
    cut: Callable[[], bool] = lambda: False
    etag: str = '"1"'
    seen: list[str] = field(default_factory=list)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        pass  # the client hung up


class FolderHandler(SimpleHTTPRequestHandler):
    """Python's own server, which lists folders but gives no ranges, taught to give them."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20  # one packet, or the client waits for the second
    behaviour: Requests

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.behaviour.seen.append(f"{self.path} {asked}")
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return super().do_GET()
        body, size = path.read_bytes(), path.stat().st_size
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        headers = {"ETag": self.behaviour.etag}
        if span is None or not self.behaviour.ranges:
            return self._send(200, body, headers)
        first, last = int(span[1]), min(int(span[2] or size), size - 1)
        if first >= size:
            return self._send(416, b"", headers)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return self._send(206, body[first : last + 1], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.behaviour.cut():
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[int]:
    """Answers by `handler` on 127.0.0.1; yields the port."""
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def web_server(folder: Path, behaviour: Requests) -> Iterator[str]:
    """Serves a folder; yields its address."""
    handler = type("Handler", (FolderHandler,), {"behaviour": behaviour})
    with serving(functools.partial(handler, directory=folder)) as port:
        yield f"http://127.0.0.1:{port}"


class RefusingHandler(FolderHandler):
    """Refuses as S3 does whoever has no rights."""

    behaviour = Requests()

    def do_GET(self) -> None:
        error = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self._send(403, error, {"Content-Type": "application/xml"})
