"""Rows of a sweep that other hosts train: as Dask workers' processes, or as runs in a pool."""

import json
import os
import shutil
import signal
import subprocess
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import command, environment_of
from dask_cluster import dask_hosts, dask_on, worker_on
from distributed import Client
from hosts import hosts_on_a_switch
from processes import rank_processes
from service import until
from sweeps import TINY, open_sweep, table_file

import flows.sweep_row
from quickdraw_core import stage
from quickdraw_core.errors import ConfigError, DivergedError, QuickdrawError, TrainingError
from quickdraw_core.stage import Opened, is_worth_retrying
from quickdraw_core.store.store import Store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.plan import plan_sweep
from quickdraw_core.sweep.results import SweepResult
from quickdraw_core.sweep.row_job import job_of, sweep_of_row
from quickdraw_core.sweep.row_process import error_of
from quickdraw_core.sweep.run import prepare
from quickdraw_core.tracking.run_record import PARENT_TAG, tracked_run_id
from quickdraw_core.tracking.runs import client


def config_of(store: Store, folder: Path, **options: Any) -> SweepConfig:
    values = {"store": store.path, "per_class": 20, "run_dir": folder / "s"}
    values |= {"table": table_file(folder, TINY), "tracking_uri": "none"}
    return SweepConfig.parse(values | options)


def test_a_row_travels_with_all_that_it_needs(store: Store, tmp_path: Path) -> None:
    sweep = open_sweep(config_of(store, tmp_path))
    for planned in sweep.rows:  # also the one that is shown as failed, of which no table consists
        arrived = sweep_of_row(json.loads(json.dumps(job_of(sweep, planned.name))))
        assert arrived.rows == (planned,)
        assert arrived.judging(arrived.rows[0]) == sweep.judging(planned)
        same = ("path", "table", "store", "store_fingerprint", "per_class", "allow_short", "uri")
        assert [getattr(arrived, n) for n in same] == [getattr(sweep, n) for n in same]


@pytest.mark.parametrize(
    ("line", "error", "is_retried"),
    [
        ('row failed: {"error": "ConfigError", "message": "no"}', ConfigError("no"), False),
        ('row failed: {"error": "DivergedError", "message": "nan"}', DivergedError("nan"), False),
        ('row failed: {"error": "OfTheFuture", "message": "x"}', TrainingError("x"), True),
        ("Killed", TrainingError("the process of the row ended with code -9: Killed"), True),
        ("", TrainingError("the process of the row ended with code -9: it was killed"), True),
    ],
)
def test_what_a_rows_process_ended_with_decides_whether_it_is_tried_again(
    line: str, error: QuickdrawError, is_retried: bool
) -> None:
    found = error_of(line, -9)
    assert (type(found), str(found)) == (type(error), str(error))
    assert is_worth_retrying(found) == is_retried


def test_gpus_of_other_hosts_are_not_looked_for_here(store: Store, tmp_path: Path) -> None:
    gpus = {"micro_batch_size": 16, "hardware": {"device": "cuda", "ranks": 2}}
    of_gpus: dict[str, Any] = {"changes": gpus}
    with pytest.raises(ConfigError, match="row 'Right'"):
        plan_sweep(config_of(store, tmp_path, **of_gpus), Opened())
    for where in ({"dask": "tcp://127.0.0.1:1"}, {"where": "pool"}):
        sweep = plan_sweep(config_of(store, tmp_path, **of_gpus, **where), Opened())
        assert sweep.devices == ()
        assert len(sweep.slots) == 3
        assert all(row.config.hardware.device == "cuda" for row in sweep.rows)
    assert len(plan_sweep(config_of(store, tmp_path, parallel=2, **where), Opened()).slots) == 2


