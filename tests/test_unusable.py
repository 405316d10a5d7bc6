"""Trackers, Prefect servers and homes that cannot be used: one line, with cause and remedy."""

import errno
import json
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import command, environment_of, quickdraw
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    temporary_settings,
)
from session import prefect_api
from surroundings import as_nobody
from trainings import train_config

from flows.server import answering as prefect_answering
from flows.server import require_home, require_server
from flows.temporary_server import last_error
from quickdraw_core.errors import (
    ConfigError,
    QuickdrawError,
    TrackingError,
    UnreachableError,
    WriteError,
)
from quickdraw_core.launching.train import train
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import check_address, resolve_tracking_uri
from quickdraw_core.tracking.delivery import DeliveryThread, deliver_rest, sender_of
from quickdraw_core.tracking.journal import append, points_record
from quickdraw_core.tracking.problems import explain, mlflow_errors, require_usable
from quickdraw_core.tracking.registry import find_version
from quickdraw_core.tracking.run_record import new_run_record
from quickdraw_core.tracking.runs import brief_requests, client, fetch_curves, fetch_file
from quickdraw_core.tracking.start_run import start_run

RUN_ID = "0123456789abcdef" * 2


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


def of_another_mlflow(path: Path) -> None:
    execute(path, "UPDATE alembic_version SET version_num = 'ffff00001111'")


def another_programs(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE bookmarks (address TEXT)")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DATABASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another schema": (of_another_mlflow, r"out-of-date database schema.*: mlflow db upgrade"),
    "no database": (lambda path: path.write_text("no database"), "no SQLite database"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:3000]), "SQLite database"),
    "another program's": (another_programs, "another program's database"),
    "a folder": (a_folder, "is a folder; give a file"),
}


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_that_cannot_be_used(name: str, tmp_path: Path, empty_database: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    uri, (spoil, says) = f"sqlite:///{path}", DATABASES[name]
    spoil(path)
    asking: list[Callable[[], object]] = [
        lambda: fetch_file(uri, RUN_ID, "x", tmp_path),
        lambda: find_version(uri, "models:/quickdraw@champion"),
        lambda: fetch_curves(uri, RUN_ID),
    ]
    for ask in asking:
        with pytest.raises(TrackingError, match=says) as caught:
            ask()
        assert "\n" not in str(caught.value)

    # A training goes on as if it were away, and what it wrote is delivered later.
    opened = start_run(tmp_path / "run", uri, "run", {}, {})
    assert opened.run_id == ""
    assert opened.problem is not None
    append(tmp_path / "run", points_record(1, {"train/loss": 0.5}))
    told: list[str] = []
    send = sender_of(tmp_path / "run")
    with DeliveryThread(tmp_path / "run", send, patience_seconds=0, tell=told.append) as sending:
        pass
    assert sending.delivery.waiting == 1
    assert len(told) == 1
    if path.is_dir():
        path.rmdir()
    path.write_bytes(empty_database.read_bytes())
    assert deliver_rest(tmp_path / "run").waiting == 0


def test_a_locked_database(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickdraw_core.tracking.problems._PATIENCE_SECONDS", 0.1)
    path = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnreachableError, match="locked by another process"):
            client(f"sqlite:///{path}")


def test_a_database_that_can_only_be_read(empty_database: Path) -> None:
    data = empty_database.read_bytes()
    with as_nobody() as folder:
        path = folder / "mlflow.db"
        path.write_bytes(data)
        path.chmod(0o444)
        uri = f"sqlite:///{path}"
        says = "can only be read; allow writing"
        with pytest.raises(UnreachableError, match=says), mlflow_errors(uri):
            client(uri).create_experiment("x")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("sqlite:x.db", "write sqlite:///FILE"),
        ("sqlite://x.db", "write sqlite:///FILE"),
        ("sqlite://", "write sqlite:///FILE"),
        ("localhost:5000", "is in no known form"),
        ("mlruns", "is in no known form"),
        ("file:///mlruns", "is in no known form"),
        ("http:///x", "names no host"),
        ("http://host:port", "malformed"),
        ("none", "tracking is off"),
    ],
)
def test_an_address_at_which_mlflow_can_never_be(uri: str, says: str) -> None:
    with pytest.raises(TrackingError, match=says):
        require_usable(resolve_tracking_uri(uri))
    if uri != "none":
        with pytest.raises(TrackingError, match=says):
            check_address(uri)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("postgresql+pg8000://me@127.0.0.1/x", "needs a database driver: No module"),
        ("postgresql+nosuch://me@127.0.0.1/x", "is malformed: .*nosuch"),
        (f"sqlite:////{'a' * 300}/mlflow.db", "the name is too long; give a shorter one"),
    ],
)
def test_a_training_is_refused_before_it_clears_its_folder(
    uri: str, says: str, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    precious = tmp_path / "run" / "run.json"
    precious.write_text("{}")
    values = {"store": store.path, "run_dir": tmp_path / "run", "fresh": True}
    with pytest.raises(TrackingError, match=says):
        train(train_config(values | {"tracking.uri": uri}))
    assert precious.exists()


def test_a_run_goes_on_whose_trackers_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with as_nobody() as folder:
        for uri in (
            f"sqlite:///{tmp_path}/gone/mlflow.db",
            f"sqlite:///{folder}/locked/mlflow.db",
            "postgresql+pg8000://me@127.0.0.1:1/x",
        ):
            run_dir = folder / f"run-{len(uri)}"
            run_dir.mkdir()
            (folder / "locked").mkdir(mode=0o000, exist_ok=True)
            new_run_record(uri, "run", {}, {}).write(run_dir)
            opened = start_run(run_dir, None, "run", {}, {})
            assert opened.problem is not None
            assert deliver_rest(run_dir).problem is None


def test_what_was_sent_and_could_not_be_noted_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise WriteError("cannot write it: no space left on the device")

    monkeypatch.setattr("quickdraw_core.tracking.delivery.write_atomic", full)
    append(tmp_path, points_record(1, {"train/loss": 0.5}))
    told: list[str] = []
    with DeliveryThread(tmp_path, lambda _: None, patience_seconds=0, tell=told.append) as sending:
        pass
    assert sending.delivery.waiting == 1
    assert "no space left on the device" in str(sending.delivery.problem)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space", "/tmp/x"), "cannot use /tmp/x: no space left on the"),
        (
            PermissionError(errno.EACCES, "no", "/x/mlflow.db"),
            "cannot use /x/mlflow.db: permission",
        ),
        (sqlite3.DatabaseError("database disk image is malformed"), "the file is no SQLite"),
        (ValueError("malformed answer"), "malformed answer"),
    ],
)
def test_the_cause_is_of_what_failed(error: Exception, says: str) -> None:
    assert explain(error).startswith(says)


