import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.tracking.address import artifact_location, resolve_tracking_uri, ui_command
from quickdraw_core.tracking.delivery import DeliveryThread
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    Journal,
    Record,
    _Line,
    append,
    follow,
    status_record,
)
from quickdraw_core.tracking.runs import brief_requests


class Server:
    """Takes records, and is away for the first `failures` calls."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.records = failures, []  # type: ignore[var-annotated]

    def __call__(self, records: list[Record]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no answer")
        self.records += records


def steps(server: Server) -> list[int]:
    return [record["step"] for record in server.records]


def test_everything_written_arrives_once_and_in_order(tmp_path: Path) -> None:
    server = Server()
    with DeliveryThread(tmp_path, server, 0.01), Journal(tmp_path) as journal:
        for step in range(2_500):
            journal.write(step, {"loss": step / 7})
    assert steps(server) == list(range(2_500))
    assert server.records[7]["metrics"] == {"loss": 1.0}


def test_a_server_that_is_away_for_a_while_costs_nothing(tmp_path: Path) -> None:
    server = Server(failures=2)
    with DeliveryThread(tmp_path, server, 0.01), Journal(tmp_path) as journal:
        for step in range(5):
            journal.write(step, {"loss": 1})
    assert steps(server) == [0, 1, 2, 3, 4]


def test_what_is_unsent_at_the_end_is_sent_when_the_run_goes_on(tmp_path: Path) -> None:
    away = Server(failures=1_000_000)
    with DeliveryThread(tmp_path, away, 0.01, patience_seconds=0), Journal(tmp_path) as journal:
        journal.write(1, {"loss": 3})
        journal.write(2, {"loss": 2})
    server = Server()
    with DeliveryThread(tmp_path, server, 0.01), Journal(tmp_path) as journal:
        journal.write(2, {"loss": 2})  # the resumed run comes by the same step
        journal.write(3, {"loss": 1})
    assert steps(server) == [1, 2, 3]
    with DeliveryThread(tmp_path, again := Server(), 0.01):
        pass
    assert again.records == []


def test_a_line_torn_by_a_kill_is_dropped_and_the_rest_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write(1, {"loss": 3})
    with (tmp_path / JOURNAL_NAME).open("a") as file:
        file.write('{"step": 2, "ti')
    server = Server()
    with DeliveryThread(tmp_path, server, 0.01), Journal(tmp_path) as journal:
        journal.write(2, {"loss": 2})
    assert steps(server) == [1, 2]


def test_a_torn_line_stays_behind_a_writer_that_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path) as first:
        first.write(1, {"loss": 3})
        with (tmp_path / JOURNAL_NAME).open("a") as file:
            file.write('{"step": 2, "metr')
        append(tmp_path, status_record("FINISHED"))  # while the first one is still open
        first.write(3, {"loss": 1})
    records, _ = follow(tmp_path / JOURNAL_NAME, 0)
    assert [r.get("step", r.get("status")) for r in records] == [1, "FINISHED", 3]


def test_metrics_of_one_step_may_come_in_parts_and_from_many_threads(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, ThreadPoolExecutor(8) as pool:
        written = [
            pool.submit(journal.write, step, {f"metric-{thread}": float(step)})
            for step in range(200)
            for thread in range(8)
        ]
    assert all(future.exception() is None for future in written)
    records, _ = follow(tmp_path / JOURNAL_NAME, 0)
    points = Counter((r["step"], key) for r in records for key in r["metrics"])
    assert set(points.values()) == {1}
    assert (tmp_path / JOURNAL_NAME).read_text().endswith("}\n")


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=6),
    st.sets(st.sampled_from(["loss", "rate", "map"]), min_size=1),
)
def test_however_often_a_run_goes_on_each_point_is_written_once(
    attempts: list[tuple[int, int]], keys: set[str]
) -> None:
    with TemporaryDirectory() as folder:
        end = 0
        for back, more in attempts:
            with Journal(Path(folder)) as journal:
                for step in range(max(0, end - back), end + more):
                    journal.write(step, dict.fromkeys(keys, float(step)))
            end += more
        records, _ = follow(Path(folder) / JOURNAL_NAME, 0)
        for key in keys:
            assert [r["step"] for r in records if key in r["metrics"]] == list(range(end))


def test_a_full_disk_stops_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / JOURNAL_NAME).symlink_to("/dev/full")
    line = _Line(tmp_path / JOURNAL_NAME)
    line.append({"step": 1})
    line.append({"step": 2})
    line.close()
    assert capsys.readouterr().err.count("cannot be written to: No space left") == 1


def test_a_watcher_sees_whole_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    assert follow(path, 0) == ([], 0)
    path.write_text('{"step": 1}\n{"st')
    records, end = follow(path, 0)
    assert records == [{"step": 1}]
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert follow(path, end)[0] == [{"step": 2}]


def test_addresses_are_absolute_and_the_default_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    default = resolve_tracking_uri(None)
    assert default == f"sqlite:///{tmp_path}/mlflow.db"
    assert ui_command(default).endswith("mlflow ui")
    assert artifact_location(default) == f"file://{tmp_path}/mlartifacts"
    other = resolve_tracking_uri("sqlite:///there/x.db")
    assert ui_command(other).endswith(f"mlflow ui --backend-store-uri {other}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert resolve_tracking_uri(None) == "http://mlflow:5000"
    assert artifact_location("http://mlflow:5000") is None
    assert resolve_tracking_uri("none") == "none"


def test_a_percent_encoded_file_is_the_decoded_one_unless_there_is_a_folder_so_named(
    tmp_path: Path,
) -> None:
    """MLflow writes the address of its default database so."""
    (tmp_path / "with ümlaut").mkdir()
    encoded = f"sqlite:///{tmp_path}/with%20%C3%BCmlaut/x.db"
    assert resolve_tracking_uri(encoded) == f"sqlite:///{tmp_path}/with ümlaut/x.db"
    (tmp_path / "with%20%C3%BCmlaut").mkdir()
    assert resolve_tracking_uri(encoded) == encoded


def test_a_journal_line_is_plain_json(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write(3, {"train/loss": 0.5})
    (line,) = (tmp_path / JOURNAL_NAME).read_text().splitlines()
    record = json.loads(line)
    assert record["step"] == 3
    assert record["metrics"] == {"train/loss": 0.5}


def test_requests_are_brief_until_the_last_of_those_that_ask_for_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    monkeypatch.setenv(names[0], "77")
    monkeypatch.delenv(names[1], raising=False)
    first, second = brief_requests(), brief_requests()  # of two threads, as rows of a sweep are
    with first:
        second.__enter__()
    assert [os.environ.get(name) for name in names] == ["8", "0"]
    second.__exit__(None, None, None)
    assert [os.environ.get(name) for name in names] == ["77", None]
