"""The documented batch scripts on a real Slurm of two nodes: trained to the end, cancelled,
requeued; ingest by Dask workers that srun starts.
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_tree import tree
from forkserver import real_python
from run_folder import curve_of, last_of, samples_of
from service import ROOT, until
from slurm import Slurm, slurm_cluster

from quickdraw_core.assignments import nested
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.train import train
from quickdraw_core.recipes import find_recipe
from quickdraw_core.storage.begun_by import BEGUN_BY_NAME
from quickdraw_core.store.store import Store

pytestmark = pytest.mark.services

TRAIN, INGEST = (ROOT / "infra" / "slurm" / f"{name}.sh" for name in ("train", "ingest"))
VALUES = {
    "epochs": 3,
    "image.side_px": 24,
    "global_batch_size": 32,
    "micro_batch_size": 16,
    "tracking.log_every_steps": 1,
    "validation.every_steps": 20,
    "checkpoints.every_steps": 4,
    "tracking.record_samples": True,
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """The cluster, on which `quickdraw` and `dask` are what is tested here."""
    programs = str(Path(real_python()).parent)
    with (
        pytest.MonkeyPatch.context() as patch,
        slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster,
    ):
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield cluster


def submit_training(slurm: Slurm, store: Store, run_dir: Path, *more: str) -> str:
    options = ["--store", store.path, "--run-dir", run_dir, "--recipe", "demo", "--nproc", "1"]
    options += ["--tracking-uri", "none", *more]
    for name, value in VALUES.items():
        options += ["--set", f"{name}={str(value).lower()}"]
    return slurm.submit(TRAIN, *options, options=("--cpus-per-task=1",))


def steps(run_dir: Path) -> int:
    path = run_dir / "journal.jsonl"
    return path.read_bytes().count(b'"train/loss"') if path.exists() else 0


@pytest.fixture(scope="module")
def one_host(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training of two ranks on one host, which nothing disturbs."""
    run_dir = tmp_path_factory.mktemp("one")
    values = {**VALUES, "store": store.path, "run_dir": run_dir, "tracking.uri": "none"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # more round otherwise
        train(find_recipe("demo").updated(nested({**values, "hardware.ranks": 2})))
    return run_dir


def assert_same_run(run_dir: Path, one_host: Path) -> None:
    assert curve_of(run_dir) == curve_of(one_host)
    assert samples_of(run_dir) == samples_of(one_host)
    assert last_of(run_dir).weights_sha256 == last_of(one_host).weights_sha256


def test_a_job_of_two_nodes_trains_to_the_end_also_after_it_was_requeued(
    slurm: Slurm, store: Store, one_host: Path, tmp_path: Path
) -> None:
    """The losses, samples and weights of one host, bit for bit."""
    run_dir = tmp_path / "run"
    job = submit_training(slurm, store, run_dir, "--fresh")
    until(lambda: steps(run_dir) >= 6, 200, "steps", every=0.05)
    slurm.call("scontrol", "requeue", job)
    until(lambda: slurm.state(job) == "PENDING", 60, "the requeued job")
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")  # not in two minutes
    assert slurm.ended(job) == "COMPLETED", slurm.output(job)
    assert "going on from step" in slurm.output(job)
    assert slurm.output(job).count("\nmodel ") == 1  # the second node says nothing twice
    assert_same_run(run_dir, one_host)


def test_scancel_leaves_no_process_and_the_next_job_goes_on(
    slurm: Slurm, store: Store, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    job = submit_training(slurm, store, run_dir, "--set", "epochs=1000")
    until(lambda: steps(run_dir) >= 6, 200, "steps", every=0.05)
    assert len(slurm.processes(job)) >= 6  # command, launcher and rank, twice
    slurm.call("scancel", job)
    until(lambda: not slurm.processes(job), 60, "the end of all processes")
    assert slurm.ended(job) == "CANCELLED"
    assert "stopped; the same command goes on from here" in slurm.output(job)
    assert "Traceback" not in slurm.output(job)


def test_what_srun_and_the_options_say_must_agree(
    slurm: Slurm, store: Store, tmp_path: Path
) -> None:
    job = submit_training(slurm, store, tmp_path / "run", "--nnodes", "3")
    assert slurm.ended(job) == "FAILED"
    # The second one may have been killed since.
    assert re.search(r"--nnodes is 3, and this is host [01] of 2 by srun", slurm.output(job))
    assert not (tmp_path / "run").exists()


def test_nobody_waits_for_a_node_whose_command_failed_before_they_met(
    slurm: Slurm, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `--kill-on-bad-exit` the other one would, for ten minutes."""
    program = tmp_path / "quickdraw"
    program.write_text(
        f'#!/bin/sh\n[ "$SLURM_NODEID" = 1 ] && exit 3\nexec {shutil.which("quickdraw")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = submit_training(slurm, store, tmp_path / "run")
    assert slurm.ended(job, 100) == "FAILED"
    until(lambda: not slurm.processes(job), 60, "the end of all processes")


def test_dask_workers_started_by_srun_ingest_what_is_ingested_here(
    slurm: Slurm, csv_folder: Path, tmp_path: Path
) -> None:
    job = slurm.submit(
        INGEST, csv_folder, "--store", tmp_path / "store", options=("--cpus-per-task=1",)
    )
    assert slurm.ended(job) == "COMPLETED", slurm.output(job)
    assert not slurm.processes(job)
    assert not list(slurm.folder.glob(".dask-*"))  # the key is gone
    ingest(IngestConfig.parse({"source": csv_folder, "store": tmp_path / "here"}))
    made = tree(tmp_path / "store")
    del made[BEGUN_BY_NAME]  # for the job's next start, if it is requeued
    assert made == tree(tmp_path / "here")


@pytest.mark.soak
@pytest.mark.parametrize("victim", [0, 1])
def test_a_node_whose_command_is_killed_ends_the_job_and_the_next_one_goes_on(
    slurm: Slurm, store: Store, one_host: Path, tmp_path: Path, victim: int
) -> None:
    run_dir = tmp_path / "run"
    timeout = ("--set", "hardware.timeout_seconds=20")
    job = submit_training(slurm, store, run_dir, *timeout, "--set", "hosts.wait_seconds=20")
    until(lambda: steps(run_dir) >= 6, 200, "steps", every=0.05)
    os.kill(command_of(slurm, job, victim), signal.SIGKILL)
    assert slurm.ended(job) == "FAILED"
    until(lambda: not slurm.processes(job), 60, "the end of all processes")
    again = submit_training(slurm, store, run_dir)
    assert slurm.ended(again) == "COMPLETED", slurm.output(again)
    assert_same_run(run_dir, one_host)


def command_of(slurm: Slurm, job: str, node: int) -> int:
    """The process of `quickdraw` on a node."""
    for number in slurm.processes(job):
        variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        is_there = {f"SLURM_NODEID={node}".encode(), b"SLURM_STEP_ID=0"} <= {*variables}
        if is_there and any(word.endswith(b"bin/quickdraw") for word in words):
            return number
    raise AssertionError(f"no command on node {node}")
