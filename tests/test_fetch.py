"""Downloads from a real server on this machine, which cuts, lies and changes its mind."""

import base64
import hashlib
import json
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Event, Lock, Thread
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.errors import BusyError, ConfigError, InputError
from quickdraw_core.labels import challenge_words
from quickdraw_core.progress import report_to
from quickdraw_core.sources.fetch import (
    THREAD_NAME,
    FetchConfig,
    FetchResult,
    chosen_words,
    fetch,
)
from quickdraw_core.sources.fetch_call import _pause_seconds

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
class Seen:
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
        self.seen: list[Seen] = []
        self.lock = Lock()
        self.go_on = Event()
        self.meet: Barrier | None = None
        self.busy = self.most_busy = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def of(self, word: str, method: str = "GET") -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.word) == (method, word)]

    def sent_bytes(self) -> int:
        return sum(seen.sent_bytes for seen in self.seen)

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
        served, seen = self._served()
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
        self._get(now, seen)

    def _served(self) -> tuple[Served | None, Seen]:
        folder, name = unquote(self.path).strip("/").split("/")
        word = name.removesuffix(FOLDERS[folder])
        seen = Seen(self.command, word, self.path, dict(self.headers.items()))
        with self.server.lock:
            self.server.seen.append(seen)
            served = self.server.files.get(word)
            if served is None:
                instead: list[Answer] = [(404, {})]
            else:
                instead = served.head_answers if self.command == "HEAD" else served.get_answers
            answer = instead.pop(0) if instead else None
        if answer is not None:
            self._head(None, answer[0], {"Content-Length": "0", **answer[1]})
            return None, seen
        return served, seen

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

    def _get(self, served: Served, seen: Seen) -> None:
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
        self._send(seen, body[:cut], stated < 0, served.pause_at)
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

    def _send(self, seen: Seen, body: bytes, chunked: bool, pause_at: int | None) -> None:
        pieces = [body] if pause_at is None else [body[:pause_at], body[pause_at:]]
        for number, piece in enumerate(pieces):
            if number:
                self.wfile.flush()
                self.server.go_on.wait(timeout=300)
            seen.sent_bytes += len(piece)  # before the client can know
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


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


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


# What is fetched, from where, under which name.


@pytest.mark.parametrize("file_format", FOLDERS)
def test_files_come_in_google_s_layout(server: Server, tmp_path: Path, file_format: str) -> None:
    words = ("The Eiffel Tower", "t-shirt", "knife")
    server.files = {word: Served(drawings(1000 + n, n)) for n, word in enumerate(words)}
    result = run(server, tmp_path, classes=("The_Eiffel_Tower", *words[1:]), format=file_format)
    require_whole(server, tmp_path)
    assert result.fetched == ("The Eiffel Tower", "knife", "t-shirt")
    assert result.size_bytes == result.received_bytes == 3003
    (seen,) = server.of("The Eiffel Tower")
    assert seen.path == f"/{file_format}/The%20Eiffel%20Tower{FOLDERS[file_format]}"
    assert seen.headers["Accept-Encoding"] == "identity"


def test_google_s_345_words_are_known_and_the_challenge_s_340_are_the_default(
    tmp_path: Path,
) -> None:
    assert chosen_words(FetchConfig(folder=tmp_path)) == challenge_words()
    further = ("aircraft carrier", "knife", "lighter", "rifle", "syringe")
    everything = FetchConfig(folder=tmp_path, classes=(*challenge_words(), *further))
    assert len(chosen_words(everything)) == 345


def test_an_unknown_word_is_refused_before_any_work(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(b"")}
    with pytest.raises(InputError, match="'eifel tower': did you mean 'The Eiffel Tower'"):
        run(server, tmp_path / "new", classes=("cat", "eifel_tower"))
    assert not server.seen
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "simple"}, "option 'format': did you mean 'simplified'"),
        ({"base_url": "ftp://host/x"}, "https://host/folder"),
        ({"base_url": "http://host/x?key=1"}, "must end before"),
        ({"parallel": 0}, "option 'parallel'"),
    ],
)
def test_a_bad_option_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FetchConfig.parse({"folder": tmp_path} | options)