def test_rows_elsewhere_are_refused_before_anything_is_begun(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out one"):
        config_of(store, tmp_path, where="pool", dask="tcp://a:1")
    with pytest.raises(ConfigError, match=r"where=pool.* flow"):
        prepare(config_of(store, tmp_path, where="pool"), Opened()).run()
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        prepare(config_of(store, tmp_path, dask="tcp://127.0.0.1:1"), Opened()).run()
    assert not (tmp_path / "s").exists()


def test_a_row_in_the_pool_takes_as_many_slots_of_the_server_as_it_has_ranks(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, trained = [], []

    @contextmanager
    def slots(ranks: int, device: str) -> Any:
        held.append((ranks, device))
        yield
        held.append("released")

    def run_row(sweep: Any, name: str, _: Opened) -> None:
        trained.append((name, held[-1]))

    monkeypatch.setattr(flows.sweep_row, "gpu_slots", slots)
    monkeypatch.setattr(flows.sweep_row, "run_row", run_row)
    sweep = open_sweep(config_of(store, tmp_path))
    flows.sweep_row.train_row.fn("Right", job_of(sweep, "Right"))
    assert trained == [("Right", (1, "auto"))]
    assert held[-1] == "released"


@pytest.mark.parametrize(
    ("name", "type_", "raised", "is_retried"),
    [("Crashed", "CRASHED", TrainingError, True), ("Failed", "FAILED", TrainingError, False)],
)
def test_the_sweep_tries_again_only_a_run_that_could_not_itself(
    name: str, type_: str, raised: type, is_retried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.states import State

    state: Any = State(type=type_, name=name, message="the reason\nand more")
    run: Any = SimpleNamespace(id="1", name="Right", state=state)

    @contextmanager
    def server(**_: Any) -> Any:
        yield SimpleNamespace(read_flow_run=lambda _: run)

    monkeypatch.setattr(flows.sweep_row, "get_client", server)
    with pytest.raises(raised, match=f"flow run Right .* ended {name}: the reason$") as found:
        flows.sweep_row._follow(run, threading.Event())
    assert is_worth_retrying(found.value) == is_retried


ROWS = """
[values]
model = "net"
image = { encoding = "gray", side_px = 24 }
augment.mirror_share = 0.0
epochs = 20
hardware.ranks = 1
global_batch_size = 32
micro_batch_size = 32
validation.every_steps = 60
checkpoints.every_steps = 10
"""


def status_of(journal: Path) -> list[str]:
    """The states that a run had, in order."""
    records = map(json.loads, journal.read_text().splitlines())
    return [record["status"] for record in records if "status" in record]


@pytest.mark.soak
@pytest.mark.parametrize(("names", "count"), [("AB", 2), ("ABCDEF", 3)])
def test_rows_on_several_hosts_of_which_one_is_killed(
    names: str, count: int, store: Store, empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    # All the same, so that what comes of them must be.
    table = table_file(tmp_path, ROWS + "".join(f'[[rows]]\nname = "{n}"\n' for n in names))
    words = ["sweep", table, "--store", store.path, "--per-class", 20, "--run-dir", "swept"]
    with hosts_on_a_switch(count) as switch, ExitStack() as stack:
        first = switch.hosts[0]
        address = f"tcp://{first.address}:8786"
        listening = ("--host", f"tcp://{first.address}", "--port", "8786", "--no-dashboard")
        stack.enter_context(dask_on(first, "scheduler", *listening))
        workers = [
            stack.enter_context(worker_on(host, address, tmp_path / host.name, "--no-nanny"))
            for host in switch.hosts
        ]
        process = subprocess.Popen(
            first.command(*command(), *map(str, words), "--dask", address),
            cwd=tmp_path, env=environment_of(tmp_path), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            last = workers[-1]
            lost = until(lambda: row_at_work(tmp_path, last.pid), 200, "a row", every=0.05)
            last.kill()
            out, _ = process.communicate(timeout=500)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, out
    assert f"{len(names)} of {len(names)} rows finished" in out
    states = {path.parent: status_of(path) for path in tmp_path.glob("swept/*/journal.jsonl")}
    twice = {path for path, found in states.items() if found.count("RUNNING") == 2}
    assert len(states) == len(names)
    assert twice == {lost}
    rows = json.loads((tmp_path / "swept" / "sweep.json").read_text())["rows"]
    scores = [row["scores"] for row in rows]
    assert scores == [scores[0]] * len(names)
    mlflow = client(f"sqlite:///{tmp_path}/mlflow.db")
    parent = tracked_run_id(tmp_path / "swept")
    runs = mlflow.search_runs([mlflow.get_run(parent).info.experiment_id])
    beneath = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent]
    assert {run.info.status for run in beneath} == {"FINISHED"}
    assert len(beneath) == len(names)


@pytest.mark.services  # 30 s: two trainings and their judgements by two workers
def test_a_row_whose_worker_is_killed_goes_on_with_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RETRY_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    results: list[SweepResult] = []
    with dask_hosts(tmp_path, ["127.0.0.1", "127.0.0.2"]) as (address, (_, *workers)):
        with Client(address, set_as_default=False) as known:
            known.wait_for_workers(2, 200)
        config = config_of(store, tmp_path, dask=address, run_dir=tmp_path / "swept")
        table_file(tmp_path, ROWS + '[[rows]]\nname = "A"\n[[rows]]\nname = "B"\n')
        prepared = prepare(config, Opened())
        thread = threading.Thread(target=lambda: results.append(prepared.run()))
        thread.start()
        lost = until(lambda: row_at_work(tmp_path, workers[1]), 200, "a row", every=0.05)
        os.kill(workers[1], signal.SIGKILL)
        thread.join(500)
    ((first, second),) = (result.rows for result in results)
    assert first.scores == second.scores != {}
    begun = {row.run_dir: status_of(row.run_dir / "journal.jsonl") for row in (first, second)}
    assert begun.pop(lost) == ["RUNNING", "RUNNING", "FINISHED"]
    assert list(begun.values()) == [["RUNNING", "FINISHED"]]


def row_at_work(folder: Path, worker: int) -> Path | None:
    """The run folder of the row with a checkpoint that a process of a worker trains."""
    for run in {path.parent.parent for path in folder.glob("swept/*/checkpoints/last")}:
        if any(worker_of(rank) == worker for rank in rank_processes(run)):
            return run
    return None


def worker_of(process: int) -> int:
    """The Dask worker that an ancestor of a process is; 0 if none is, or it has ended."""
    with suppress(OSError):
        while process:
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            if b"worker" in words and b"dask" in words:
                return process
            stat = Path(f"/proc/{process}/stat").read_text()
            process = int(stat.rpartition(") ")[2].split()[1])
    return 0
