"""Number, rank and rendezvous of hosts, from environments that real launchers make."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sweeps import TINY, table_file
from trainings import train_config

from quickdraw_core import stage
from quickdraw_core.audit.audit import AUDIT_STAGE
from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.cluster.environment import (
    Launched,
    find_launched,
    first_name,
    slurm_address,
)
from quickdraw_core.commands import auditing, data, jobs, sweeps
from quickdraw_core.commands.launched import launched_train_config, started_once
from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.target import open_target
from quickdraw_core.launching.gpus import lock_name, uuids_in
from quickdraw_core.launching.torch_launcher import launcher_environment
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.training.run_folder import RunFolder

# `srun env` in a job of `sbatch --nodes 2 --ntasks-per-node 1`, Slurm 22.05: of the second task.
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "2",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
    "SLURM_LOCALID": "0",
}
STEP = JOB | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_LAUNCH_NODE_IPADDR": "192.0.2.7",
    "SLURM_PROCID": "1",
    "SLURM_NODEID": "1",
}
SHELL = JOB | {  # of `salloc --nodes 2` with use_interactive_step, and of `srun --pty bash`
    "SLURM_STEP_ID": "4294967290",
    "SLURM_STEP_NODELIST": "n1",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_PTY_PORT": "34889",
}
TRAINER = {  # Kubeflow Trainer, kind TrainJob
    "PET_NNODES": "3",
    "PET_NPROC_PER_NODE": "4",
    "PET_NODE_RANK": "2",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29400",
}
PYTORCH_JOB = {  # Kubeflow's Training Operator, kind PyTorchJob
    "MASTER_ADDR": "job-master-0",
    "MASTER_PORT": "23456",
    "WORLD_SIZE": "2",
    "RANK": "1",
    "PYTHONUNBUFFERED": "0",
}
TORCHRUN = {  # torchrun --nnodes 2 --nproc-per-node 1, torch 2.14
    "RANK": "1",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "1",
    "ROLE_RANK": "1",
    "ROLE_NAME": "default",
    "LOCAL_WORLD_SIZE": "1",
    "WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
    "ROLE_WORLD_SIZE": "2",
    "MASTER_ADDR": "alpha",
    "MASTER_PORT": "40123",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_MAX_RESTARTS": "0",
    "TORCHELASTIC_RUN_ID": "x",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}

ENVIRONMENTS: dict[str, tuple[dict[str, str], Launched]] = {
    "none": ({}, Launched("")),
    "a shell with one variable": ({"WORLD_SIZE": "2"}, Launched("")),
    "srun": (STEP, Launched("srun", 2, 1, "10.0.0.1:0")),
    "srun, where the user says": (
        STEP | {"MASTER_ADDR": "alpha-ib", "MASTER_PORT": "6000"},
        Launched("srun", 2, 1, "alpha-ib:6000"),
    ),
    "srun, a node with an address of version 6": (
        STEP | {"MASTER_ADDR": "fd00::1"},
        Launched("srun", 2, 1, "[fd00::1]:0"),
    ),
    "srun, requeued": (
        STEP | {"SLURM_RESTART_COUNT": "1"},
        Launched("srun", 2, 1, "10.0.0.1:0", is_restart=True),
    ),
    "srun, one task of the job's nodes": (
        STEP | {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NODEID": "0"},
        Launched("srun"),
    ),
    "a batch script": (JOB, Launched("Slurm", alone_of=2)),
    "a batch script of one node, requeued": (
        JOB | {"SLURM_JOB_NUM_NODES": "1", "SLURM_RESTART_COUNT": "2"},
        Launched("Slurm", is_restart=True),
    ),
    "an interactive shell": (SHELL, Launched("Slurm", alone_of=2)),
    "torchrun": (TORCHRUN, Launched("torchrun", 2, 1, "alpha:0")),
    "torchrun, of one": (
        TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"},
        Launched("torchrun", 1, 0, "alpha:0"),
    ),
    "torchrun, restarted": (
        TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"},
        Launched("torchrun", 2, 1, "alpha:0", is_restart=True),
    ),
    "torchrun by srun": (STEP | TORCHRUN, Launched("torchrun", 2, 1, "alpha:0")),
    "Trainer": (TRAINER, Launched("PET_NNODES", 3, 2, "job-node-0-0.job:29400", ranks=4)),
    "Trainer, a fixed range": (
        TRAINER | {"PET_NNODES": "3:3"},
        Launched("PET_NNODES", 3, 2, "job-node-0-0.job:29400", ranks=4),
    ),
    "Trainer, as many processes as fit": (
        TRAINER | {"PET_NPROC_PER_NODE": "auto"},
        Launched("PET_NNODES", 3, 2, "job-node-0-0.job:29400"),
    ),
    "Trainer's variables, set by hand beside torch's": (
        {"PET_NNODES": "2", "PET_NODE_RANK": "1", "MASTER_ADDR": "m", "MASTER_PORT": "7000"},
        Launched("PET_NNODES", 2, 1, "m:7000"),
    ),
    "one process a host, as torch numbers them": (
        PYTORCH_JOB | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        Launched("RANK and WORLD_SIZE", 2, 1, "job-master-0:23456"),
    ),
    "PyTorchJob": (PYTORCH_JOB, Launched("RANK and WORLD_SIZE", 2, 1, "job-master-0:23456")),
}

REFUSED = {
    "srun starts this command 4 times on a host, .* (--nproc 4); give it --ntasks-per-node=1": (
        STEP | {"SLURM_STEP_NUM_TASKS": "8"}
    ),
    "srun starts this command 2 times": (
        STEP | {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "2"}
    ),
    "torchrun starts this command 4 times on a host, .*; give it --nproc-per-node 1": (
        TORCHRUN | {"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
    ),
    "what set RANK starts this command 3 times": PYTORCH_JOB | {"LOCAL_RANK": "2"},
    "WORLD_SIZE is 8 and LOCAL_RANK is set, .* once a host with LOCAL_WORLD_SIZE=1": (
        PYTORCH_JOB | {"WORLD_SIZE": "8", "RANK": "0", "LOCAL_RANK": "0"}
    ),
    "PET_NNODES is 1:4, and a training has a fixed number": TRAINER | {"PET_NNODES": "1:4"},
    "PET_NNODES is 3, and no PET_NODE_RANK says": {"PET_NNODES": "3"},
    "PET_NNODES is 'two' in the environment, and must be a number": {"PET_NNODES": "two"},
    "RANK is '-1' in the environment": PYTORCH_JOB | {"RANK": "-1"},
}


def launched_of(environment: Mapping[str, str]) -> Launched:
    return find_launched(environment, {"n1": "10.0.0.1"}.__getitem__)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_launcher_says_which_host_this_is(name: str) -> None:
    environment, expected = ENVIRONMENTS[name]
    assert launched_of(environment) == expected


def test_what_is_typed_in_a_shell_on_one_of_two_nodes_does_not_wait_for_the_other() -> None:
    shell = STEP | {"SLURM_PTY_PORT": "39567", "SLURM_NODEID": "0", "SLURM_PROCID": "0"}
    assert find_launched(shell, str, is_typed=True) == Launched("Slurm", alone_of=2)
    assert find_launched(shell, str, is_typed=False).nodes == 2  # by srun, which inherits it
    assert find_launched(STEP, str, is_typed=True).nodes == 2


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(message: str) -> None:
    pattern = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ConfigError, match=pattern) as refused:
        launched_of(REFUSED[message])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-2]", "n1"),
        ("gpu[08-11,20],login", "gpu08"),
        ("login,gpu[08-11]", "login"),
        ("rack[2,4]node[001-016]", "rack2node001"),
        ("a-b.example.org", "a-b.example.org"),
        ("", ""),
    ],
)
def test_the_first_node_of_a_list(nodes: str, first: str) -> None:
    assert first_name(nodes) == first


def test_without_scontrol_a_node_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert slurm_address("n1") == "n1"


# Beside what the user gives


def config_in(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], **options: Any
) -> Any:
    """What `quickdraw train` makes of an environment and options."""
    changes = options.pop("changes", [])
    values = {"recipe": "demo", "store": "store", "ranks": None, **options}
    with monkeypatch.context() as patch:
        patch.setattr("quickdraw_core.commands.launched.slurm_address", "at-{}".format)
        for name, value in environment.items():
            patch.setenv(name, value)
        return launched_train_config(values, changes)[0]


def test_srun_alone_is_the_whole_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = config_in(monkeypatch, STEP, ranks=1).hosts
    assert (hosts.nodes, hosts.node_rank, hosts.rendezvous) == (2, 1, "at-n1:0")


def test_what_is_given_wins_and_a_contradiction_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = {"ranks": 1, "nnodes": 2, "rendezvous": "beta:7000"}
    hosts = config_in(monkeypatch, STEP, **more, changes=["hosts.wait_seconds=5"]).hosts
    assert (hosts.nodes, hosts.node_rank, hosts.rendezvous) == (2, 1, "beta:7000")
    assert hosts.wait_seconds == 5
    small = {"changes": ["global_batch_size=384", "micro_batch_size=32"]}
    assert config_in(monkeypatch, TRAINER, **small).hardware.ranks == 4
    assert config_in(monkeypatch, TRAINER, ranks=2, **small).hardware.ranks == 2
    for options, message in (
        ({"nnodes": 3}, "--nnodes is 3, and this is host 1 of 2 by srun; leave --nnodes out"),
        ({"nnodes": 1}, "--nnodes is 1, and this is host 1 of 2 by srun"),
        ({"node_rank": 0}, "--node-rank is 0, and this is host 1 of 2 by srun"),
        ({"changes": ["hosts.nodes=4"]}, "--nnodes is 4, and this is host 1 of 2 by srun"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_in(monkeypatch, STEP, ranks=1, **options)
    once = "--dask starts the hosts itself, and this is host 1 of 2 by srun; give the command once"
    for options in ({"dask": "tcp://a:1"}, {"changes": ["hosts.dask=tcp://a:1"]}):
        with pytest.raises(ConfigError, match=once):
            config_in(monkeypatch, STEP, ranks=1, **options)
    with pytest.raises(ConfigError, match=r"shared out .*\(8 hosts by RANK and WORLD_SIZE\)"):
        config_in(monkeypatch, PYTORCH_JOB | {"WORLD_SIZE": "8"}, changes=["hardware.ranks=7"])
    with pytest.raises(ConfigError, match="nothing says where host 0 is; set MASTER_ADDR"):
        config_in(monkeypatch, {"RANK": "0", "WORLD_SIZE": "2"})
    by_hand = {"nnodes": 2, "node_rank": 1, "rendezvous": "alpha:29400"}  # without srun
    assert config_in(monkeypatch, JOB, ranks=1, **by_hand).hosts.node_rank == 1


def test_without_srun_a_job_trains_on_one_node_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config_in(monkeypatch, SHELL).hosts.nodes == 1
    said = capsys.readouterr().err
    assert said == (
        "note: this job has 2 nodes, and this training one of them; `srun quickdraw train …` "
        "has all of them\n"
    )
    config_in(monkeypatch, JOB | {"SLURM_JOB_NUM_NODES": "1"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("begun_by", "is_fresh"),
    [("slurm  7", False), ("slurm  6", True), ("", True), (None, True)],
    ids=["this job", "an earlier job", "no job", "nobody"],
)
def test_fresh_is_over_once_the_job_has_begun_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, begun_by: str | None, is_fresh: bool
) -> None:
    """A first start that died earlier leaves an older run there, which may be finished."""
    if begun_by is not None:
        config = train_config({"store": "store", "run_dir": tmp_path})
        RunFolder(tmp_path, config, "fingerprint", "key", begun_by=begun_by).write()
    options = {"fresh": True, "run_dir": tmp_path}
    assert config_in(monkeypatch, JOB, **options).fresh
    requeued = JOB | {"SLURM_RESTART_COUNT": "1"}
    assert config_in(monkeypatch, requeued, **options).fresh == is_fresh


def test_a_pipeline_that_is_requeued_goes_on_with_what_its_job_has_begun_of_each_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, run_dir = tmp_path / "store", tmp_path / "run"
    begun: list[Any] = []
    monkeypatch.setattr(jobs, "_run_job", lambda job, prefect: begun.append(job))

    def fresh_after(**environment: str) -> tuple[bool, bool]:
        with monkeypatch.context() as patch:
            for name, value in (JOB | environment).items():
                patch.setenv(name, value)
            jobs.pipeline([str(tmp_path)], store, run_dir=run_dir, recipe="demo", fresh=True)
            job = begun.pop()
            return job.ingest.fresh, job.train.fresh

    requeued = {"SLURM_RESTART_COUNT": "1"}
    assert fresh_after(**requeued) == (True, True)  # it ended before it had begun anything
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    ingest = IngestConfig.parse({"source": tmp_path, "store": store, "fresh": True})
    open_target(ingest)
    assert fresh_after(**requeued) == (False, True)
    config = train_config({"store": store, "run_dir": run_dir})
    RunFolder(run_dir, config, "fingerprint", "key", begun_by="slurm  7").write()
    assert fresh_after(**requeued) == (False, False)
    assert fresh_after() == (True, True)
    assert fresh_after(**requeued, SLURM_JOB_ID="8") == (True, True)
    monkeypatch.delenv("SLURM_JOB_ID")
    open_target(ingest)  # by nobody who would start it again
    assert fresh_after(**requeued) == (True, False)


def test_a_pipeline_that_is_requeued_does_no_stage_anew_that_its_job_has_begun_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, run_dir = tmp_path / "store", tmp_path / "run"
    begun: list[Any] = []
    monkeypatch.setattr(jobs, "_run_job", lambda job, prefect: begun.append(job))

    def redone(stage: str, **environment: str) -> str:
        with monkeypatch.context() as patch:
            for name, value in (JOB | environment).items():
                patch.setenv(name, value)
            jobs.pipeline([str(tmp_path)], store, run_dir=run_dir, recipe="demo", redo_from=stage)
        job = begun.pop()
        assert not job.ingest.fresh
        assert not job.train.fresh
        return str(job.redo_from)

    requeued = {"SLURM_RESTART_COUNT": "1"}
    assert redone("ingest", **requeued) == "ingest"  # it ended before it had begun anything
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")
        open_target(IngestConfig.parse({"source": tmp_path, "store": store}))  # a new store
    assert [redone(stage, **requeued) for stage in ("ingest", "train")] == ["pack", "train"]
    config = train_config({"store": store, "run_dir": run_dir})
    RunFolder(run_dir, config, "fingerprint", "key", begun_by="slurm  7").write()
    for name in ("ingest", "pack", "train", "evaluate"):
        assert redone(name, **requeued) == "evaluate"
        assert redone(name) == redone(name, **requeued, SLURM_JOB_ID="8") == name


@pytest.mark.parametrize("where", ["folder", "gone"])
def test_an_ingest_that_is_requeued_makes_its_new_store_once(
    monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path, where: str
) -> None:
    target = tmp_path / "store"
    if where == "folder":
        shutil.copytree(store.path, target, ignore=shutil.ignore_patterns("pack"))
    begun: list[IngestConfig] = []
    monkeypatch.setattr(data, "run_stage", lambda stage, config, prefect: begun.append(config))
    monkeypatch.setattr(data, "ingest_facts", lambda result: {})

    def is_fresh(restarts: int) -> bool:
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        data.ingest([str(tmp_path)], target, fresh=True)
        return begun.pop().fresh

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert is_fresh(0)
    assert is_fresh(1)  # it ended before it had begun
    open_target(IngestConfig.parse({"source": tmp_path, "store": target, "fresh": True}))
    assert not is_fresh(1)
    assert is_fresh(0)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert is_fresh(1)


def test_an_audit_that_is_requeued_is_started_over_once(
    monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path
) -> None:
    begun: list[AuditConfig] = []
    monkeypatch.setattr(stage, "perform", lambda stage, config, opened: begun.append(config))
    monkeypatch.setattr("quickdraw_core.audit.summary.audit_facts", lambda result, store: {})
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def asked(restarts: int) -> AuditConfig:
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        auditing.audit(store.path, out_dir=tmp_path / "audit", fresh=True)
        return begun.pop()

    assert asked(0).fresh
    assert asked(1).fresh  # it ended before it had begun
    with monkeypatch.context() as patch:
        patch.setattr("quickdraw_core.system.disk.free_bytes", lambda folder: 1_000)
        with pytest.raises(ConfigError, match="are needed"):  # as soon as it has begun
            AUDIT_STAGE.prepared(asked(1), Opened()).run()
    assert not asked(1).fresh
    assert asked(0).fresh
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert asked(1).fresh


def test_a_sweep_that_is_requeued_starts_its_rows_over_once(
    monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path
) -> None:
    table, begun = table_file(tmp_path, TINY), []
    monkeypatch.setattr(sweeps, "run", lambda start, *_: begun.append(start.__self__))
    monkeypatch.setattr(sweeps, "_show_swept", lambda _: None)

    def prepared(row: str, restarts: int) -> Any:
        variables = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            options: dict[str, Any] = {"fresh": True, "rows": [row], "tracking_uri": "none"}
            sweeps.sweep(table, store.path, run_dir=tmp_path / "s", per_class=20, **options)
            return begun.pop()

    first = prepared("Right", 0)
    assert first.config.fresh
    assert prepared("Right", 1).config.fresh  # the first start ended before it began
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")
        first.begin()
    assert not prepared("Right", 1).config.fresh
    second = prepared("Reciprocal", 1)  # another command of the same job
    assert second.config.fresh
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")
        second.begin()
    assert not prepared("Right", 1).config.fresh  # its first command is not started over again
    assert not prepared("Reciprocal", 1).config.fresh
    first.begin()  # by nobody who would start it again
    assert prepared("Right", 1).config.fresh
    assert not prepared("Reciprocal", 1).config.fresh


def test_what_works_on_one_host_is_not_started_on_two(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started_once("a sweep") == Launched("")
    for name, value in PYTORCH_JOB.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="a sweep does its work on one host, and this is host 1"):
        started_once("a sweep")


# What it leaves to the ranks


@pytest.mark.parametrize("environment", [TORCHRUN, TRAINER], ids=["torchrun", "Trainer"])
def test_the_ranks_of_a_host_see_nothing_of_the_launcher_around_them(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = launcher_environment(train_config({"store": "store"}))
    assert not {*environment} & {*seen}
    assert {"PATH", "OMP_NUM_THREADS"} <= {*seen}


@pytest.mark.parametrize(
    ("variables", "device", "name"),
    [
        ({}, "1", "1"),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, "3", "3"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a/b"}, "GPU-a/b", "GPU-a-b"),
        # The same GPU, whoever looks at it: its UUID, by those that the process may use.
        (STEP, "0", "GPU-c"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-c"}, "GPU-c", "GPU-c"),
        # Slurm's cgroups: this step's 0 and 1 are the host's 2 and 3.
        ({**STEP, "CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "2,3"}, "1", "3"),
        ({**JOB, "CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "5"}, "0", "5"),
        ({**STEP, "CUDA_VISIBLE_DEVICES": "0", "SLURM_STEP_GPUS": "2,3"}, "0", "0"),
        (JOB, "0", "0"),
    ],
)
def test_a_gpu_has_one_name_for_all_processes_of_a_host(
    variables: Mapping[str, str], device: str, name: str
) -> None:
    uuids = {"0": name} if name.startswith("GPU-c") else {}
    assert lock_name(device, variables, uuids) == name


def test_the_uuids_of_gpus_are_read_from_the_drivers_list() -> None:
    listed = (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5fd4-11)\n"
        "  MIG 1g.5gb Device 0: (UUID: MIG-aa-22)\n"
        "GPU 1: NVIDIA H100 (UUID: GPU-77-33)\n"
    )
    assert uuids_in(listed) == {"0": "GPU-5fd4-11", "1": "GPU-77-33"}
    assert uuids_in("No devices were found\n") == {}
