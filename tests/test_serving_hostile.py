"""Clients that mean harm, are slow or go away, names that are not the server's, and its end."""

import asyncio
import io
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from serving_app import SQUARE, InkRecognizer, async_client_of, client_of, serving, slot_of

from quickdraw_core.errors import ConfigError, PictureError
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.serving.web import api, pictures, reading, server
from quickdraw_core.serving.web.answers import Refused
from quickdraw_core.serving.web.app import create_app
from quickdraw_core.serving.web.batching import Workers
from quickdraw_core.serving.web.config import ServeConfig
from quickdraw_core.serving.web.server import listen


@pytest.fixture(scope="module")
def client():
    with client_of() as client:
        yield client


def connected(client: httpx.Client) -> socket.socket:
    address = urlsplit(str(client.base_url))
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 0), timeout=20)


def test_workers_take_no_more_than_they_may_and_end_at_once():
    async def run() -> None:
        may_go = threading.Event()
        workers = Workers(1, "test", 2, "busy")
        tasks = [asyncio.create_task(workers.run(may_go.wait, 60)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="busy"):
            await workers.run(print)
        tasks[1].cancel()
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="busy"):  # its place is kept until the thread sees it
            await workers.run(print)
        workers.close()
        with pytest.raises(Refused, match="is being stopped"):
            await tasks[0]
        with pytest.raises(Refused, match="is being stopped"):
            await workers.run(print)
        may_go.set()

    asyncio.run(run())


def test_a_picture_that_takes_too_long_is_given_up(monkeypatch):
    may_go = threading.Event()
    monkeypatch.setattr(api, "packed_picture", lambda *values: may_go.wait(60))

    async def run() -> None:
        async with async_client_of(limits={"answer_seconds": 0.05}) as client:
            answer = await client.post("/api/guess/picture", files={"picture": ("a", b"")})
            may_go.set()
            assert answer.status_code == 503
            assert "within 0.05 seconds" in answer.json()["error"]

    asyncio.run(run())


def test_a_jpeg_of_many_scans_is_refused():
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(file, "JPEG", progressive=True)
    data = file.getvalue()
    assert open_picture(data).shape == (16, 16, 3)
    assert open_picture(data + b"\xff\xda" * 200).shape == (16, 16, 3)  # after its end
    start = data.index(b"\xff\xda")
    with pytest.raises(PictureError, match="more than 100 scans"):
        open_picture(data[:start] + data[start:-2] * 101 + data[-2:])


def test_bodies_that_are_read_at_once_are_bounded(client, monkeypatch):
    monkeypatch.setattr(reading, "READING_BYTES", 10)
    answer = client.post("/api/guess", json={"drawing": SQUARE})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "too much is being sent" in answer.json()["error"]
    monkeypatch.undo()
    assert client.post("/api/guess", json={"drawing": SQUARE}).status_code == 200


def test_a_client_that_goes_away_is_no_failure(client, capfd):
    with connected(client) as connection:
        connection.sendall(
            b"POST /api/guess HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 99\r\n\r\n{"
        )
        time.sleep(0.05)
    counted = 'route="/api/guess",status="499"'
    until = time.monotonic() + 5
    while counted not in client.get("/metrics").text and time.monotonic() < until:
        time.sleep(0.01)
    assert counted in client.get("/metrics").text
    assert capfd.readouterr().err == ""


def test_many_headers_are_refused_though_they_come_at_once(client):
    for head in (b"x: " + b"a" * 40_000, b"\r\n".join(b"x%d: abcdef" % n for n in range(3000))):
        with connected(client) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", b"\r\n"),
        (b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n", b"x"),
    ],
)
def test_a_connection_that_begins_no_message_is_left(client, monkeypatch, first, later):
    monkeypatch.setattr(server, "HEADER_SECONDS", 1.0)
    with connected(client) as connection:
        connection.sendall(first)
        assert connection.recv(4000).startswith(b"HTTP/1.1 ")
        connection.sendall(later)
        while connection.recv(4000):
            pass


def test_a_host_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match="is not known"):
        listen("a..b", 0)


@pytest.mark.parametrize(
    ("config", "name", "status"),
    [
        ({}, "localhost:8000", 200),
        ({}, "127.0.0.1", 200),
        ({}, "[::1]:8000", 200),
        ({}, "evil.example:8000", 421),
        ({"host": "box.lan"}, "Box.lan:8000", 200),
        ({"allow_host": ["play.example.org"]}, "play.example.org", 200),
        ({"host": "0.0.0.0"}, "play:8000", 200),
        ({"host": "::"}, "play:8000", 200),
        ({"host": "0.0.0.0", "allow_host": ["a.example"]}, "play:8000", 421),
    ],
)
def test_requests_must_name_the_server(config, name, status):
    async def run() -> None:
        async with async_client_of(**config) as client:
            answer = await client.get("/healthz", headers={"host": name})
            assert answer.status_code == status
            if status == 421:
                assert f"--allow-host {name.partition(':')[0]}" in answer.json()["error"]
                assert answer.headers["x-frame-options"] == "DENY"

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_head_is_answered_as_get_is(client, path):
    answer = client.head(path)
    assert answer.status_code == client.get(path).status_code
    assert answer.content == b""


def test_what_is_not_answered_at_the_end_gets_503(monkeypatch, capfd):
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    recognizer = InkRecognizer()
    slot = slot_of(recognizer)
    recognizer.may_go.clear()
    answers: list[httpx.Response] = []
    with serving(create_app(slot, ServeConfig.parse({"threads": 1}))) as address:

        def ask() -> None:
            body = {"drawing": SQUARE}
            answers.append(httpx.post(f"{address}/api/guess", json=body, timeout=60))

        users = [threading.Thread(target=ask) for _ in range(3)]
        users[0].start()
        while not recognizer.batches:  # the only thread is busy: the others wait
            time.sleep(0.01)
        for user in users[1:]:
            user.start()
        while "quickdraw_queue_drawings 2.0" not in httpx.get(f"{address}/metrics").text:
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    recognizer.may_go.set()
    for user in users:
        user.join()
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("is being stopped" in answer.json()["error"] for answer in answers)
    assert capfd.readouterr().err == ""


def test_a_picture_without_a_drawing_within_its_limits_is_422(monkeypatch):
    from quickdraw_core.errors import InputError

    class Traced:
        @property
        def drawing(self) -> None:
            raise InputError("too many strokes")

    class Processes:
        def read(self, data: bytes, max_bytes: int, max_pixels: int) -> Traced:
            return Traced()

    monkeypatch.setattr(pictures, "picture_in", lambda body, boundary: b"")
    with pytest.raises(Refused, match="too many strokes") as refused:
        pictures.packed_picture(b"", b"", ServeConfig().limits, Processes())
    assert refused.value.status == 422


def test_pictures_that_cannot_be_read_at_all_are_503(monkeypatch):
    from quickdraw_core.errors import ReaderError

    class Processes:
        def read(self, data: bytes, max_bytes: int, max_pixels: int) -> None:
            raise ReaderError("no library")

    monkeypatch.setattr(pictures, "picture_in", lambda body, boundary: b"")
    with pytest.raises(Refused, match="no library") as refused:
        pictures.packed_picture(b"", b"", ServeConfig().limits, Processes())
    assert refused.value.status == 503
