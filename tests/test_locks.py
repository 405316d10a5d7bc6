"""Two commands on one place: the second is refused with who holds it; a crash frees it."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from trainings import train_config
from typer.testing import CliRunner

from quickdraw_core.challenge.output_file import temporary_output
from quickdraw_core.cli import app
from quickdraw_core.errors import BusyError, UnreachableError
from quickdraw_core.evaluation.compare import prepare as prepare_comparison
from quickdraw_core.evaluation.config import CompareConfig, EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.ingest.target import alone
from quickdraw_core.launching.train import train
from quickdraw_core.sources.fetch import fetch
from quickdraw_core.sources.fetch_config import FetchConfig
from quickdraw_core.stage import Opened
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import location_of
from quickdraw_core.store.store import Store
from quickdraw_core.system.locks import (
    FOLDER_LOCK,
    held,
    held_folder,
    lock_of_file,
    require_free_folder,
)
from quickdraw_core.tracking import runs

HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from quickdraw_core.system.locks import held_folder\n"
    "with held_folder(Path(sys.argv[1]), 'ingest'):\n"
    "    print('held', flush=True); time.sleep(600)\n"
)


def test_the_second_is_told_who_is_at_work_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with held_folder(folder, "ingest"):
        here = re.escape(socket.gethostname())
        who = rf"ingest, process {os.getpid()} on {here} since \d{{4}}-"
        with pytest.raises(BusyError, match=who) as caught, held_folder(folder, "ingest"):
            pass
        assert caught.value.exit_code == 2
        with pytest.raises(BusyError, match=who):
            require_free_folder(folder)
        with held_folder(folder, "training", f"{FOLDER_LOCK}-host1"):
            pass  # of another host that works in the same folder
    require_free_folder(folder)
    assert not folder.exists()


def test_a_killed_holder_and_what_it_left_hinder_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(BusyError, match=r"ingest, process \d+ on"),
                held_folder(tmp_path, "ingest"),
            ):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    assert (tmp_path / FOLDER_LOCK).exists()
    with held(tmp_path / FOLDER_LOCK, "it", "ingest", wait_seconds=60):  # for its last moment
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_deleted_while_it_is_waited_for_is_taken_anew(tmp_path: Path) -> None:
    lock = tmp_path / FOLDER_LOCK
    with held(lock, "it", "one"):
        lock.unlink()  # by hand: the other's is another file then
        with held(lock, "it", "two", wait_seconds=60), pytest.raises(BusyError, match="two"):
            require_free_folder(tmp_path)


def test_who_only_looks_whether_a_lock_is_free_hinders_nobody(tmp_path: Path) -> None:
    lock = tmp_path / FOLDER_LOCK
    lock.write_text("")  # as a killed command leaves it
    with lock.open() as looking, ThreadPoolExecutor() as pool:
        fcntl.flock(looking, fcntl.LOCK_SH)
        pool.submit(lambda: (time.sleep(0.2), fcntl.flock(looking, fcntl.LOCK_UN)))
        with held(lock, "it", "one"):
            pass


@pytest.mark.parametrize("home", ["no home", "no cache"])
def test_a_store_in_an_object_store_needs_no_cache(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("QUICKDRAW_CACHE", str(file) if home == "no cache" else "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with alone(location_of("s3://bucket/store")):
        pass


def test_an_object_store_is_held_on_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path))
    lock = storage_of(location_of("s3://bucket/store?region=here")).lock
    assert lock == storage_of(location_of("s3://bucket/store")).lock
    assert lock.parent == tmp_path / "locks"


def _ingest(folder: Path, csv: Path, store: Store, model: Path) -> None:
    ingest(IngestConfig.parse({"source": csv, "store": folder}))


def _fetch(folder: Path, csv: Path, store: Store, model: Path) -> None:
    fetch(FetchConfig.parse({"folder": folder, "base_url": "http://127.0.0.1:9"}))


def _train(folder: Path, csv: Path, store: Store, model: Path) -> None:
    train(train_config({"store": store.path, "run_dir": folder, "tracking.uri": "none"}))


def _evaluate(folder: Path, csv: Path, store: Store, model: Path) -> None:
    values = {"model": str(model), "store": store.path, "report_dir": folder}
    evaluate(EvaluateConfig.parse(values | {"tracking_uri": "none", "allow_short": True}))


def _sweep(folder: Path, csv: Path, store: Store, model: Path) -> None:
    words = ["sweep", "report-small", "--store", str(store.path), "--run-dir", str(folder)]
    done = CliRunner().invoke(app, [*words, "--tracking-uri", "none", "--allow-short"])
    if done.exception is not None:
        raise done.exception


@pytest.mark.parametrize("command", [_ingest, _fetch, _train, _evaluate, _sweep])
def test_what_a_command_writes_to_is_its_own(
    command: Callable[[Path, Path, Store, Path], None],
    csv_folder: Path,
    store: Store,
    trained: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "place"
    with held_folder(folder, "work"):
        before = [*tmp_path.rglob("*")]
        with pytest.raises(BusyError, match=r"at work on \S*place: work, process"):
            command(folder, csv_folder, store, trained)
        assert [*tmp_path.rglob("*")] == before


def test_a_file_is_written_by_one_alone(tmp_path: Path) -> None:
    with (
        temporary_output(tmp_path / "out.csv"),
        pytest.raises(BusyError, match=r"at work on \S*out\.csv: writing, process"),
        temporary_output(tmp_path / "out.csv"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_whose_report_is_being_written_is_not_begun_anew(
    store: Store, tmp_path: Path
) -> None:
    config = train_config({"store": store.path, "run_dir": tmp_path, "tracking.uri": "none"})
    with (
        held_folder(tmp_path / "evaluation", "evaluation"),
        pytest.raises(BusyError, match="evaluation, process"),
    ):
        train(config.updated({"fresh": True}))
    assert not list(tmp_path.iterdir())


def test_a_comparison_is_refused_before_it_judges(
    store: Store, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickdraw_core.evaluation.compare.cached_or_predicted", pytest.fail)
    values = {"models": (str(trained), str(trained)), "store": store.path, "out_dir": tmp_path}
    with (
        held_folder(tmp_path, "comparison"),
        pytest.raises(BusyError, match="comparison, process"),
    ):
        prepare_comparison(CompareConfig.parse(values | {"allow_short": True}), Opened()).run()


def test_one_process_sets_up_a_tracking_database(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_database.read_bytes())
    monkeypatch.setattr(runs, "_SET_UP_SECONDS", 0.0)
    with (
        held(lock_of_file(database), str(database), "setting up"),
        pytest.raises(UnreachableError, match="setting up, process"),
    ):
        runs.client(f"sqlite:///{database}")
    runs.client(f"sqlite:///{database}").search_experiments()
    assert [*tmp_path.iterdir()] == [database]
