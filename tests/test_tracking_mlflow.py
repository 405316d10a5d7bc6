"""Journal to MLflow for real: a server that is stopped and started again, and killed writers."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from bundles import WORDS, made_bundle
from mlflow_server import MlflowServer, mlflow_at

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import TrackingError
from quickdraw_core.labels import LabelMap
from quickdraw_core.serving.bundle import open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer, top_guesses
from quickdraw_core.tracking.delivery import (
    DeliveryThread,
    Spool,
    deliver_rest,
    delivery_thread,
    send_records,
    sender_of,
)
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    Journal,
    append,
    file_record,
    follow,
    points_record,
    status_record,
    tags_record,
    write_table,
)
from quickdraw_core.tracking.logged_model import BUNDLE_FOLDER, EXAMPLE, log_model
from quickdraw_core.tracking.run_record import KEY_TAG, RUN_RECORD_NAME, RunRecord, tracked_run_id
from quickdraw_core.tracking.runs import client, fetch_file
from quickdraw_core.tracking.start_run import start_run


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    """The address of a database of the test's own."""
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    server = MlflowServer(folder)
    yield server
    server.kill()


def opened(run_dir: Path, uri: str) -> str:
    run_dir.mkdir(exist_ok=True)
    return start_run(run_dir, uri, "a run", {"model": "net"}, {"world_size": "2"}).run_id


def steps_of(uri: str, run_id: str, key: str) -> list[int]:
    return [point.step for point in client(uri).get_metric_history(run_id, key)]


def once(uri: str, run_id: str, key: str, steps: range) -> None:
    """Fails unless each of `steps` stands exactly once in a curve, and nothing else."""
    doubled = {step: n for step, n in Counter(steps_of(uri, run_id, key)).items() if n > 1}
    assert not doubled
    assert sorted(steps_of(uri, run_id, key)) == list(steps)


def runs_in(uri: str) -> int:
    mlflow = client(uri)
    experiment = mlflow.get_experiment_by_name("quickdraw")
    assert experiment is not None
    return len(mlflow.search_runs([experiment.experiment_id]))