def test_a_file_of_no_bytes_is_a_file(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(b"")}
    assert run(server, tmp_path).fetched == ("cat",)
    require_whole(server, tmp_path)


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_without_head_is_asked_by_get(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.files = {"cat": Served(drawings(1000), head_status=status)}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000)), "dog": Served(drawings(1000))}
    away = (302, {"Location": "/simplified/cat.ndjson"})
    server.files["dog"].head_answers, server.files["dog"].get_answers = [away], [away]
    run(server, tmp_path)
    require_whole(server, tmp_path)


# What is there is not fetched again.


def test_finished_files_are_left_alone(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000)), "dog": Served(drawings(2000))}
    run(server, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ndjson")}
    server.seen.clear()
    result = run(server, tmp_path)
    assert result.present == ("cat", "dog")
    assert (result.fetched, result.received_bytes, result.size_bytes) == ((), 0, 3000)
    assert {seen.method for seen in server.seen} == {"HEAD"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ndjson")} == times


def test_a_file_of_another_size_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000))}
    (tmp_path / "cat.ndjson").write_bytes(drawings(999))
    assert run(server, tmp_path).fetched == ("cat",)
    require_whole(server, tmp_path)


def test_an_old_file_stays_until_the_new_one_is_whole(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[500] * 9, ranges=False)}
    old = drawings(999)
    (tmp_path / "cat.ndjson").write_bytes(old)
    with pytest.raises(InputError):
        run(server, tmp_path)
    assert (tmp_path / "cat.ndjson").read_bytes() == old


def test_two_formats_do_not_share_a_folder(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000))}
    run(server, tmp_path)
    with pytest.raises(ConfigError, match="holds simplified files; give raw ones another folder"):
        run(server, tmp_path, format="raw")
    (tmp_path / "cat.ndjson").unlink()
    run(server, tmp_path, format="raw")
    require_whole(server, tmp_path)


# Cut connections.


def test_a_cut_connection_is_continued_however_often(server: Server, tmp_path: Path) -> None:
    body = drawings(300_000)
    server.files = {"cat": Served(body, cuts=[30_000] * 9, hashes=(md5_header(body),))}
    result = run(server, tmp_path, retries=1)
    require_whole(server, tmp_path)
    assert len(server.of("cat")) == 10
    assert server.sent_bytes() == result.received_bytes == len(body)
    first, *further = server.of("cat")
    assert "Range" not in first.headers
    assert [seen.headers["Range"] for seen in further] == [
        f"bytes={30_000 * n}-" for n in range(1, 10)
    ]
    assert {seen.headers["If-Range"] for seen in further} == {'"1"'}


@given(
    size=st.integers(0, 200_000),
    cuts=st.lists(st.integers(0, 150_000), max_size=4),
    ranges=st.booleans(),
    chunked=st.booleans(),
    etag=st.sampled_from(['"1"', 'W/"1"', None]),
)
@settings(max_examples=40, deadline=None)
def test_wherever_the_connection_is_cut_the_bytes_are_the_server_s(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    cuts: list[int],
    ranges: bool,
    chunked: bool,
    etag: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with serving() as server:
        served = Served(drawings(size), etag=etag, ranges=ranges, cuts=cuts)
        server.files = {"cat": replace(served, get_size=-1 if chunked else None)}
        run(server, folder, retries=4)
        require_whole(server, folder)


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    body = drawings(100_000)
    server.files = {"cat": Served(body, ranges=False, cuts=[40_000, 60_000])}
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert result.received_bytes == 200_000


def test_a_line_that_brings_nothing_new_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(100_000), ranges=False, cuts=[40_000] * 99)}
    with pytest.raises(InputError, match=r"cat\.ndjson: got 40,000 bytes, expected 100,000.*4\)"):
        run(server, tmp_path)
    # The attempt that brought the first bytes counts as progress.
    assert len(server.of("cat")) == 4
    assert not (tmp_path / "cat.ndjson").exists()


