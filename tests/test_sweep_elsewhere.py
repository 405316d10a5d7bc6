"""Rows of a sweep that other hosts train: as Dask workers' processes, or as runs in a pool."""

import json
import re
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import command, environment_of
from dask_cluster import dask_on, worker_on
from hosts import hosts_on_a_switch
from processes import rank_processes
from service import until
from sweeps import TINY, open_sweep, table_file

import flows.sweep_row
from quickdraw_core.cluster import shared_folder
from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.cluster.workers import Survey, Worker
from quickdraw_core.errors import (
    BusyError,
    ClusterError,
    ConfigError,
    DivergedError,
    QuickdrawError,
    TrainingError,
)
from quickdraw_core.stage import Opened, is_worth_retrying
from quickdraw_core.store.store import Store
from quickdraw_core.sweep import on_workers, row_process
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.plan import plan_sweep
from quickdraw_core.sweep.row_job import job_of, require_here, sweep_of_row
from quickdraw_core.sweep.row_process import error_of, wait_until_free
from quickdraw_core.sweep.run import prepare
from quickdraw_core.system.locks import held_folder
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


def test_a_row_is_refused_where_the_folder_of_its_sweep_is_not(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier = job_of(open_sweep(config_of(store, tmp_path)), "Right")
    require_here(earlier)
    copy = shutil.copytree(tmp_path / "s", tmp_path / "copy")
    job = job_of(open_sweep(config_of(store, tmp_path)), "Right")
    require_here(job)
    require_here(earlier)  # a run that is retried alone
    with pytest.raises(ConfigError, match=r"'Right' was made by an older version .* retry"):
        require_here({name: value for name, value in job.items() if name != "sweep"})
    # What a host with a disk of its own may have there.
    shutil.rmtree(tmp_path / "s")
    copy.rename(tmp_path / "s")
    monkeypatch.setattr(shared_folder, "_SEEN_SECONDS", 0.1)
    monkeypatch.setattr(row_process.signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["row", json.dumps(job)])
    with pytest.raises(SystemExit) as ended:
        row_process.main()
    error = error_of(capsys.readouterr().out.splitlines()[-1], ended.value.code)
    assert isinstance(error, ClusterError)
    assert f"{tmp_path / 's'} is not shared: " in str(error)
    assert is_worth_retrying(error)  # another host may be one that does
    assert not [*(tmp_path / "s").glob("right*")]
    monkeypatch.setattr(flows.sweep_row, "train_row", None)  # in Prefect's pool: before that
    job["path"] = str(tmp_path / "absent")
    refused = flows.sweep_row.sweep_row.fn("Right", job)
    assert refused is not None
    assert (refused.is_failed(), refused.name) == (True, flows.sweep_row._NOT_SHARED)
    assert re.search(r"absent is not shared: .* on storage of all hosts", str(refused.message))


def test_a_row_waits_for_a_process_that_ends_on_a_host_that_was_cut_off(tmp_path: Path) -> None:
    with ExitStack() as at_work:
        for folder in (tmp_path, tmp_path / "evaluation"):
            at_work.enter_context(held_folder(folder, "training"))
        with pytest.raises(BusyError):
            wait_until_free(tmp_path, 0)
        ends = threading.Timer(0.2, at_work.pop_all().close)
        ends.start()
        wait_until_free(tmp_path, 60)
        ends.join()
    assert not [*tmp_path.iterdir()]


def test_rows_that_wait_ask_a_cluster_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def survey(_: object, needs: dict[str, float]) -> Survey:
        asked.append(needs)
        return Survey([], [Worker("tcp://a:1", "a", "a")], {})

    monkeypatch.setattr(on_workers, "survey", survey)
    monkeypatch.setattr(on_workers, "_LOOK_SECONDS", 600)
    hosts = on_workers.RowHosts(SimpleNamespace(status="running"), None, ClusterConfig())
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(hosts._survey, [{}, {"GPU": 1.0}] * 20)]
    assert len(asked) == 2
    assert {one.hosts for one in found} == {1}


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
        flows.sweep_row._follow(run, threading.Event(), [])
    assert is_worth_retrying(found.value) == is_retried


