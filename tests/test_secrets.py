"""Secrets: one is planted in each way in, and all that was written is searched for it."""

import json
import logging
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from command_line import quickdraw
from session import prefect_api
from trainings import train_config
from writers import csv_line, random_rows

from flows.deployments.config import DeployConfig
from quickdraw_core import cli, credentials
from quickdraw_core.credentials import set_apart, tracking_address, whole_address
from quickdraw_core.errors import ConfigError, QuickdrawError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.launching.train import train
from quickdraw_core.redaction import hide_in_logs, shown_address, without_secrets
from quickdraw_core.store.store import Store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.run import failures_of
from quickdraw_core.tracking import delivery
from quickdraw_core.tracking.address import check_address, resolve_tracking_uri, ui_command
from quickdraw_core.tracking.journal import status_record
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig

SECRET = "hunter2-Tr0ub4dor"
LOGIN = f"http://me:{SECRET}@127.0.0.1:1"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(credentials, "_lent", {})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    forget()
    yield
    forget()


def forget() -> None:
    for name in [name for name in os.environ if name.startswith(credentials._MEMORY)]:
        del os.environ[name]


def files_with_the_secret(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (LOGIN, "http://me:…@127.0.0.1:1"),
        (f"postgresql://me:{SECRET}@db/mlflow", "postgresql://me:…@db/mlflow"),
        (f"postgresql+psycopg2://me:p@ss/{SECRET}@db:5432/x", "postgresql+psycopg2://me:…@db:5432/x"),
        (f"https://{SECRET}@host/x", "https://…@host/x"),
        (f"https://host/a.csv?X-Amz-Signature={SECRET}&x=1", "https://host/a.csv?X-Amz-Signature=…&x=1"),
        (f"https://host/a.csv?sig={SECRET}&sv=2", "https://host/a.csv?sig=…&sv=2"),
        (f"mysql://host/x?user=me&password={SECRET}", "mysql://host/x?user=me&password=…"),
        (f"http://me:it's\"{SECRET}@h", "http://me:…@h"),
        (f"HTTP://{SECRET}@h/x", "HTTP://…@h/x"),
        (f"https://h/a?subscription-key={SECRET}", "https://h/a?subscription-key=…"),
        (f"https://h/a?pass={SECRET}&x=1", "https://h/a?pass=…&x=1"),
        (f"https://h/a#access_token={SECRET}", "https://h/a#access_token=…"),
        (f"https://h/a?x=1;token={SECRET}", "https://h/a?x=1;token=…"),
        ("https://h/a?monkey=1&compass=n&x=1#top", "https://h/a?monkey=1&compass=n&x=1#top"),
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://host/o/cat.bin?alt=media", "https://host/o/cat.bin?alt=media"),
        ("gs://anonymous@bucket/x", "gs://anonymous@bucket/x"),
        ("s3://b/x?endpoint_override=localhost:9000", "s3://b/x?endpoint_override=localhost:9000"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
    ],
)  # fmt: skip
def test_what_is_shown_of_an_address(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert shown_address(shown) == shown
    assert set_apart(address) == shown
    assert whole_address(shown) == address
    assert without_secrets(f"cannot read '{address}': no") == f"cannot read '{shown}': no"


def test_a_path_is_no_secret_whatever_it_looks_like() -> None:
    for path in ("data?key=1/cat.csv", "sqlite:///a?key=b/mlflow.db", "none", "and so on…"):
        assert set_apart(path) == path
        assert whole_address(path) == path


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_TOKEN",
        "KAGGLE_KEY",
        "MYSQL_PWD",
        "AZURE_STORAGE_CONNECTION_STRING",
        "db_pass",
    ],
)
def test_secrets_of_the_environment_are_in_no_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"{SECRET}/ü"
    monkeypatch.setenv(name, secret)
    monkeypatch.setenv("ANOTHER_TOKEN", secret[:8])
    told = f"refused: Bearer {secret}, at /login?{quote(secret, safe='')}"
    assert str(QuickdrawError(told)) == "refused: Bearer …, at /login?…"