def test_the_next_call_continues_what_was_given_up(server: Server, tmp_path: Path) -> None:
    body = drawings(100_000)
    server.files = {"cat": Served(body, cuts=[40_000] + [0] * 4)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    server.seen.clear()
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert (result.continued, result.received_bytes) == (("cat",), 60_000)


# Lies about sizes.


def require_refused(server: Server, folder: Path, message: str, **options: object) -> None:
    """`cat` is refused with `message` after all attempts, and `dog` is there nevertheless."""
    server.files["dog"] = Served(drawings(500, 7))
    with pytest.raises(InputError, match=message):
        run(server, folder, **options)
    assert not (folder / "cat.ndjson").exists()
    assert (folder / "dog.ndjson").read_bytes() == server.files["dog"].body


@pytest.mark.parametrize("ranges", [True, False])
def test_a_size_too_large_is_noticed(server: Server, tmp_path: Path, ranges: bool) -> None:
    lie = {"head_size": 5000, "get_size": 5000}
    server.files = {"cat": Served(drawings(4000), ranges=ranges, **lie)}
    message = r"1 of 2 files .* cat\.ndjson: got 4,000 bytes, expected 5,000"
    require_refused(server, tmp_path, message)
    assert 4 <= len(server.of("cat")) <= 8


def test_a_size_too_small_is_noticed_by_its_last_line(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(4000), head_size=3000, get_size=3000)}
    require_refused(server, tmp_path, r"cat\.ndjson: got 3,000 bytes as stated, expected more")


def test_a_size_too_small_is_noticed_by_its_checksum(server: Server, tmp_path: Path) -> None:
    body = drawings(4000)
    lie = {"head_size": 3000, "get_size": 3000}
    server.files = {"cat": Served(body, hashes=(md5_header(body),), **lie)}
    require_refused(server, tmp_path, r"cat\.ndjson: got 3,000 bytes as expected, but of md5")


def test_two_sizes_for_one_file_are_noticed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(4000), head_size=3000)}
    require_refused(server, tmp_path, r"cat\.ndjson: got an answer of 4,000 .* expected 3,000")


def test_more_than_was_stated_is_noticed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(4000), head_size=3000, get_size=-1)}
    require_refused(server, tmp_path, r"cat\.ndjson: got at least 4,000 bytes, expected 3,000")


def test_less_than_was_stated_is_noticed(server: Server, tmp_path: Path) -> None:
    served = Served(drawings(4000), head_size=5000, get_size=-1, etag=None)
    server.files = {"cat": served}
    require_refused(server, tmp_path, r"cat\.ndjson: got 4,000 bytes, expected 5,000")


def test_a_size_that_is_a_passing_lie_costs_an_attempt(server: Server, tmp_path: Path) -> None:
    def tell_the_truth(served: Served) -> None:
        served.get_size = None

    server.files = {"cat": Served(drawings(4000), get_size=100, after_get=tell_the_truth)}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_what_comes_compressed_unasked_is_refused(server: Server, tmp_path: Path) -> None:
    packed = (200, {"Content-Length": "1000", "Content-Encoding": "gzip"})
    server.files = {"cat": Served(drawings(2000), head_answers=[packed])}
    require_refused(server, tmp_path, r"cat\.ndjson: the server sends it as gzip, unasked")


def test_a_file_without_a_size_is_refused(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(2000), head_status=405, get_size=-1)}
    require_refused(server, tmp_path, r"cat\.ndjson: the server states no size")


# Files that change on the server.


def changing(new: Served) -> Callable[[Served], None]:
    """After the next GET, the file is another one."""

    def change(served: Served) -> None:
        vars(served).update(vars(new))

    return change


