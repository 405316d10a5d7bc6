"""The promise of reruns, on a real Prefect server with a real worker: what is finished is not
done again, what is not goes on, whatever was killed or went away meanwhile.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask_cluster import dask_hosts
from forkserver import real_python
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from processes import launcher_process, processes_of, rank_processes
from service import Service, service, until

from flows.deployments.config import DEPLOYMENTS
from flows.deployments.deploy import HEARTBEAT_SECONDS
from flows.gpus import LEASE_SECONDS
from quickdraw_core.diagnosis.curves import Curves, read_curves
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.plan import plan_sweep
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="kills processes by signals"),
    pytest.mark.forked,
]

INGEST = {"source": ["csv"], "store": "store"}
TRAIN = {"store": "store", "model": {"name": "net"}, "image": {"side_px": 24}, "epochs": 30}
TRAIN |= {"global_batch_size": 32, "micro_batch_size": 16, "augment": None}
TRAIN |= {"hardware": {"ranks": 2, "device": "cpu"}, "tracking": {"log_every_steps": 1}}
TRAIN |= {"checkpoints": {"every_steps": 4}, "validation": {"every_epochs": 10}}
JUDGE = {"allow_short": True, "guesses": 3}
STAGES = ("ingest", "pack", "train", "evaluate", "promote")


def pipeline(run_dir: str, **evaluate: Any) -> dict[str, Any]:
    """Parameters of a small pipeline whose model is in a folder of its own."""
    return {
        "ingest": INGEST,
        "train": TRAIN | {"run_dir": run_dir},
        "evaluate": JUDGE | evaluate,
        "promote": {"allow_short": True, "name": run_dir},
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Server, worker and the project's deployments, of which the nightly one runs each minute."""
    home = tmp_path_factory.mktemp("service")
    document = yaml.safe_load(DEPLOYMENTS.read_text())
    nightly = document["deployments"][0]
    assert nightly["name"] == "nightly"
    nightly["parameters"] = pipeline("undisturbed")
    for entry in document["deployments"]:  # else one waits half a minute for the last one's slot
        entry.pop("concurrency_limit", None)
        forked = {"command": f"{sys.executable} -m prefect.engine"}
        entry["work_pool"].setdefault("job_variables", {}).update(forked)
        if entry["name"] == "pool":  # the one that a worker is here for
            entry["work_pool"]["name"] = "cpu"
    file = home / "deployments.yaml"
    file.write_text(yaml.safe_dump(document))
    with service(home) as started:
        done = started.quickdraw("generate", "csv", "--classes", 3, "--rows", 100)
        assert done.returncode == 0, done.stderr
        deploy(started)
        yield started


def deploy(running: Service) -> None:
    """Makes the project's deployments, with the small pipeline each minute."""
    file = running.home / "deployments.yaml"
    done = running.quickdraw("deploy", "--file", file, "--cron", "* * * * *")
    assert done.returncode == 0, done.stderr


def pause(running: Service) -> None:
    """Has the schedule create no further runs."""
    nightly = running.deployment("pipeline/nightly")
    running.call(f"/deployments/{nightly}", {"paused": True}, "PATCH")


@pytest.fixture(scope="module")
def scheduled(running: Service) -> str:
    """The first run that the schedule created, ended, and nothing scheduled any more."""
    nightly = running.deployment("pipeline/nightly")
    where = {"deployments": {"id": {"any_": [nightly]}}, "sort": "START_TIME_ASC"}
    where |= {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "COMPLETED", "FAILED"]}}}}
    first = until(lambda: running.call("/flow_runs/filter", where), 300, "a scheduled run")[0]
    pause(running)
    running.ended(first["id"])
    return str(first["id"])


@pytest.fixture(scope="module")
def undisturbed(running: Service, scheduled: str) -> Curves:
    """The curves of a training that nothing disturbed."""
    return read_curves(running.home / "undisturbed")


