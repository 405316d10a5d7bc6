"""`quickdraw serve` as a process: what it refuses before it serves, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from bundles import made_bundle
from serving_app import SQUARE, client_of

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_bundle(tmp_path_factory.mktemp("bundles") / "small").path


def command(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "quickdraw_core.cli", "serve", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(*words: object) -> str:
    process = command(*words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert errors.count("\n") == 1, errors
    return errors


def test_what_cannot_be_served_is_one_line(bundle: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is taken" in refused(bundle, "--port", port)
    assert "is not known" in refused(bundle, "--host", "no.such.host.invalid")
    assert "is no origin" in refused(bundle, "--port", 0, "--allow-origin", "example.org")
    (bundle.parent / "changed").mkdir()
    for file in bundle.iterdir():
        (bundle.parent / "changed" / file.name).write_bytes(file.read_bytes())
    (bundle.parent / "changed" / "model.onnx").write_bytes(b"other")
    assert "cut short" in refused(bundle.parent / "changed", "--port", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quickly_and_answers_what_it_has(bundle: Path, number: signal.Signals):
    process = command(bundle, "--port", 0)
    try:
        assert process.stdout is not None
        address = next(
            match.group() for line in process.stdout if (match := re.search(r"http://\S+", line))
        )
        statuses: list[int] = []
        ended = threading.Event()

        def user() -> None:
            with httpx.Client(base_url=address, timeout=60) as client:
                while not ended.is_set():
                    try:
                        answer = client.post("/api/guess", json={"drawing": SQUARE})
                    except httpx.TransportError:
                        return  # a new request of a connection that was closed
                    statuses.append(answer.status_code)

        users = [threading.Thread(target=user) for _ in range(4)]
        for thread in users:
            thread.start()
        while len(statuses) < 40:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        ended.set()
        for thread in users:
            thread.join()
        assert process.returncode == 0, errors
        assert errors == ""
        assert set(statuses) == {200}
    finally:
        process.kill()
        process.wait()


@pytest.mark.soak
def test_memory_stays_flat():
    import psutil

    raw = [[[float(n) for n in range(300)], [float(n % 7) for n in range(300)]]]
    with client_of() as client:
        resident = []
        for number in range(50_000):
            body = {"drawing": raw if number % 3 else SQUARE, "show_images": number % 50 == 0}
            assert client.post("/api/guess", json=body).status_code == 200
            if number % 5000 == 0:
                resident.append(psutil.Process().memory_info().rss)
    assert resident[-1] < resident[2] + (16 << 20), resident