@pytest.mark.parametrize(
    ("old_marks", "new_marks"),
    [
        ({"etag": '"1"'}, {"etag": '"2"'}),
        ({"etag": '"1"'}, {"etag": '"2"', "heeds_if_range": False}),
        ({"etag": 'W/"1"'}, {"etag": 'W/"2"', "heeds_if_range": False}),
        ({"etag": None}, {"etag": None, "heeds_if_range": False}),
        (
            {"etag": None, "modified": "Mon, 01 May 2017 10:00:00 GMT"},
            {"etag": None, "modified": "Tue, 02 May 2017 10:00:00 GMT"},
        ),
    ],
)
@pytest.mark.parametrize("new_size", [60_000, 100_000, 130_000])
def test_two_versions_are_never_mixed(
    server: Server,
    tmp_path: Path,
    old_marks: dict[str, object],
    new_marks: dict[str, object],
    new_size: int,
) -> None:
    new = Served(drawings(new_size, seed=2), **new_marks)
    old = Served(drawings(100_000, seed=1), cuts=[70_000], after_get=changing(new), **old_marks)
    server.files = {"cat": old}
    run(server, tmp_path)
    assert (tmp_path / "cat.ndjson").read_bytes() == drawings(new_size, seed=2)


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_between_the_answers_is_fetched_anew(
    server: Server, tmp_path: Path, heeds_if_range: bool
) -> None:
    """It is still the old one when the size is asked for, and new when the rest is."""
    old = Served(drawings(100_000, seed=1), cuts=[70_000] + [0] * 3)
    server.files = {"cat": old}
    with pytest.raises(InputError):
        run(server, tmp_path)
    new = Served(drawings(100_000, seed=2), etag='"2"', heeds_if_range=heeds_if_range)
    new.head_answers = [(200, {"ETag": '"1"', "Content-Length": "100000"})]
    server.files = {"cat": new}
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert result.received_bytes == 100_000


@pytest.mark.parametrize("note", ["{", '{"url": 1}', None])
def test_bytes_of_unknown_origin_are_not_continued(
    server: Server, tmp_path: Path, note: str | None
) -> None:
    server.files = {"cat": Served(drawings(1000))}
    (tmp_path / ".cat.ndjson.part").write_bytes(b"?" * 400)
    if note is not None:
        (tmp_path / ".cat.ndjson.part.json").write_text(note)
    assert run(server, tmp_path).continued == ()
    require_whole(server, tmp_path)


def test_another_server_s_bytes_are_not_continued(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[400] + [0] * 3)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    with serving() as other:
        other.files = {"cat": Served(drawings(1000, seed=2))}
        assert run(other, tmp_path).received_bytes == 1000
        require_whole(other, tmp_path)


def test_a_part_that_is_all_there_only_gets_its_name(server: Server, tmp_path: Path) -> None:
    """As after a kill between the last byte and the rename."""
    server.files = {"cat": Served(drawings(1000), cuts=[999] + [0] * 3)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    with (tmp_path / ".cat.ndjson.part").open("ab") as file:
        file.write(b"\n")
    server.seen.clear()
    assert run(server, tmp_path).continued == ("cat",)
    require_whole(server, tmp_path)
    assert not server.of("cat")


def test_a_part_that_is_too_long_is_dropped(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[999] + [0] * 3)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    with (tmp_path / ".cat.ndjson.part").open("ab") as file:
        file.write(b"\n\n")
    server.seen.clear()
    run(server, tmp_path)
    require_whole(server, tmp_path)
    assert "Range" not in server.of("cat")[0].headers


def test_a_part_beside_the_finished_file_is_removed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000))}
    (tmp_path / "cat.ndjson").write_bytes(drawings(1000))
    (tmp_path / ".cat.ndjson.part").write_bytes(b"?")
    (tmp_path / ".cat.ndjson.part.json").write_text("{}")
    assert run(server, tmp_path).present == ("cat",)
    require_whole(server, tmp_path)


@pytest.mark.parametrize("etag", ['W/"1"', None])
def test_without_a_strong_mark_nothing_is_continued(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.files = {"cat": Served(drawings(1000), etag=etag, cuts=[400, 700])}
    assert run(server, tmp_path).received_bytes == 400 + 700 + 1000
    require_whole(server, tmp_path)


# Checksums.


def test_a_wrong_checksum_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), hashes=(md5_header(b"else"),))}
    require_refused(server, tmp_path, r"cat\.ndjson: got 1,000 bytes as expected, but of md5 ")
    assert len(server.of("cat")) == 4