class _Answer(BaseHTTPRequestHandler):
    """Answers everything in one way, which its server names."""

    def do_GET(self) -> None:
        status, headers, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server_of(status: int, body: bytes = b"", **headers: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        server.answer = (status, headers, body)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


PAGE = {"body": b"<html>Sign in</html>", "Content-Type": "text/html"}
SERVERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "login": ({"status": 401}, "set MLFLOW_TRACKING_USERNAME and", "set PREFECT_API_AUTH_STRING"),
    "page": ({"status": 200} | PAGE, "what answers there is no MLflow", "is not Prefect"),
    "redirect": (
        {"status": 302, "Location": "/elsewhere"},
        "what answers there is no MLflow",
        "leads to /elsewhere; set PREFECT_API_URL",
    ),
    "missing": ({"status": 404} | PAGE, "no MLflow; correct the address", "which ends in /api"),
    "broken": ({"status": 500}, "out of order; see its log", "answers 500 Internal Server Error"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_does_not_answer_as_it_should(name: str, tmp_path: Path) -> None:
    values, mlflow_says, prefect_says = SERVERS[name]
    with server_of(**values) as url:
        with pytest.raises(TrackingError, match=mlflow_says) as caught:
            fetch_file(url, RUN_ID, "x", tmp_path)
        assert "\n" not in str(caught.value)
        opened = start_run(tmp_path / "run", url, "run", {}, {})
        assert opened.problem is not None
        settings = temporary_settings({PREFECT_API_URL: f"{url}/api"})
        with settings, pytest.raises(UnreachableError, match=prefect_says):
            require_server()


def test_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert int(brief_requests_seconds()) < 10
    monkeypatch.setattr("flows.server._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(
        "quickdraw_core.tracking.runs._BriefRequests.SETTINGS",
        {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"},
    )
    with silent_server() as url:
        with pytest.raises(UnreachableError, match="it does not answer; see that it is well"):
            fetch_file(url, RUN_ID, "x", tmp_path)
        settings = temporary_settings({PREFECT_API_URL: f"{url}/api"})
        with settings, pytest.raises(UnreachableError, match="does not answer; start it"):
            require_server()


def brief_requests_seconds() -> str:
    with brief_requests():
        return os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]


# --- Prefect -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1/api", r"does not answer: nothing listens there; start it \(prefect"),
        ("127.0.0.1:4200/api", "does not answer"),
    ],
)
def test_a_prefect_server_that_is_not_there(url: str, says: str) -> None:
    settings = temporary_settings({PREFECT_API_URL: url})
    with settings, pytest.raises(UnreachableError, match=says):
        require_server()