def test_where_a_secret_is_may_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "tls.key"
    key.touch()
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY", str(key))
    assert without_secrets(f"no key in {key}") == f"no key in {key}"


def test_an_address_ends_where_its_quotes_do() -> None:
    text = """{"a":"http://h:80/x","b":'http://h', "c":"x@y"} <http://h:90>, (http://h:1) @"""
    assert shown_address(text) == text


def test_the_secret_comes_from_where_a_later_command_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = shown_address(LOGIN)
    assert tracking_address(shown) == "http://127.0.0.1:1"  # MLflow's own login, where it has one
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", LOGIN)
    assert resolve_tracking_uri(None) == shown
    assert tracking_address(shown) == "http://127.0.0.1:1"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == SECRET
    database = "postgresql://me:…@db/mlflow"
    with pytest.raises(ConfigError, match=r"not recorded anywhere; .* set MLFLOW_TRACKING_URI"):
        tracking_address(database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:{SECRET}@db/mlflow")
    assert tracking_address(database) == f"postgresql://me:{SECRET}@db/mlflow"


def test_no_configuration_holds_a_secret(tmp_path: Path) -> None:
    signed = f"https://host/cat.csv?X-Amz-Signature={SECRET}"
    configs = [
        TrainConfig(tracking={"uri": LOGIN}),
        EvaluateConfig(tracking_uri=LOGIN),
        SweepConfig(table="x", tracking_uri=LOGIN, changes={"u": {"uri": LOGIN}, "x": [LOGIN]}),
        TrainConfig(model={"pretrained": f"https://host/x?token={SECRET}", "name": "resnet18"}),
        IngestConfig(source=signed),
        TrainConfig().updated({"tracking": {"uri": LOGIN}}),
    ]
    for config in configs:
        assert SECRET not in config.model_dump_json() + repr(config)
    refused = [
        lambda: DeployConfig.parse({"source": (signed,)}),
        lambda: IngestConfig.parse({"source": "x", "store": f"s3://key:{SECRET}@bucket/x"}),
        lambda: IngestConfig.parse({"source": "x", "dask": f"tcp://me:{SECRET}@host:8786"}),
        lambda: TrainConfig.parse({"tracking_url": LOGIN, "epochs": LOGIN}),
        lambda: TrainConfig.parse({"epochs": LOGIN}),
        lambda: check_address(f"htp://me:{SECRET}@host"),
        lambda: check_address(f"me:{SECRET}@host:5000"),
    ]
    for refuse in refused:
        with pytest.raises(QuickdrawError) as caught:
            refuse()
        assert SECRET not in str(caught.value)
    assert ui_command(set_apart(LOGIN)) == "http://127.0.0.1:1"


def test_a_training_writes_no_password(
    store: Store,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_SECONDS", 0.5)
    values = {"store": store.path, "run_dir": tmp_path / "run", "hardware.ranks": 1, "epochs": 0.5}
    values |= {"global_batch_size": 64, "micro_batch_size": 64, "model": "net"}
    result = train(train_config(values | {"tracking.uri": LOGIN, "image.side_px": 24}))
    assert result.tracking_problem
    assert "127.0.0.1:1" in result.tracking_problem
    assert SECRET not in repr(result) + "".join(capfd.readouterr())
    assert not files_with_the_secret(tmp_path)
    path = find_checkpoint(tmp_path / "run", "best")
    assert path is not None
    shown = shown_address(LOGIN)
    assert load_checkpoint(path).config["tracking"]["uri"] == shown
    record = RunRecord.read(tmp_path / "run")
    assert record is not None
    assert record.uri == shown


class _Signed(BaseHTTPRequestHandler):
    """A file for those that have the signature."""

    data = b"countrycode,drawing,key_id,recognized,timestamp,word\n" + b"".join(
        map(csv_line, random_rows(np.random.default_rng(1), 9, "cat"))
    )

    def do_GET(self) -> None:
        allowed = self.path == f"/cat.csv?X-Amz-Signature={SECRET}"
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(self.data) if allowed else 0))
        self.end_headers()
        self.wfile.write(self.data if allowed else b"")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def signed_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Signed) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def prefect_records_of(flow: str) -> str:
    """All that the tests' Prefect server holds of the runs of a flow."""
    body = json.dumps({"flows": {"name": {"any_": [flow]}}}).encode()
    url = f"{prefect_api()}/flow_runs/filter"
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as answer:
        return str(answer.read().decode())