def test_a_damaged_part_is_found_by_the_checksum_of_the_whole(
    server: Server, tmp_path: Path
) -> None:
    body = drawings(100_000)
    server.files = {"cat": Served(body, cuts=[40_000] + [0] * 3)}
    # As Google sends them: two headers of one name.
    server.files["cat"].hashes = ("crc32c=AAAAAA==", md5_header(body))
    with pytest.raises(InputError):
        run(server, tmp_path)
    with (tmp_path / ".cat.ndjson.part").open("r+b") as file:
        file.write(b"damage")
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert result.received_bytes == 60_000 + 100_000


# What the server answers instead.


def test_missing_files_are_named_and_the_others_are_there(server: Server, tmp_path: Path) -> None:
    server.files = {word: Served(drawings(1000)) for word in ("cat", "dog", "bee")}
    asked = (*server.files, "The Mona Lisa", "t-shirt")
    message = r"2 of 5 files .* missing there: The Mona Lisa\.ndjson, t-shirt\.ndjson; all others"
    with pytest.raises(InputError, match=message):
        run(server, tmp_path, classes=asked)
    require_whole(server, tmp_path)
    # What is not there is not asked for again and again.
    assert len(server.of("t-shirt", "HEAD")) == 1


def test_nothing_but_missing_files_points_to_the_address(server: Server, tmp_path: Path) -> None:
    server.files = {}
    with pytest.raises(InputError, match=r"340 of 340 files .* 320 more; check the base URL"):
        run(server, tmp_path, classes=None)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
@pytest.mark.parametrize("answers", ["head_answers", "get_answers"])
def test_a_busy_server_is_asked_again(
    server: Server, tmp_path: Path, status: int, answers: str
) -> None:
    served = Served(drawings(1000))
    server.files = {"cat": replace(served, **{answers: [(status, {})] * 3})}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), head_answers=[(403, {})])}
    require_refused(server, tmp_path, r"cat\.ndjson: the server answers 403")
    assert len(server.of("cat", "HEAD")) == 1


def test_retry_after_is_heeded(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), get_answers=[(429, {"Retry-After": "1"})])}
    begun = time.monotonic()
    run(server, tmp_path)
    assert time.monotonic() - begun >= 1
    require_whole(server, tmp_path)


@given(failures=st.integers(1, 100), backoff=st.floats(0.001, 10), asked=st.floats(0, 1e9))
def test_pauses_grow_and_end(failures: int, backoff: float, asked: float) -> None:
    pause = _pause_seconds(backoff, failures, asked)
    assert min(asked, 60) <= pause <= 60
    assert pause >= min(backoff * 2 ** (failures - 1) / 2, 60)


def test_a_server_that_is_away_ends_the_call_at_once(tmp_path: Path) -> None:
    with serving() as server:
        url = server.url
    config = {"folder": tmp_path, "base_url": url, "retries": 2, "backoff_seconds": 0.001}
    with pytest.raises(InputError, match=r"^no answer from http.*: Connection refused \(att"):
        fetch(FetchConfig.parse(config))


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), pause_at=0)}
    with pytest.raises(InputError, match=r"cat\.ndjson: got 0 bytes, expected 1,000: .*timed out"):
        run(server, tmp_path, timeout_seconds=0.2, retries=1)


def test_a_password_in_the_address_is_used_and_not_told(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[500, 0, 0, 0])}
    url = server.url.replace("http://", "http://user:secret@")
    with pytest.raises(InputError) as caught:
        run(server, tmp_path, base_url=url)
    assert server.of("cat")[0].headers["Authorization"].startswith("Basic ")
    note = (tmp_path / ".cat.ndjson.part.json").read_text()
    assert "secret" not in str(caught.value) + note


# Several at a time.


def test_as_many_connections_as_asked_for(server: Server, tmp_path: Path) -> None:
    words = challenge_words()[:12]
    server.files = {word: Served(drawings(3000, n)) for n, word in enumerate(words)}
    server.meet = Barrier(3)  # none goes on before three are there
    run(server, tmp_path, parallel=3)
    require_whole(server, tmp_path)
    assert server.most_busy == 3


