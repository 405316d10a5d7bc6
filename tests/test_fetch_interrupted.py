"""A download that is killed, stopped or without room, and one by https."""

import hashlib
import json
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from download_server import (
    Served,
    Server,
    config_of,
    drawings,
    require_whole,
    run,
    serving,
)

from quickdraw_core.errors import BusyError, InputError
from quickdraw_core.sources.fetch import THREAD_NAME, fetch
from quickdraw_core.sources.fetch_config import FetchConfig

# Killed, stopped, and without room.


FETCH = """
import json, resource, signal, sys
from quickdraw_core.sources.fetch_config import FetchConfig
from quickdraw_core.sources.fetch import fetch
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
    last = [request for request in server.requests if request.method == "GET"][-3:]
    assert sum(request.sent_bytes for request in last) == result.received_bytes


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
    assert not list(tmp_path.glob("*.ndjson"))  # the thread did not begin the next file either
    assert part_sizes(tmp_path) == 1 << 17
    assert run(server, tmp_path).continued == ("cat",)
    require_whole(server, tmp_path)


FULL_DISK = """
import hashlib, json, sys, threading, time
from pathlib import Path
from quickdraw_core.errors import InputError
from quickdraw_core.sources.fetch_config import FetchConfig
from quickdraw_core.sources.fetch import fetch
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
    assert not server.requests


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