def test_a_signature_is_used_and_recorded_nowhere(tmp_path: Path) -> None:
    with signed_server() as server:
        source = f"{server}/cat.csv?X-Amz-Signature={SECRET}"
        done = quickdraw("ingest", source, "--store", "store", cwd=tmp_path, prefect=True)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        wrong = quickdraw("ingest", source + "x", "--store", "other", cwd=tmp_path)
        assert wrong.returncode == 2
        assert SECRET not in wrong.stdout + wrong.stderr
        assert not files_with_the_secret(tmp_path)
        assert not files_with_the_secret(Path(os.environ["QUICKDRAW_CACHE"]))
        recorded = prefect_records_of("ingest")
        assert f"{server}/cat.csv?X-Amz-Signature=…" in json.dumps(
            json.loads(recorded), ensure_ascii=False
        )
        assert SECRET not in recorded


def test_an_address_that_is_given_goes_before_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:of-last-year@127.0.0.1:1")
    assert whole_address(resolve_tracking_uri(LOGIN)) == LOGIN


def test_a_login_is_for_its_own_server() -> None:
    assert tracking_address(set_apart(LOGIN)) == "http://127.0.0.1:1"
    assert tracking_address("http://other") == "http://other"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == ""
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == ""


def test_hundreds_of_signed_addresses_are_in_children_too() -> None:
    signed = [f"https://host/{n}.csv?X-Amz-Signature={SECRET * 40}" for n in range(345)]
    shown = [set_apart(address) for address in signed]
    program = (
        "import sys\n"
        "from quickdraw_core.credentials import whole_address\n"
        f"print(whole_address({shown[-1]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == signed[-1]


def test_a_traceback_and_its_causes_are_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect() -> None:
        try:
            raise ValueError(LOGIN)
        except ValueError as error:
            raise RuntimeError("no room for ?sig=" + SECRET) from error

    monkeypatch.setattr(cli, "app", defect)
    monkeypatch.setattr(cli, "_quiet_environment", lambda: None)
    # A command keeps all that it has loaded; this process goes on.
    monkeypatch.setattr(cli.gc, "freeze", lambda: None)
    monkeypatch.setattr(cli.gc, "set_threshold", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert "ValueError: http://me:…@127.0.0.1:1" in told
    assert "RuntimeError: no room for ?sig=…" in told
    assert SECRET not in told


def test_log_lines_of_flows_are_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect logs the traceback of a failed task, with what its error was raised from."""
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
    hide_in_logs()
    written = StringIO()
    logger = logging.Logger("prefect.task_runs")
    logger.addHandler(logging.StreamHandler(written))
    try:
        try:
            raise ConnectionError(f"{LOGIN}/x?token={SECRET}")
        except ConnectionError as error:
            raise QuickdrawError("cannot read it") from error
    except QuickdrawError:
        logger.exception("failed at %s", LOGIN)
    logger.warning("%d of %s", 1, "two")
    assert SECRET not in written.getvalue()
    assert "failed at http://me:…@127.0.0.1:1\n" in written.getvalue()
    assert "1 of two" in written.getvalue()


def test_why_a_run_failed_is_recorded_without_secrets() -> None:
    assert status_record("FAILED", OSError(f"no answer from {LOGIN}"))["reason"] == (
        "no answer from http://me:…@127.0.0.1:1"
    )
    found = failures_of(["a"], [ConnectionError(f"no answer from {LOGIN}\nsecond line")])
    assert found == {"a": "no answer from http://me:…@127.0.0.1:1"}