class Bars:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.bars: dict[str, list[float]] = {}

    def open(self, name: str, total: float | None, unit: str) -> "Bars.Bar":
        self.bars[f"{name} {total} {unit}"] = done = []
        return Bars.Bar(done)

    def close(self, bar: object) -> None:
        pass

    class Bar:
        def __init__(self, done: list[float]) -> None:
            self.done = done

        def advance(self, amount: float) -> None:
            self.done.append(amount)

        def expect(self, total: float) -> None:
            pass

        def note(self, text: str) -> None:
            pass


def test_progress_is_told_in_bytes_and_never_goes_back(server: Server, tmp_path: Path) -> None:
    sizes = {"cat": 100_000, "dog": 50_000}
    server.files = {word: Served(drawings(size)) for word, size in sizes.items()}
    server.files["cat"] = replace(server.files["cat"], ranges=False, cuts=[40_000, 20_000])
    bars = Bars()
    with report_to(bars):
        run(server, tmp_path)
    assert set(bars.bars) == {"ask 2 files", "fetch 150000 bytes"}
    advances = bars.bars["fetch 150000 bytes"]
    assert sum(advances) == 150_000
    assert min(advances) > 0


# Killed, stopped, and without room.

FETCH = """
import json, resource, signal, sys
from quickdraw_core.sources.fetch import FetchConfig, fetch
signal.signal(signal.SIGINT, signal.default_int_handler)
values, largest = json.loads(sys.argv[1]), int(sys.argv[2])
if largest:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
fetch(FetchConfig.parse(values))
"""


def start(config: FetchConfig, largest_file: int = 0) -> subprocess.Popen[str]:
    """`fetch` in a process of its own."""
    values = json.dumps(config.model_dump(mode="json"))
    command = [sys.executable, "-c", FETCH, values, str(largest_file)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def part_sizes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(".*.part"))


def test_after_kill_9_nothing_that_was_received_is_fetched_again(
    server: Server, tmp_path: Path
) -> None:
    words = ("cat", "dog", "The Eiffel Tower")
    server.files = {
        w: Served(drawings(600_000 + n, n), pause_at=190_001) for n, w in enumerate(words)
    }
    config = config_of(server, tmp_path, parallel=2)
    for expected in (2 * 190_001, 4 * 190_001):
        process = start(config)
        wait_until(partial(lambda size: part_sizes(tmp_path) == size, expected), process)
        process.kill()
        process.communicate()
        assert not list(tmp_path.glob("*.ndjson"))
    server.go_on.set()
    result = fetch(config)
    require_whole(server, tmp_path)
    assert result.received_bytes == 3 * 600_000 + 3 - 4 * 190_001
    assert result.continued == ("The Eiffel Tower", "cat")
    last = [seen for seen in server.seen if seen.method == "GET"][-3:]
    assert sum(seen.sent_bytes for seen in last) == result.received_bytes


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("pause_at", [100_000, -1])
def test_ctrl_c_stops_at_once_and_keeps_what_is_there(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pause_at: int,
    secure: bool,
) -> None:
    """While the server is silent, in the middle of a body or before its answer."""
    served = Served(drawings(200_000), pause_at=pause_at)
    expected = max(0, pause_at)
    with serving() as server:
        server.files = {"cat": served}
        if secure:
            make_secure(server, request.getfixturevalue("certificate"), monkeypatch)
        process = start(config_of(server, tmp_path, timeout_seconds=3_600))
        wait_until(lambda: bool(server.of("cat")) and part_sizes(tmp_path) == expected, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert part_sizes(tmp_path) == expected
        server.go_on.set()
        assert run(server, tmp_path).received_bytes == 200_000 - expected
        require_whole(server, tmp_path)


def test_a_call_that_ends_early_leaves_no_thread_behind(server: Server, tmp_path: Path) -> None:
    """One file cannot get its name while the other waits for a silent server."""
    server.files = {
        "cat": Served(drawings(1000), pause_at=500),
        "dog": Served(drawings(1000)),
    }
    (tmp_path / "dog.ndjson").mkdir()
    with pytest.raises(InputError, match=r"cannot write to .*dog\.ndjson"):
        run(server, tmp_path, parallel=2)
    assert THREAD_NAME not in {thread.name for thread in threading.enumerate()}


def test_only_one_call_at_a_time_writes_to_a_folder(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(200_000), pause_at=100_000)}
    process = start(config_of(server, tmp_path))
    wait_until(lambda: bool(server.of("cat")), process)
    with pytest.raises(BusyError, match=r"another command is at work on .*: fetch, process"):
        run(server, tmp_path)
    server.go_on.set()
    assert process.wait(timeout=300) == 0
    process.communicate()
    require_whole(server, tmp_path)