def test_a_host_without_the_sweeps_folder_does_not_take_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither those that wait for a worker, nor those that are not started yet; one that is at
    work goes on.
    """
    from prefect.states import Completed, Failed, Running, Scheduled

    states = {
        "bad": iter([Failed(name=flows.sweep_row._NOT_SHARED, message="/s is not shared: n2")]),
        "waiting": iter([Scheduled()]),
        "at work": iter([Running(), Completed()]),
    }
    cancelled = []

    @contextmanager
    def server(**_: Any) -> Any:
        yield SimpleNamespace(
            read_flow_run=lambda name: SimpleNamespace(state=next(states[name])),
            set_flow_run_state=lambda name, state, force: cancelled.append((name, state.type)),
        )

    monkeypatch.setattr(flows.sweep_row, "get_client", server)
    monkeypatch.setattr(flows.sweep_row, "_POLL_SECONDS", 0.0)
    refusals: list[str] = []

    def follow(name: str) -> None:
        run: Any = SimpleNamespace(id=name, name=name)
        flows.sweep_row._follow(run, threading.Event(), refusals)

    with pytest.raises(TrainingError, match="ended NotShared: /s is not shared: n2"):
        follow("bad")
    with pytest.raises(TrainingError, match=r"not started, .*: /s is not shared: n2") as waiting:
        follow("waiting")
    assert not is_worth_retrying(waiting.value)
    assert [(name, kind.value) for name, kind in cancelled] == [("waiting", "CANCELLING")]
    follow("at work")
    with pytest.raises(TrainingError, match="not started"):
        flows.sweep_row._require_no_refusal(refusals)


ROWS = """
[values]
model = "net"
image = { encoding = "gray", side_px = 24 }
augment.mirror_share = 0.0
epochs = 8
hardware.ranks = 1
global_batch_size = 32
micro_batch_size = 32
validation.every_steps = 40
checkpoints.every_steps = 4
"""


def status_of(journal: Path) -> list[str]:
    """The states that a run had, in order."""
    records = map(json.loads, journal.read_text().splitlines())
    return [record["status"] for record in records if "status" in record]


# Without MLflow, some 60 s of processor time: six processes of a row, six trainings.
@pytest.mark.parametrize(
    "uri",
    [pytest.param("none", marks=pytest.mark.services), pytest.param(None, marks=pytest.mark.soak)],
)
def test_six_rows_on_three_hosts_of_which_one_is_killed(
    uri: str | None, store: Store, empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    # All the same, so that what comes of them must be.
    table = table_file(tmp_path, ROWS + "".join(f'[[rows]]\nname = "{n}"\n' for n in "ABCDEF"))
    words = ["sweep", table, "--store", store.path, "--per-class", 20, "--run-dir", "swept"]
    with hosts_on_a_switch(3) as switch, ExitStack() as stack:
        first = switch.hosts[0]
        address = f"tcp://{first.address}:8786"
        listening = ("--host", f"tcp://{first.address}", "--port", "8786", "--no-dashboard")
        stack.enter_context(dask_on(first, "scheduler", *listening))
        workers = [
            stack.enter_context(worker_on(host, address, tmp_path / host.name, "--no-nanny"))
            for host in switch.hosts
        ]
        words += ["--dask", address, *(["--tracking-uri", uri] if uri else [])]
        process = subprocess.Popen(
            first.command(*command(), *map(str, words)),
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
    assert "6 of 6 rows finished" in out
    states = {path.parent: status_of(path) for path in tmp_path.glob("swept/*/journal.jsonl")}
    twice = {path for path, found in states.items() if found.count("RUNNING") == 2}
    assert len(states) == 6
    assert twice == {lost}
    rows = json.loads((tmp_path / "swept" / "sweep.json").read_text())["rows"]
    scores = [row["scores"] for row in rows]
    assert scores == [scores[0]] * 6
    if uri is None:
        mlflow = client(f"sqlite:///{tmp_path}/mlflow.db")
        parent = tracked_run_id(tmp_path / "swept")
        runs = mlflow.search_runs([mlflow.get_run(parent).info.experiment_id])
        beneath = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent]
        assert {run.info.status for run in beneath} == {"FINISHED"}
        assert len(beneath) == 6


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