def curves_of(found: Curves) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values by name, of what a training decides."""
    names = [name for name in found if name.startswith(("train/loss", "validation/"))]
    assert names
    return {name: (list(found[name].steps), list(found[name].values)) for name in names}


def require_as_undisturbed(running: Service, run_dir: str, undisturbed: Curves) -> None:
    """The run's curves are those of a run never disturbed, and MLflow has one run with each
    point once.
    """
    folder = running.home / run_dir
    assert curves_of(read_curves(folder)) == curves_of(undisturbed)
    client, run = mlflow_run(running, folder)
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(steps) == sorted(set(steps))
    assert len(steps) == len(undisturbed["train/loss"].steps)


def mlflow_run(running: Service, folder: Path) -> tuple[MlflowClient, Any]:
    """The one MLflow run of a run folder."""
    client = MlflowClient(f"sqlite:///{running.home}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    named = [run for run in client.search_runs(experiments) if run.info.run_name == folder.name]
    assert len(named) == 1
    return client, named[0]


def in_training(running: Service, run_dir: str, step: int = 20) -> Path:
    """Waits until a training has done so many steps, and is not at its end."""
    folder = running.home / run_dir

    def far_enough() -> bool:
        if not (folder / "journal.jsonl").is_file():
            return False
        found = read_curves(folder).get("train/loss")
        return found is not None and len(found.steps) >= step

    until(far_enough, 300, f"step {step} of {run_dir}", every=0.02)
    return folder


def no_ranks(folder: Path, seconds: float = 10) -> None:
    until(
        lambda: not rank_processes(folder) and launcher_process(folder) is None,
        seconds,
        "the end of all ranks",
    )


def test_a_schedule_creates_a_run_that_finishes(running: Service, scheduled: str) -> None:
    assert running.state(scheduled) == "Completed"
    assert running.run(scheduled)["auto_scheduled"]
    assert running.tasks(scheduled) == {stage: ["Completed"] for stage in STAGES}
    assert running.run(scheduled)["name"].startswith("pipeline csv net")


def test_runs_are_shown_with_artifacts_and_the_lines_of_sub_processes(
    running: Service, scheduled: str
) -> None:
    made = running.call("/artifacts/filter", {})
    shown = {a["key"]: a for a in made if a["flow_run_id"] == scheduled}
    assert {"ingest", "training", "evaluation", "evaluation-classes", "promotion"} <= set(shown)
    assert "300 kept" in shown["ingest"]["data"]
    assert running.says(scheduled, "validation MAP@3")


def test_deploying_again_changes_nothing(running: Service, scheduled: str) -> None:
    def names() -> list[str]:
        kinds = {"work_pools": "name", "v2/concurrency_limits": "name", "automations": "name"}
        listed = {kind: running.call(f"/{kind}/filter", {}) for kind in (*kinds, "deployments")}
        found = [f"{kind} {entry[key]}" for kind, key in kinds.items() for entry in listed[kind]]
        found += [f"deployment {entry['name']} {entry['id']}" for entry in listed["deployments"]]
        return sorted(found)

    before = names()
    deploy(running)
    pause(running)
    assert names() == before
    assert len([name for name in before if name.startswith("deployment")]) == 9


def test_parameters_are_checked_when_a_run_is_created(running: Service) -> None:
    refused = running.try_to_create("train/on-demand", {"config": {"epochs": -1}})
    assert refused.status_code in (409, 422)
    assert "epochs" in refused.text
    refused = running.try_to_create("train/on-demand", {"config": {"epoch": 1}})
    assert not refused.ok


def test_the_same_again_does_nothing_and_says_so(running: Service, scheduled: str) -> None:
    done = running.run_deployment("pipeline/nightly")
    assert done.returncode == 0
    assert "nothing was to do" in done.stdout, done.stdout
    again = done.stdout.splitlines()[0].rpartition("/")[2]
    skipped = {stage: ["Cached"] for stage in STAGES[:-1]}
    assert running.tasks(again) == skipped | {"promote": ["Completed"]}


def test_a_deleted_output_is_made_again(running: Service, scheduled: str) -> None:
    """Though a result with the same key is kept; what hangs on it is as it was, and stays."""
    store = Store.open(running.home / "store")
    part = store.path / store.manifest.files[0].path
    content = part.read_bytes()
    part.unlink()
    (running.home / "undisturbed" / "evaluation" / "report.html").unlink()
    again = running.create_run("pipeline/nightly")
    assert running.ended(again) == "Completed"
    assert part.read_bytes() == content
    assert (running.home / "undisturbed" / "evaluation" / "report.html").is_file()
    states = {name: states[-1] for name, states in running.tasks(again).items()}
    made = {"ingest": "Completed", "evaluate": "Completed", "promote": "Completed"}
    assert states == made | {"pack": "Cached", "train": "Cached"}


def test_what_failed_is_rerun_and_nothing_else(
    running: Service, undisturbed: Curves, tmp_path: Path
) -> None:
    """A stage fails, its cause is mended, and Retry is pressed."""
    (running.home / "blocked").write_text("a file where a folder should be")
    asked = pipeline("mended", report_dir="blocked/evaluation")
    run = running.create_run("pipeline/demo", asked)
    assert running.ended(run) == "Failed"
    (running.home / "blocked").unlink()
    shown = running.quickdraw("status")
    assert shown.returncode == 0, shown.stderr
    assert f"again: quickdraw rerun {run}" in shown.stdout
    planned = running.quickdraw("rerun", run, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert len(re.findall(r"^ *(?:ingest|pack|train) +reuse ", planned.stdout, re.M)) == 3
    assert re.search(
        r"^ *evaluate +do anew +the model has no whole report yet", planned.stdout, re.M
    )
    done = running.quickdraw("rerun", "--all-failed", "--flow", "pipeline", "--since", "1d")
    assert done.returncode == 0, done.stderr
    until(lambda: running.run(run)["run_count"] == 2, 300, "the second attempt")
    assert running.ended(run) == "Completed"
    assert running.tasks(run) == {
        "ingest": ["Cached", "Cached"],
        "pack": ["Cached", "Cached"],
        "train": ["Completed", "Cached"],
        "evaluate": ["Failed", "Completed"],
        "promote": ["Completed"],
    }
    require_as_undisturbed(running, "mended", undisturbed)


def test_a_run_is_rerun_from_a_stage_and_with_other_options(
    running: Service, scheduled: str
) -> None:
    """As a new run of the same deployment."""
    rate = "train.optimizer.learning_rate=0.005"
    planned = running.quickdraw("rerun", scheduled, "--set", rate, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert f"{rate.replace('=', ' = ')} (was " in planned.stdout
    assert re.search(r"^ *train +do anew .*/undisturbed-[0-9a-f]{10}", planned.stdout, re.M)
    elsewhere = "evaluate.report_dir=elsewhere"  # so that the run itself stays as it is
    done = running.quickdraw(
        "rerun", scheduled, "--from", "evaluate", "--set", elsewhere, "--watch"
    )
    assert done.returncode == 0, done.stderr
    (again,) = re.findall(r"\(([0-9a-f-]{36})\) is scheduled instead of", done.stdout)
    assert running.run(again)["deployment_id"] == running.deployment("pipeline/nightly")
    kept = {stage: ["Cached"] for stage in ("ingest", "pack", "train")}
    made = {stage: ["Completed"] for stage in ("evaluate", "promote")}
    assert running.tasks(again) == kept | made
    refused = running.quickdraw("rerun", scheduled, "--set", "train.epochs=0")
    assert refused.returncode == 2
    assert "epochs" in refused.stderr


def test_a_run_without_a_deployment_is_rerun_by_the_command(running: Service) -> None:
    done = running.quickdraw("generate", "own", "--classes", 2, "--rows", 60)
    assert done.returncode == 0, done.stderr
    file = sorted((running.home / "own").glob("*.csv"))[0]
    whole = file.read_text()
    file.write_text(whole + "broken,row\n" * 5)
    refused = running.quickdraw("ingest", "own", "--store", "own-store")
    assert refused.returncode == 1
    file.write_text(whole)
    done = running.quickdraw("rerun", "--last-failed")
    assert done.returncode == 0, done.stderr
    assert Store.open(running.home / "own-store").manifest.rows_kept == 120


def test_what_cannot_be_rerun_is_refused_in_one_line(running: Service) -> None:
    for words in ([], ["some run", "--last-failed"], ["no such run"]):
        refused = running.quickdraw("rerun", *words)
        assert refused.returncode == 2
        assert "error:" in refused.stderr


def test_clean_keeps_what_a_failed_run_may_ask_for(running: Service, scheduled: str) -> None:
    """Everything is old, but the run failed a moment ago, and no schedule makes another."""
    results = running.home / "results"
    before = set(results.iterdir())
    (running.home / "in-the-way").write_text("a file where a folder should be")
    asked = pipeline("uncleaned", report_dir="in-the-way/evaluation")
    run = running.create_run("pipeline/demo", asked)
    assert running.ended(run) == "Failed"
    # The server learns of tasks a moment later than of the run, by events.
    until(lambda: running.tasks(run).get("evaluate") == ["Failed"], 60, "its tasks' ends")
    made = set(results.iterdir()) - before
    assert made
    unasked = results / f"train-{'0' * 32}"
    unasked.write_text("{}")
    forgotten = running.home / "forgotten"
    shutil.copytree(running.home / "uncleaned", forgotten)
    (forgotten / "mlflow.json").unlink()
    for path in (*made, unasked, *forgotten.rglob("*"), *(running.home / "uncleaned").rglob("*")):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    words = ("clean", "--runs", ".", "--store", "store", "--keep", 0, "--older-than", "1d")
    done = running.quickdraw(*words)
    assert done.returncode == 0, done.stderr
    assert not forgotten.exists()
    assert not unasked.exists()
    assert sorted(path.name for path in made if not path.exists()) == []
    assert (running.home / "uncleaned" / "run.json").exists()
    told = " ".join(done.stdout.split())  # the last column is wrapped
    assert "a run or deployment of Prefect refers to it" in told
    assert running.run_deployment("clean/weekly").returncode == 0


def kill_rank(running: Service, run: str, folder: Path) -> None:
    os.kill(rank_processes(folder)[0], signal.SIGKILL)


def kill_launcher(running: Service, run: str, folder: Path) -> None:
    launcher = launcher_process(folder)
    assert launcher is not None
    os.kill(launcher, signal.SIGKILL)


def test_a_killed_flow_is_rerun_from_its_checkpoint(running: Service, undisturbed: Curves) -> None:
    # Ranks end with their parent, which forked ones do not have.
    real = {"command": f"{real_python()} -m prefect.engine"}
    run = running.create_run("pipeline/demo", pipeline("killed"), job_variables=real)
    flow = running.pid(run)
    folder = in_training(running, "killed")
    os.kill(flow, signal.SIGKILL)
    no_ranks(folder)
    assert len(read_curves(folder)["train/loss"].steps) < len(undisturbed["train/loss"].steps)
    assert running.ended(run) == "Crashed"
    done = running.quickdraw("rerun", "--last-failed")
    assert done.returncode == 0, done.stderr
    until(lambda: running.run(run)["run_count"] == 2, 300, "the second attempt")
    assert running.ended(run) == "Completed"
    assert running.tasks(run)["ingest"] == ["Cached", "Cached"]
    require_as_undisturbed(running, "killed", undisturbed)


@pytest.mark.parametrize("kill", [kill_rank, pytest.param(kill_launcher, marks=pytest.mark.soak)])
def test_a_lost_process_costs_an_attempt_of_the_stage(
    running: Service, undisturbed: Curves, kill: Callable[[Service, str, Path], None]
) -> None:
    name = kill.__name__
    run = running.create_run("pipeline/demo", pipeline(name))
    folder = in_training(running, name)
    kill(running, run, folder)
    assert running.ended(run) == "Completed"
    assert running.run(run)["run_count"] == 1
    require_as_undisturbed(running, name, undisturbed)


def test_cancelling_ends_all_of_it_and_leaves_a_checkpoint(
    running: Service, undisturbed: Curves
) -> None:
    run = running.create_run("pipeline/demo", pipeline("cancelled"))
    folder = in_training(running, "cancelled")
    assert rank_processes(folder)
    running.call(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    no_ranks(folder, seconds=15)
    assert running.ended(run) == "Cancelled"
    until(lambda: mlflow_run(running, folder)[1].info.status == "KILLED", 300, "KILLED in MLflow")
    last = find_checkpoint(folder, "last")
    assert last is not None
    assert load_checkpoint(last).step > 0
    assert running.quickdraw("rerun", run, "--watch").returncode == 0
    require_as_undisturbed(running, "cancelled", undisturbed)


def test_a_training_on_workers_of_a_dask_cluster_ends_with_its_flow_run_and_goes_on(
    running: Service, undisturbed: Curves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", real_python())  # whose processes are known by name
    with dask_hosts(tmp_path, ["127.0.0.1", "127.0.0.2"]) as (address, _):
        parameters = pipeline("on-workers")
        hosts = {"hosts": {"dask": address, "nodes": 2}, "hardware": {"ranks": 1, "device": "cpu"}}
        parameters["train"] |= hosts
        run = running.create_run("pipeline/demo", parameters)
        folder = in_training(running, "on-workers")
        assert len(processes_of(folder)) >= 6  # node, launcher and rank of both
        running.call(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        until(lambda: not processes_of(folder), 30, "the end of all nodes")
        assert running.ended(run) == "Cancelled"
        assert running.quickdraw("rerun", run, "--watch").returncode == 0
    require_as_undisturbed(running, "on-workers", undisturbed)


def test_a_worker_that_is_told_to_stop_lets_its_runs_end_first(
    running: Service, scheduled: str
) -> None:
    run = running.create_run("pipeline/demo", pipeline("stopped"))
    folder = in_training(running, "stopped")
    worker = running.worker
    assert worker is not None
    worker.terminate()
    try:
        worker.wait(300)
    finally:
        running.start_worker()
    assert not rank_processes(folder)
    assert running.state(run) == "Crashed"
    assert mlflow_run(running, folder)[1].info.status == "KILLED"


@pytest.mark.parametrize("moment", ["middle", pytest.param("end", marks=pytest.mark.soak)])
def test_prefect_away_for_half_a_minute_costs_nothing(
    running: Service, undisturbed: Curves, moment: str
) -> None:
    name = f"away-{moment}"
    run = running.create_run("pipeline/demo", pipeline(name))
    folder = in_training(running, name)
    if moment == "end":
        until(lambda: (folder / "evaluation" / "outputs.json").is_file(), 300, "evaluation")
    running.stop_server()
    time.sleep(30)
    running.start_server()
    assert running.ended(run) == "Completed"
    assert running.run(run)["run_count"] == 1
    require_as_undisturbed(running, name, undisturbed)


def test_mlflow_away_during_training_costs_nothing(
    running: Service, undisturbed: Curves, tmp_path: Path
) -> None:
    server = MlflowServer(tmp_path)
    server.start()
    try:
        tracking = {"uri": server.uri, "log_every_steps": 1}
        config = TRAIN | {"run_dir": "untracked", "tracking": tracking}
        run = running.create_run("train/on-demand", {"config": config})
        folder = in_training(running, "untracked", step=5)
        server.kill()
        before = len(read_curves(folder)["train/loss"].steps)
        in_training(running, "untracked", step=before + 10)
        server.start()
        assert running.ended(run) == "Completed"
        assert running.run(run)["run_count"] == 1
        assert curves_of(read_curves(folder)) == curves_of(undisturbed)
        client = MlflowClient(server.uri)
        (tracked,) = client.search_runs([client.get_experiment_by_name("quickdraw").experiment_id])
        assert tracked.info.status == "FINISHED"
        told = [p.step for p in client.get_metric_history(tracked.info.run_id, "train/loss")]
        assert sorted(told) == list(undisturbed["train/loss"].steps)
    finally:
        server.kill()
        # A later `clean` of the home would ask the server that has this run.
        shutil.rmtree(running.home / "untracked", ignore_errors=True)


def two_rows(running: Service, run_dir: str) -> tuple[dict[str, object], Path]:
    """Parameters of a sweep of the rows A and B, and the folder of B, which cannot begin."""
    values = {
        "model": "net",
        "image.side_px": 24,
        "epochs": 1,
        "augment": None,
        "hardware.ranks": 1,
    }
    values |= {"global_batch_size": 32, "micro_batch_size": 32}
    table = running.home / "two.toml"
    lines = ["[values]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None)]
    lines += ["augment.mirror_share = 0.0", "[[rows]]", 'name = "A"', "[[rows]]", 'name = "B"']
    table.write_text("\n".join([*lines, "values = { optimizer.learning_rate = 0.001 }", ""]))
    asked = {"table": "two.toml", "store": "store", "allow_short": True, "run_dir": run_dir}
    config = SweepConfig.parse(asked | {"table": str(table), "store": str(running.home / "store")})
    config = config.updated({"run_dir": running.home / run_dir})
    row = plan_sweep(config, Opened()).row("B").run_dir
    row.mkdir(parents=True)
    (row / "run.json").write_text("{torn")
    return asked, row


def test_a_sweep_is_rerun_from_its_failed_rows(running: Service, scheduled: str) -> None:
    asked, row = two_rows(running, "swept")
    run = running.create_run("sweep/weekly", {"config": asked})
    assert running.ended(run) == "Failed"
    journals = {path: path.read_bytes() for path in running.home.glob("swept/*/journal.jsonl")}
    assert len(journals) == 1
    (row / "run.json").unlink()
    assert running.quickdraw("rerun", run, "--watch").returncode == 0
    assert len(list(running.home.glob("swept/*/journal.jsonl"))) == 2
    assert all(path.read_bytes() == before for path, before in journals.items())


def test_rows_in_the_pool_are_runs_of_their_own_that_are_retried_alone(
    running: Service, scheduled: str
) -> None:
    asked, row = two_rows(running, "pooled")
    run = running.create_run("sweep/weekly", {"config": asked | {"where": "pool"}})
    assert running.ended(run) == "Failed"
    where = {"deployments": {"id": {"any_": [running.deployment("sweep-row/pool")]}}}
    rows = {found["name"]: found for found in running.call("/flow_runs/filter", where)}
    states = {name: found["state"]["name"] for name, found in rows.items()}
    assert states == {"A": "Completed", "B": "Failed"}
    journals = {path: path.read_bytes() for path in running.home.glob("pooled/*/journal.jsonl")}
    assert len(journals) == 1
    (row / "run.json").unlink()
    assert running.quickdraw("rerun", rows["B"]["id"], "--watch").returncode == 0
    assert running.quickdraw("rerun", run, "--watch").returncode == 0
    assert len(running.call("/flow_runs/filter", where)) == 2  # what is done is not started again
    assert all(path.read_bytes() == before for path, before in journals.items())
    swept = json.loads((running.home / "pooled" / "sweep.json").read_text())
    assert [bool(row["scores"]) for row in swept["rows"]] == [True, True]


HOLD = (
    "import sys; from flows.gpus import slots_taken\n"
    "with slots_taken(1):\n"
    "    print('taken', flush=True)\n"
    "    sys.stdin.readline()\n"
)


@contextmanager
def holder(running: Service) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that wants a slot of the limit `gpu`, says when it has it, and keeps it until it
    reads a line.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment, home = running.environment(), running.home
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, env=environment, cwd=home, **pipes) as it:
        try:
            yield it
        finally:
            it.kill()


def has_slot(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether it comes to hold a slot within so long."""
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], seconds)[0])


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_who_waits_for_a_gpu_gets_it_when_its_holder_ends_or_dies(
    running: Service, killed: bool
) -> None:
    with holder(running) as first:
        assert has_slot(first, 60)
        with holder(running) as second:
            assert not has_slot(second, 10)
            if killed:
                first.kill()
            else:
                first.communicate(b"\n")
            # A lease of a minute runs out, and is looked for twice a minute.
            assert has_slot(second, LEASE_SECONDS * 3 if killed else 40)


@pytest.mark.soak
def test_a_run_whose_worker_died_with_it_is_marked_as_crashed_and_can_be_rerun(
    running: Service, undisturbed: Curves
) -> None:
    run = running.create_run("pipeline/demo", pipeline("orphaned"))
    folder = in_training(running, "orphaned")
    flow = running.pid(run)
    running.kill_worker()
    os.kill(flow, signal.SIGKILL)
    no_ranks(folder)
    assert running.state(run) == "Running"
    assert running.ended(run, seconds=HEARTBEAT_SECONDS * 8) == "Crashed"
    running.start_worker()
    assert running.quickdraw("rerun", run, "--watch").returncode == 0
    require_as_undisturbed(running, "orphaned", undisturbed)