def until(done: object, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("restarts", [0, pytest.param(2, marks=pytest.mark.soak)])
def test_a_server_away_at_start_in_the_middle_and_at_the_end_gets_every_point_once(
    server: MlflowServer, tmp_path: Path, restarts: int
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    run = start_run(run_dir, server.uri, "a run", {"model": "net"}, {"device": "cpu"})
    assert run.run_id == ""
    assert run.problem is not None
    assert f"MLflow at {server.uri}" in run.problem

    told: list[str] = []
    send = sender_of(run_dir)
    with (
        Journal(run_dir) as journal,
        DeliveryThread(
            run_dir, send, every_seconds=0.05, patience_seconds=0, tell=told.append
        ) as sending,
    ):
        for step in range(100):
            journal.write(step, {"train/loss": step / 7, "train/learning_rate": 0.1})
        until(lambda: told)
        server.start()
        until(lambda: tracked_run_id(run_dir) and deliverable(run_dir) == 0)
        run_id = tracked_run_id(run_dir)
        once(server.uri, run_id, "train/loss", range(100))

        with writing_slowly(journal, 100) as end:
            for restart in range(restarts + 1):
                if restart:
                    server.start()
                seen = len(steps_of(server.uri, run_id, "train/loss"))
                until(
                    lambda seen=seen: len(steps_of(server.uri, run_id, "train/loss")) > seen + 50
                )
                server.kill()
        append(run_dir, status_record("FINISHED"))
    assert sending.delivery.waiting >= 2
    assert sending.delivery.problem is not None
    assert deliver_rest(run_dir).problem is not None

    server.start()
    rest = deliver_rest(run_dir)
    assert rest.sent >= 2
    assert (rest.waiting, rest.problem) == (0, None)
    once(server.uri, run_id, "train/loss", range(end[0]))
    once(server.uri, run_id, "train/learning_rate", range(end[0]))
    assert runs_in(server.uri) == 1
    done = client(server.uri).get_run(run_id)
    assert done.info.status == "FINISHED"
    assert done.data.params == {"model": "net"}
    assert done.data.tags["device"] == "cpu"


def deliverable(run_dir: Path) -> int:
    """Records that wait, by the marks alone."""

    return Spool(run_dir).waiting()


@contextmanager
def writing_slowly(journal: Journal, start: int) -> Iterator[list[int]]:
    """Writes step after step until the block is left; the list then holds the step after."""
    enough, end = threading.Event(), [start]

    def write() -> None:
        while not enough.wait(0.003):
            journal.write(end[0], {"train/loss": end[0] / 7, "train/learning_rate": 0.1})
            end[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield end
    finally:
        enough.set()
        thread.join()


WRITER = """
import random, sys, time
from pathlib import Path
from quickdraw_core.tracking.delivery import DeliveryThread, sender_of
from quickdraw_core.tracking.journal import Journal

run_dir, start, end = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
send = sender_of(run_dir)

def slow(records):
    send(records)
    (run_dir / "delivered").touch()
    time.sleep(random.uniform(0, 0.1))  # delivered, and not yet marked as such

with DeliveryThread(run_dir, slow, every_seconds=0.02), Journal(run_dir) as journal:
    for step in range(start, end):
        journal.write(step, {"train/loss": step / 7, "train/time": time.time()})
        time.sleep(0.001)
"""


def write_and_be_killed(run_dir: Path, kills: int, steps: int, seed: int) -> None:
    """Writes `steps` steps; at random moments the writer is killed and begins further back."""
    rng = np.random.default_rng(seed)
    for attempt in range(kills + 1):
        records, _ = follow(run_dir / JOURNAL_NAME, 0)
        last = max((r["step"] for r in records if "step" in r), default=-1)
        start = max(0, last + 1 - int(rng.integers(0, 50)))  # its last checkpoint
        (run_dir / "delivered").unlink(missing_ok=True)
        command = [sys.executable, "-c", WRITER, str(run_dir), str(start), str(steps)]
        writer = subprocess.Popen(command)
        if attempt == kills:
            assert writer.wait(300) == 0
        else:
            until(lambda w=writer: (run_dir / "delivered").is_file() or w.poll() is not None)
            time.sleep(rng.uniform(0, 0.3))
            writer.kill()
            writer.wait()


def check_killed_writer(run_dir: Path, uri: str, kills: int, steps: int) -> None:
    run_id = opened(run_dir, uri)
    write_and_be_killed(run_dir, kills, steps, seed=kills)
    # A busy machine may have left some of it for the next command.
    until(lambda: deliver_rest(run_dir).problem is None)
    assert deliverable(run_dir) == 0
    once(uri, run_id, "train/loss", range(steps))
    once(uri, run_id, "train/time", range(steps))
    assert runs_in(uri) == 1


def test_a_writer_killed_between_delivery_and_mark_sends_no_point_twice(
    uri: str, tmp_path: Path
) -> None:
    check_killed_writer(tmp_path / "run", uri, kills=2, steps=1_500)


@pytest.mark.soak
def test_a_writer_killed_twenty_times_sends_no_point_twice(
    server: MlflowServer, tmp_path: Path
) -> None:
    server.start()
    check_killed_writer(tmp_path / "run", server.uri, kills=20, steps=20_000)


@pytest.mark.soak
def test_a_server_killed_ten_times_gets_every_point_once(
    server: MlflowServer, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    opened(run_dir, server.uri)
    send = sender_of(run_dir)
    with (
        DeliveryThread(run_dir, send, every_seconds=0.01, patience_seconds=60),
        Journal(run_dir) as journal,
    ):
        with writing_slowly(journal, 0) as end:
            rng = np.random.default_rng(1)
            for _ in range(10):
                server.start()
                time.sleep(rng.uniform(0.5, 3))
                server.kill()
        server.start()
    once(server.uri, tracked_run_id(run_dir), "train/loss", range(end[0]))
    assert runs_in(server.uri) == 1


MAKER = """
import os, sys
from pathlib import Path
from quickdraw_core.tracking import run_record
from quickdraw_core.tracking.runs import client

run_record.RunRecord.write = lambda *_: os.kill(os.getpid(), 9)  # its id is lost
run_record.ensure_run(client(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_kill_right_after_the_run_was_made_makes_no_second_one(uri: str, tmp_path: Path) -> None:
    RunRecord(uri, "a run", {"model": "net"}, {}).write(tmp_path)
    killed = subprocess.run([sys.executable, "-c", MAKER, uri, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert tracked_run_id(tmp_path) == ""
    append(tmp_path, points_record(1, {"loss": 1.0}))
    assert deliver_rest(tmp_path).sent == 1
    assert runs_in(uri) == 1
    run = client(uri).get_run(tracked_run_id(tmp_path))
    assert run.data.params == {"model": "net"}
    assert run.data.metrics == {"loss": 1.0}


def test_a_lost_mark_is_made_good_by_asking_the_server(uri: str, tmp_path: Path) -> None:
    run_id = opened(tmp_path, uri)
    with delivery_thread(tmp_path, uri), Journal(tmp_path) as journal:
        for step in range(2_500):
            journal.write(step, {"loss": step / 7})
    (tmp_path / f"{JOURNAL_NAME}.sent").write_text("")  # as a power failure leaves it
    with delivery_thread(tmp_path, uri), Journal(tmp_path) as journal:
        for step in range(2_500, 2_600):
            journal.write(step, {"loss": step / 7})
    once(uri, run_id, "loss", range(2_600))


def test_points_that_the_server_got_from_a_journal_that_was_lost_stay_single(
    uri: str, tmp_path: Path
) -> None:
    run_id = opened(tmp_path, uri)
    with delivery_thread(tmp_path, uri), Journal(tmp_path) as journal:
        for step in range(20):
            journal.write(step, {"loss": 1.0})
    for old in tmp_path.glob(f"{JOURNAL_NAME}*"):
        old.unlink()
    time.sleep(0.002)  # the points come at another time now
    with delivery_thread(tmp_path, uri), Journal(tmp_path) as journal:
        for step in range(10, 30):
            journal.write(step, {"loss": 1.0})
    once(uri, run_id, "loss", range(30))


def test_a_resumed_run_gets_its_new_facts_and_keeps_its_params(uri: str, tmp_path: Path) -> None:
    first = start_run(tmp_path, uri, "a run", {"ranks": 2, "model": "net"}, {"world_size": "2"})
    again = start_run(
        tmp_path, None, "a run", {"ranks": 1, "model": "net", "ema": 0.9}, {"world_size": "1"}
    )
    assert again.run_id == first.run_id
    assert again.uri == uri
    run = client(uri).get_run(first.run_id)
    assert run.data.params == {"ranks": "2", "model": "net", "ema": "0.9"}
    assert run.data.tags["world_size"] == "1"
    assert run.data.tags["changed.ranks"] == "1"
    assert "changed.model" not in run.data.tags


def test_the_last_status_counts_and_a_run_can_go_on(uri: str, tmp_path: Path) -> None:
    run_id = opened(tmp_path, uri)
    append(tmp_path, status_record("FAILED"), status_record("RUNNING"))
    deliver_rest(tmp_path)
    assert client(uri).get_run(run_id).info.status == "RUNNING"
    killed = status_record("KILLED")
    append(tmp_path, points_record(1, {"loss": 1.0}), killed)
    deliver_rest(tmp_path)
    info = client(uri).get_run(run_id).info
    assert (info.status, info.end_time) == ("KILLED", killed["time_ms"])


def test_a_wrong_address_is_told_and_can_be_mended(uri: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wrong = f"http://127.0.0.1:{free.getsockname()[1]}"
    run = start_run(tmp_path, wrong, "a run", {}, {})
    assert run.problem is not None
    append(tmp_path, points_record(1, {"loss": 1.0}))
    mended = start_run(tmp_path, uri, "a run", {}, {})
    assert (mended.uri, mended.problem) == (uri, None)
    assert deliver_rest(tmp_path).sent == 1
    assert steps_of(uri, mended.run_id, "loss") == [1]


def test_a_run_keeps_its_server_unless_the_other_one_has_it(
    uri: str, empty_database: Path, tmp_path: Path
) -> None:
    run_id = opened(tmp_path, uri)
    other = tmp_path / "other.db"
    shutil.copy(empty_database, other)
    stays = start_run(tmp_path, f"sqlite:///{other}", "a run", {}, {})
    assert (stays.uri, stays.run_id) == (uri, run_id)
    assert stays.problem is not None
    assert "as before" in stays.problem
    shutil.copy(tmp_path / "mlflow.db", other)  # the same server under another name
    moved = start_run(tmp_path, f"sqlite:///{other}", "a run", {}, {})
    assert (moved.uri, moved.run_id, moved.problem) == (f"sqlite:///{other}", run_id, None)


def test_without_tracking_the_numbers_wait_until_it_is_asked_for(uri: str, tmp_path: Path) -> None:
    run = start_run(tmp_path, "none", "a run", {}, {})
    assert (run.uri, run.run_id, run.problem) == ("none", "", None)
    with delivery_thread(tmp_path, run.uri), Journal(tmp_path) as journal:
        journal.write(1, {"loss": 1.0})
    assert deliver_rest(tmp_path).sent == 0
    asked = start_run(tmp_path, uri, "a run", {}, {})
    with delivery_thread(tmp_path, asked.uri) as sending:
        pass
    assert sending.delivery.sent == 1
    assert steps_of(uri, asked.run_id, "loss") == [1]
    off = start_run(tmp_path, "none", "a run", {}, {})
    assert (off.uri, off.run_id) == ("none", asked.run_id)


def test_a_run_deleted_in_mlflow_is_named_and_its_numbers_wait(uri: str, tmp_path: Path) -> None:
    run_id = opened(tmp_path, uri)
    client(uri).delete_run(run_id)
    append(tmp_path, points_record(1, {"loss": 1.0}))
    rest = deliver_rest(tmp_path)
    assert rest.waiting == 1
    assert rest.problem is not None
    assert f"run {run_id} was deleted in MLflow" in rest.problem
    client(uri).restore_run(run_id)
    assert deliver_rest(tmp_path).sent == 1


def test_two_processes_never_deliver_at_once(uri: str, tmp_path: Path) -> None:
    opened(tmp_path, uri)
    append(tmp_path, points_record(1, {"loss": 1.0}))
    arrived, go_on = threading.Event(), threading.Event()
    send = sender_of(tmp_path)
    assert send is not None

    def held(records: list[dict[str, object]]) -> None:
        arrived.set()
        assert go_on.wait(300)
        send(records)

    with DeliveryThread(tmp_path, held, every_seconds=0.01):
        assert arrived.wait(300)
        second = deliver_rest(tmp_path)
        go_on.set()
    assert (second.sent, second.waiting) == (0, 1)
    assert second.problem == "another process is sending this run's numbers"
    assert deliver_rest(tmp_path).waiting == 0


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("htp://127.0.0.1:5000", "is in no known form"),
        ("http://127.0.0.1:x", "malformed"),
        ("http://", "names no host"),
        ("sqlite:////nowhere/at/all.db", "no folder"),
        ("./mlruns", "is in no known form"),
    ],
)
def test_an_address_that_can_never_work_is_refused_before_anything_is_written(
    address: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match=says):
        start_run(tmp_path, address, "a run", {}, {})
    assert not (tmp_path / RUN_RECORD_NAME).exists()


def test_an_evaluation_adds_its_numbers_files_and_table_to_the_run(
    uri: str, tmp_path: Path
) -> None:
    run_id = opened(tmp_path, uri)
    table = tmp_path / "classes.json"
    write_table(table, {"word": ["cat", "dog"], "map_at_3": [0.5, 1.0]})
    for score in (0.5, 0.6):  # a second evaluation, of more drawings
        append(
            tmp_path,
            points_record(7, {"test/map_at_3": score}, again=True),
            tags_record({"test_drawings": "2"}),
            file_record(table, "evaluation/classes.json", table=True),
        )
        assert deliver_rest(tmp_path).problem is None
        time.sleep(0.002)
    (tmp_path / f"{JOURNAL_NAME}.sent").unlink()
    assert deliver_rest(tmp_path).waiting == 0  # all of it once more
    history = client(uri).get_metric_history(run_id, "test/map_at_3")
    assert [(point.step, point.value) for point in history] == [(7, 0.5), (7, 0.6)]
    frame = (
        client(uri).load_table("quickdraw_unused", "evaluation/classes.json") if False else None
    )
    assert frame is None
    shown = client(uri).get_run(run_id).data.tags["mlflow.loggedArtifacts"]
    assert shown == '[{"path": "evaluation/classes.json", "type": "table"}]'


def test_records_go_to_a_run_that_has_no_folder_here(uri: str, tmp_path: Path) -> None:
    run_id = opened(tmp_path, uri)
    send_records(uri, run_id, [points_record(3, {"test/top_1": 0.9})])
    assert steps_of(uri, run_id, "test/top_1") == [3]
    with pytest.raises(TrackingError, match=f"run {'0' * 32} at {uri} was not written to"):
        send_records(uri, "0" * 32, [points_record(3, {"test/top_1": 0.9})])


def test_a_file_that_is_refused_holds_up_no_number(uri: str, tmp_path: Path) -> None:
    run_id = opened(tmp_path, uri)
    (tmp_path / "last.pt").write_bytes(b"weights")
    (tmp_path / "mlartifacts").write_text("a file where MLflow wants a folder")
    append(tmp_path, file_record(tmp_path / "last.pt", "checkpoints/last.pt"))
    append(tmp_path, points_record(1, {"loss": 1.0}), status_record("FINISHED"))
    rest = deliver_rest(tmp_path)
    assert (rest.sent, rest.waiting) == (2, 1)
    assert steps_of(uri, run_id, "loss") == [1]
    (tmp_path / "mlartifacts").unlink()
    assert deliver_rest(tmp_path).sent == 1
    fetched = fetch_file(uri, run_id, "checkpoints/last.pt", tmp_path / "server")
    assert fetched.read_bytes() == b"weights"


def log_small_model(run_dir: Path) -> None:
    log_model(run_dir, made_bundle, key="abc", step=9, label_map_sha256=LabelMap.of(WORDS).sha256)


def test_the_best_model_is_logged_once_and_answers_drawings_with_words(
    uri: str, tmp_path: Path
) -> None:
    import mlflow
    import pandas as pd

    run_id = opened(tmp_path, uri)
    append(tmp_path, points_record(9, {"train/loss": 1.0, "validation/map_at_3": 0.75}))
    for _ in range(2):
        log_small_model(tmp_path)
    with delivery_thread(tmp_path, uri) as sending:
        pass
    assert sending.delivery.problem is None
    (tmp_path / f"{JOURNAL_NAME}.sent").unlink()
    assert deliver_rest(tmp_path).problem is None  # all of it once more

    here = client(uri)
    experiment = here.get_experiment_by_name("quickdraw")
    assert experiment is not None
    (model,) = here.search_logged_models([experiment.experiment_id])
    assert (model.name, str(model.status), model.source_run_id) == ("quickdraw", "READY", run_id)
    assert [(m.key, m.value, m.step) for m in model.metrics or []] == [
        ("validation/map_at_3", 0.75, 9)
    ]
    once(uri, run_id, "validation/map_at_3", range(9, 10))
    outputs = here.get_run(run_id).outputs
    assert outputs is not None
    assert [output.model_id for output in outputs.model_outputs] == [model.model_id]

    with mlflow_at(uri):
        place = f"models:/{model.model_id}"
        info = mlflow.models.get_model_info(place)
        loaded = mlflow.pyfunc.load_model(place)
        folder = Path(mlflow.artifacts.download_artifacts(place, dst_path=str(tmp_path / "got")))
    answer = loaded.predict(pd.DataFrame({"drawing": [EXAMPLE, EXAMPLE]}))
    recognizer = BundleRecognizer(open_bundle(folder / BUNDLE_FOLDER))
    drawing = DrawingBatch.from_strokes([[(x, y) for x, y in EXAMPLE]])
    (expected,) = top_guesses(recognizer.log_probabilities(drawing), recognizer.label_map)
    for guesses in answer["guesses"]:
        assert [guess["word"] for guess in guesses] == [guess.word for guess in expected]
        assert [guess["probability"] for guess in guesses] == pytest.approx(
            [guess.probability for guess in expected]
        )
    assert info.signature is not None
    assert info.signature.inputs.input_names() == ["drawing", "picture"]
    assert info.signature.outputs.input_names() == ["guesses"]
    assert (info.run_id, info.metadata) == (
        run_id,
        {"key": "abc", "step": 9, "label_map_sha256": recognizer.label_map.sha256},
    )
    assert recognizer.label_map == LabelMap.of(WORDS)
    assert loaded.loader_module == "quickdraw_core.serving.mlflow_model"
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pth")]


def test_a_model_whose_sending_was_cut_off_is_finished_not_doubled(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    run_id = opened(tmp_path, uri)
    log_small_model(tmp_path)

    def cut_off(*_: object) -> None:
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", cut_off)
        assert deliver_rest(tmp_path).waiting == 1
    assert deliver_rest(tmp_path).waiting == 0
    here = client(uri)
    (model,) = here.search_logged_models(
        [here.get_run(run_id).info.experiment_id], filter_string=f"source_run_id = '{run_id}'"
    )
    assert str(model.status) == "READY"


def test_the_run_can_be_found_by_its_key(uri: str, tmp_path: Path) -> None:
    run_id = opened(tmp_path, uri)
    run_record = RunRecord.read(tmp_path)
    assert run_record is not None
    assert client(uri).get_run(run_id).data.tags[KEY_TAG] == run_record.key