def test_a_write_that_fails_is_a_clear_error_and_leaves_no_half_file(
    server: Server, tmp_path: Path
) -> None:
    server.files = {"cat": Served(drawings(300_000)), "dog": Served(drawings(50_000))}
    process = start(config_of(server, tmp_path, parallel=1), largest_file=1 << 17)
    _, errors = process.communicate(timeout=300)
    assert f"InputError: cannot write to {tmp_path}: File too large; make room" in errors
    assert not list(tmp_path.glob("*.ndjson"))
    assert part_sizes(tmp_path) == 1 << 17
    assert run(server, tmp_path).continued == ("cat",)
    require_whole(server, tmp_path)


FULL_DISK = """
import hashlib, json, sys, threading, time
from pathlib import Path
from quickdraw_core.errors import InputError
from quickdraw_core.sources.fetch import FetchConfig, fetch
config = FetchConfig.parse(json.loads(sys.argv[1]))
filler = config.folder / "filler"

def fill():
    # All that comes before the server pauses: nothing is written while the disk fills up.
    while not any(part.stat().st_size == 200_000 for part in config.folder.glob(".*.part")):
        time.sleep(0.01)
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            print("full", flush=True)

threading.Thread(target=fill).start()
try:
    fetch(config)
except InputError as error:
    print(error)
print([path.name for path in config.folder.glob("*.ndjson")])
filler.unlink()
fetch(config)
print(hashlib.sha256((config.folder / "cat.ndjson").read_bytes()).hexdigest())
"""


def test_a_disk_that_fills_up_is_a_clear_error_and_leaves_no_half_file(
    server: Server, tmp_path: Path
) -> None:
    body = drawings(700_000)
    server.files = {"cat": Served(body, pause_at=200_000)}
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"'
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    values = json.dumps(config_of(server, tmp_path).model_dump(mode="json"))
    process = subprocess.Popen(
        [*inside, sys.executable, "-c", FULL_DISK, values], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "full\n"
    server.go_on.set()
    told, _ = process.communicate(timeout=300)
    error, half, digest = told.splitlines()
    assert error.startswith(f"cannot write to {tmp_path}: No space left on device; make room")
    assert half == "[]"
    assert digest == hashlib.sha256(body).hexdigest()


def test_too_little_room_is_noticed_before_any_byte(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), head_size=10**15)}
    with pytest.raises(InputError, match=r"1,000,000,000,000,000 bytes are to be fetched, but"):
        run(server, tmp_path)
    assert not server.of("cat")


def test_a_folder_that_cannot_be_made_is_a_clear_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        run(server, tmp_path / "file" / "below", classes=("cat",))


# https.


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path.with_name("key.pem")), "-out", str(path)]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here")
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return path


def make_secure(server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a server that was not yet spoken to speak TLS, and makes its certificate trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme = "https"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))


def test_a_certificate_of_nobody_is_not_trusted(
    server: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secure(server, certificate, monkeypatch)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    server.files = {"cat": Served(drawings(1000))}
    with pytest.raises(InputError, match=r"cannot trust https://127.*: self-signed"):
        run(server, tmp_path)
    assert not server.seen


def test_a_cut_https_connection_is_continued(
    server: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secure(server, certificate, monkeypatch)
    server.files = {"cat": Served(drawings(500_000), cuts=[200_000])}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_https_does_not_lead_away_to_http(
    server: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as plain:
        plain.files = {"cat": Served(drawings(1000))}
        away = (302, {"Location": f"{plain.url}/simplified/cat.ndjson"})
        make_secure(server, certificate, monkeypatch)
        server.files = {"cat": Served(drawings(1000), head_answers=[away])}
        with pytest.raises(InputError, match=r"cat\.ndjson: the server leads away from https"):
            run(server, tmp_path)