def test_a_prefect_server_that_is_there_or_none_that_is_asked_for() -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api(), PREFECT_API_AUTH_STRING: "me:x"}):
        require_server()
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        require_server()
        settings = temporary_settings({PREFECT_SERVER_EPHEMERAL_ENABLED: False})
        with settings, pytest.raises(ConfigError, match="no Prefect server: start one"):
            require_server()


def test_commands_say_in_one_line_that_prefect_is_away(tmp_path: Path, csv_folder: Path) -> None:
    away = {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    for words in (["ingest", csv_folder, "--store", "store"], ["rerun", "--last-failed"]):
        done = run_in(tmp_path, away, *words)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "error: Prefect at http://127.0.0.1:1/api does not answer" in done.stderr
    assert not (tmp_path / "store").exists()


def run_in(folder: Path, environment: dict[str, str], *words: object) -> Any:
    return subprocess.run(
        [*command(), *map(str, words)],
        cwd=folder,
        env=environment_of(folder) | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_settings_of_prefects_that_are_wrong_are_one_line(
    tmp_path: Path, csv_folder: Path
) -> None:
    done = run_in(tmp_path, {"PREFECT_API_URL": "http://[bad/api"}, "ingest", csv_folder)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: Prefect's settings are wrong: ")
    assert "Traceback" not in done.stderr


def test_a_prefect_server_that_goes_away_meanwhile() -> None:
    says = "went away or refuses: refused"
    with pytest.raises(UnreachableError, match=says), prefect_answering():
        raise httpx.ConnectError("refused")


def test_a_prefect_server_that_is_reached_by_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """By those of Prefect's own client: an authority's certificate, headers for a gateway."""
    asked: list[dict[str, Any]] = []

    def get(_url: str, **keywords: Any) -> httpx.Response:
        asked.append(keywords)
        return httpx.Response(200, json="3.8")

    monkeypatch.setattr(httpx, "get", get)
    given = {PREFECT_API_URL: "https://prefect/api", PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Key": "1"}}
    for more in ({}, {PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        with temporary_settings(given | more):
            require_server()
    with (
        temporary_settings(given | {PREFECT_API_SSL_CERT_FILE: "/nowhere.pem"}),
        pytest.raises(ConfigError, match=r"/nowhere\.pem cannot be read: .*SSL_CERT_FILE"),
    ):
        require_server()
    # True, or a context of the authorities that the environment names.
    modes = [getattr(one["verify"], "verify_mode", ssl.CERT_REQUIRED) for one in asked]
    assert modes == [ssl.CERT_REQUIRED, ssl.CERT_NONE]
    assert all(one["headers"] == {"X-Key": "1"} for one in asked)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda home: home.write_text(""), "folder .* cannot be used: .*PREFECT_HOME=FOLDER"),
        (
            lambda home: (home.mkdir(), (home / "prefect.db").write_text("no database")),
            "no SQLite database; name another folder",
        ),
        (
            lambda home: (home / "prefect.db").mkdir(parents=True),
            "Is a directory; name another folder",
        ),
    ],
)
def test_a_home_of_prefects_that_cannot_be_used(
    make: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    make(tmp_path / "home")
    folders = {PREFECT_HOME: tmp_path / "home", PREFECT_LOCAL_STORAGE_PATH: tmp_path / "results"}
    settings = temporary_settings(folders, restore_defaults={PREFECT_API_URL})
    with settings, pytest.raises(ConfigError, match=says):
        require_home()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    settings = temporary_settings({PREFECT_HOME: tmp_path / "none" / ".prefect"})
    with settings, pytest.raises(ConfigError, match=r"no home folder .* PREFECT_HOME=FOLDER"):
        require_home()
    assert not (tmp_path / "none").exists()


def test_the_cause_in_a_servers_output() -> None:
    output = (
        "Traceback (most recent call last):\n  File x\n"
        "alembic.util.exc.CommandError: Can't locate revision identified by 'ffff00001111'\n"
        "08:05:38.572 | ERROR   | uvicorn.error - Application startup failed. Exiting.\n"
    )
    assert last_error(output) == "Can't locate revision identified by 'ffff00001111'"
    assert last_error("killed\n") == ""


def test_a_wrong_run_id_is_one_line_too(tmp_path: Path, empty_database: Path) -> None:
    path = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    of_another_mlflow(path)
    done = quickdraw("inspect", RUN_ID, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.dumps(done.stderr).count("mlflow db upgrade") == 1
    assert issubclass(UnreachableError, QuickdrawError)
