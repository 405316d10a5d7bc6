"""A Slurm of two nodes on this machine, as processes of a test's own: munged, slurmctld and a
slurmd for each node, with a configuration, ports and a key of their own.

Nothing of the system is touched. Each process is ended by the id that is held here. Memory and
processor time of jobs are not limited, and both nodes have this machine's files and loopback.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from service import end, until

from quickdraw_core.launching.rendezvous import free_port

NODES = ("n1", "n2")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
_CONFIGURATION = """\
ClusterName=quickdraw
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=20
SchedulerParameters=batch_sched_delay=0,sched_interval=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
"""


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs. folder: of its configuration and logs, and where jobs begin."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """Variables of the commands, which jobs get as well."""
        left = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        return left | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *words: object) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            [*map(str, words)],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, script: Path, *words: object, options: tuple[str, ...] = ()) -> str:
        """Submits a batch script with its arguments; the job's id. Its output is `output`."""
        log = f"--output={self.folder}/%j.out"
        return self.call("sbatch", "--parsable", log, *options, script, *words)

    def output(self, job: str) -> str:
        """What a job has printed up to now."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.exists() else ""

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, …"""
        shown = self.call("scontrol", "show", "job", "--oneliner", job)
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)["JobState"]

    def ended(self, job: str, seconds: float = 300) -> str:
        """Waits for a job's end; its state."""
        done = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        until(lambda: self.state(job) in done, seconds, f"the end of job {job}")
        return self.state(job)

    def processes(self, job: str) -> list[int]:
        """Ids of all processes that have a job's variables, on any node."""
        ids, mark = [], f"SLURM_JOB_ID={job}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    ids.append(int(folder.name))
        return sorted(ids)


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Slurm]:
    """A Slurm of two nodes, for the length of the block. Skips the test where it cannot be had."""
    missing = [name for name in _PROGRAMS if _program(name) is None]
    if missing:
        pytest.skip(f"Slurm needs {missing[0]} (packages slurm-wlm, slurmd, slurmctld, munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root to start the processes of jobs")
    cluster = Slurm(folder)
    (folder / "slurm.conf").write_text(_configuration(folder))
    (folder / "state").mkdir()
    with ExitStack() as running:
        _start_munge(folder, running)
        _start(folder, running, "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        for name in NODES:
            (folder / f"spool-{name}").mkdir()
            _start(folder, running, "slurmd", "-D", "-N", name, "-f", str(folder / "slurm.conf"))
        until(lambda: _idle(cluster) == len(NODES), 120, "the nodes of Slurm")
        try:
            yield cluster
        finally:
            for job in _unless_it_fails(cluster, "squeue", "--noheader", "--format=%A").split():
                _unless_it_fails(cluster, "scancel", job)
                _wait_until_gone(cluster, job)


def _configuration(folder: Path) -> str:
    host = socket.gethostname()
    lines = _CONFIGURATION.format(host=host, port=free_port(), user="root", folder=folder)
    for name in NODES:
        where = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()}"
        lines += f"NodeName={name} {where} CPUs=2\n"
    return lines + f"PartitionName=main Nodes={','.join(NODES)} Default=YES State=UP\n"


def _start_munge(folder: Path, running: ExitStack) -> None:
    """Munge, by which Slurm's daemons trust each other. It wants folders that nobody else may
    write to, from the root on; so its key and log are in one beside the machine's other ones.
    """
    key, sock = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    files = [f"--key-file={key}", f"--socket={sock}", f"--seed-file={folder}/munge.seed"]
    files += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log"]
    _start(folder, running, "munged", "--foreground", "--force", *files)
    until(sock.exists, 60, "munge's socket")


def _start(folder: Path, running: ExitStack, name: str, *words: str) -> None:
    with (folder / f"{name}.started").open("ab") as log:
        process = subprocess.Popen(
            [str(_program(name)), *words],
            env=Slurm(folder).environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running.callback(end, process)


def _program(name: str) -> str | None:
    """The path of a program; daemons are where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _idle(cluster: Slurm) -> int:
    shown = _unless_it_fails(cluster, "sinfo", "--noheader", "--Node", "--format=%t")
    return shown.split().count("idle")


def _unless_it_fails(cluster: Slurm, *words: str) -> str:
    try:
        return cluster.call(*words)
    except AssertionError:  # the controller does not answer yet, or any more
        return ""


def _wait_until_gone(cluster: Slurm, job: str) -> None:
    deadline = time.monotonic() + 60
    while cluster.processes(job) and time.monotonic() < deadline:
        time.sleep(0.2)
    for left in cluster.processes(job):
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
