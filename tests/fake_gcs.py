"""A little Google Cloud Storage: `python fake_gcs.py FOLDER` serves `FOLDER/<bucket>/<key>`.

It speaks the few calls of the JSON API that a store makes
(https://docs.cloud.google.com/storage/docs/json_api/v1/objects): list, get, get with `alt=media`,
delete, and resumable uploads, of which the object is there once the last piece is. A bucket named
`private` refuses everybody. Prints its port and serves until it is ended. It needs a process of
its own: pyarrow's client holds the interpreter's lock during some of its requests, so a server in
a thread beside it would never answer.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_NUMBERS = count()
_UPLOADS: dict[str, tuple[Path, bytearray]] = {}
_PATH = re.compile(r"/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?")


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        pass  # the client hangs up on requests that it began too early


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20  # one packet, or the client waits for the second
    root = Path()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        found = _PATH.fullmatch(address.path)
        bucket, key = (unquote(part or "") for part in found.groups()) if found else ("", "")
        if bucket == "private":
            return self._send(401, b'{"error": {"code": 401, "message": "Anonymous caller"}}')
        path = self.root / bucket / key
        if not bucket or not (path.is_file() if key else path.is_dir()):
            return self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}')
        if not key:
            return self._send_json(
                self._listing(path, query.get("prefix", ""), query.get("delimiter"))
            )
        if query.get("alt") == "media":
            return self._send_media(path.read_bytes())
        return self._send_json(self._item(path))

    def do_DELETE(self) -> None:
        path = self._path_of(urlsplit(self.path).path)
        if not path.is_file():
            return self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}')
        path.unlink()
        return self._send(204, b"")

    def do_POST(self) -> None:
        """Begins an upload."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        bucket = address.path.split("/")[-2]
        if not (self.root / bucket).is_dir():
            return self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}')
        upload = str(next(_NUMBERS))
        _UPLOADS[upload] = (self.root / bucket / parse_qs(address.query)["name"][0], bytearray())
        host, port = self.server.server_address[:2]
        return self._send(200, b"", ("Location", f"http://{host!s}:{port}/upload?id={upload}"))

    def do_PUT(self) -> None:
        """A piece of an upload: `bytes 0-99/*`, or the last one, `bytes 100-149/150`."""
        upload = parse_qs(urlsplit(self.path).query)["id"][0]
        path, received = _UPLOADS[upload]
        received += self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Content-Range"].endswith("/*"):
            return self._send(308, b"", ("Range", f"bytes=0-{len(received) - 1}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(received)
        del _UPLOADS[upload]
        return self._send_json(self._item(path))

    def _path_of(self, address: str) -> Path:
        found = _PATH.fullmatch(address)
        bucket, key = (unquote(part or "") for part in found.groups()) if found else ("", "")
        return self.root / bucket / key

    def _listing(self, bucket: Path, prefix: str, delimiter: str | None) -> dict[str, Any]:
        files = sorted(path for path in bucket.rglob("*") if path.is_file())
        items = [self._item(path) for path in files]
        items = [item for item in items if item["name"].startswith(prefix)]
        below = {
            item["name"]: item["name"][len(prefix) :].partition(delimiter or "\0")
            for item in items
        }
        return {
            "kind": "storage#objects",
            "items": [item for item in items if not below[item["name"]][1]],
            "prefixes": sorted({prefix + name + mark for name, mark, _ in below.values() if mark}),
        }

    def _item(self, path: Path) -> dict[str, Any]:
        bucket, _, key = path.relative_to(self.root).as_posix().partition("/")
        times = dict.fromkeys(("timeCreated", "updated"), "2026-01-02T03:04:05Z")
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": key,
            "size": str(path.stat().st_size),
            "generation": "1",
        } | times

    def _send_media(self, body: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            return self._send(200, body)
        first, last = int(span[1]), min(int(span[2] or len(body)), len(body) - 1)
        if first > last:
            return self._send(416, b"")
        content = f"bytes {first}-{last}/{len(body)}"
        return self._send(206, body[first : last + 1], ("Content-Range", content))

    def _send_json(self, value: dict[str, Any]) -> None:
        self._send(200, json.dumps(value).encode())

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    _Handler.root = Path(sys.argv[1])
    server = _Server(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)  # noqa: T201 — what the test reads
    server.serve_forever()
