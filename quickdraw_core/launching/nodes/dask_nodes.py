"""A training's nodes on the workers of a Dask cluster: chosen, checked, started and followed.

Here is what leads the training: it prepares the run folder, delivers to MLflow and makes the
result. On each worker `node.py` runs as a sub-process.
"""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from quickdraw_core.cluster.config import GPU
from quickdraw_core.cluster.connect import connected
from quickdraw_core.cluster.shared_folder import check_shared
from quickdraw_core.cluster.worker_process import WorkerProcess, worker_processes
from quickdraw_core.cluster.workers import (
    Survey,
    Worker,
    ask,
    names_of,
    require_answer,
    wait_for,
)
from quickdraw_core.errors import ClusterError, ConfigError
from quickdraw_core.launching.gpus import VISIBLE
from quickdraw_core.launching.nodes.attempt import read_attempt, write_attempt
from quickdraw_core.launching.nodes.node import Job, digest_of
from quickdraw_core.launching.processes import Launched, RunContext
from quickdraw_core.launching.rank_failure import ERRORS_NAME
from quickdraw_core.launching.rendezvous import free_port
from quickdraw_core.progress import progress
from quickdraw_core.system.threads import NUM_THREADS
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

_LOOK_AGAIN_SECONDS = 5.0
"""How long to wait for workers that are just being started, or started again."""
_BEGIN_SECONDS = 60.0
_ECHO_SECONDS = 8.0
"""How long to wait, when a node has failed, for the other nodes' ends: of a worker that is lost
its peers only say that a connection was closed."""
_PASSED_ON = ("NCCL_", "GLOO_", "TORCH_")
"""Variables that nodes get from here if they have none of that name: those of what the ranks talk
by. And `OMP_NUM_THREADS`."""
_OF_EACH_HOST = "_SOCKET_IFNAME"
"""Its network's interface, which may be called otherwise on another."""


@dataclass(frozen=True)
class DaskNodes:
    """Workers on which a training's nodes are started. resources: that each node takes."""

    client: Any
    workers: tuple[Worker, ...]
    resources: Mapping[str, float]

    @contextmanager
    def launched(
        self, run: RunFolder, step: int, environment: Mapping[str, str], log: BinaryIO
    ) -> Iterator[Launched]:
        """A block with as many nodes as a run has, which go on from a step and print to a log."""
        workers = self.workers[: run.config.hosts.nodes]
        hosts, device = [worker.host for worker in workers], run.config.hardware.device
        attempt = secrets.token_hex(8)
        shutil.rmtree(run.path / ERRORS_NAME, ignore_errors=True)  # of all nodes
        jobs = self._jobs(run, step, attempt, workers)
        commands = [(worker, job.words()) for worker, job in zip(workers, jobs, strict=True)]
        passed = dict(environment)
        passed.pop(VISIBLE, None)  # which GPUs this host has
        write_attempt(run.path, attempt, hosts, device)
        try:
            with worker_processes(self.client, commands, passed, self.resources) as processes:
                try:
                    yield _Nodes(processes, log)
                finally:
                    # Before they are waited for: a scheduler that hangs passes nothing on to them.
                    write_attempt(run.path, "", hosts, device)
        finally:
            write_attempt(run.path, "", hosts, device)  # also of one that could not begin

    def names(self, count: int) -> str:
        """The hosts of the first so many workers, for messages."""
        return names_of(self.workers[:count])

    def _jobs(
        self, run: RunFolder, step: int, attempt: str, workers: Sequence[Worker]
    ) -> list[Job]:
        job = Job(
            run=str(run.path),
            store=str(run.config.store.absolute()),
            also=str(run.config.select.absolute().also or ""),
            node_rank=0,
            attempt=attempt,
            run_sha256=digest_of(run.path),
            step=step,
            defaults=_passed_on(os.environ),
        )
        if len(workers) == 1:
            return [job]
        first, second, *_ = workers
        answers = ask(self.client, [first.address], free_port)
        port = require_answer(first, answers.get(first.address))
        host = f"[{first.host}]" if ":" in first.host else first.host
        job = replace(job, endpoint=f"{host}:{port}")
        peers = [second.host] + [first.host] * (len(workers) - 1)
        return [replace(job, node_rank=rank, peer=peer) for rank, peer in enumerate(peers)]


class _Nodes:
    """The nodes of one attempt, as one process: it has ended when all have."""

    def __init__(self, processes: Sequence[WorkerProcess], log: BinaryIO) -> None:
        self._processes, self._log = processes, log
        self._begun, self._failed_at = time.monotonic(), 0.0

    def poll(self) -> int | None:
        """The exit code; None if they are at work. Raises `ClusterError` if one is lost."""
        codes = [
            process.poll(partial(self._write, rank))
            for rank, process in enumerate(self._processes)
        ]
        now = time.monotonic()
        failed = next((code for code in codes if code), 0)
        if failed and not self._failed_at:
            self._failed_at = now
        if None not in codes or (failed and now - self._failed_at > _ECHO_SECONDS):
            return failed
        if any(process.host is None for process in self._processes):
            self._check_begun(now)
        return None

    def _check_begun(self, now: float) -> None:
        if now - self._begun > _BEGIN_SECONDS:
            raise ClusterError(
                f"a Dask worker has not begun its part for {_BEGIN_SECONDS:.0f} s: it is busy "
                "with other work; run again to go on"
            )

    def _write(self, rank: int, lines: list[str]) -> None:
        """Appends what a node printed to the log."""
        prefix = f"host {rank}: " if len(self._processes) > 1 else ""
        self._log.write("".join(f"{prefix}{line}\n" for line in lines).encode())
        self._log.flush()


@contextmanager
def nodes_of(
    config: TrainConfig, path: Path, context: RunContext, shared: bool = True
) -> Iterator[tuple[TrainConfig, RunContext]]:
    """A block with the workers of the Dask cluster that a training names: its configuration and
    context on them. Both as they are if it names none.

    path: the run folder. shared: it is there, and is checked to be the same one on all workers.
    Raises `ConfigError` if the cluster cannot be reached, has too few hosts that can do it, or
    does not share the folder; `ClusterError` if its hosts are busy for too long.
    """
    hosts = config.hosts
    if hosts.dask is None:
        yield config, context
        return
    with connected(hosts.dask, hosts.tls, "hosts.tls") as client:
        # An attempt that ended before its first checkpoint has nothing to go on with.
        goes_on = not config.fresh and find_checkpoint(path, "last") is not None
        before = read_attempt(path) if goes_on else None
        device = _device_of(client, config, before)
        resources = {GPU: float(config.hardware.ranks)} if device == "cuda" else {}
        resources |= hosts.resources
        workers = _choose(client, config, resources, goes_on, context.stopping)
        if shared:
            remedy = "give a --run-dir that this host and all workers share"
            check_shared(client, workers, path, remedy)
        changes = {"hosts": {"nodes": len(workers)}, "hardware": {"device": device}}
        nodes = DaskNodes(client, tuple(workers), resources)
        yield config.updated(changes), replace(context, nodes=nodes)


def _device_of(client: Any, config: TrainConfig, before: Mapping[str, Any] | None) -> str:
    """What `auto` means: the GPUs if a worker offers enough for all ranks of a host, and for a
    run that goes on what it had before. All hosts are to have the same.
    """
    hardware = config.hardware
    if hardware.device != "auto":
        return hardware.device
    if before is not None:
        return str(before["device"])
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    has_gpus = any(worker["resources"].get(GPU, 0) >= hardware.ranks for worker in workers)
    return "cuda" if has_gpus else "cpu"


def _choose(
    client: Any,
    config: TrainConfig,
    resources: Mapping[str, float],
    goes_on: bool,
    stopping: threading.Event | None,
) -> list[Worker]:
    """A worker of each host that is to train. A run with a checkpoint goes on with fewer if there
    are no more, down to `hosts.min_nodes`.
    """
    hosts = config.hosts
    counts = [n for n in range(hosts.nodes, 0, -1) if _is_shared_out(config, n)]
    fewest = hosts.min_nodes if goes_on else hosts.nodes

    def usable(number: int) -> int:
        return next((n for n in counts if fewest <= n <= number), 0)

    def is_enough(found: Survey, waited: float) -> bool:
        if len(found.free) >= hosts.nodes:
            return True
        if waited < _LOOK_AGAIN_SECONDS:
            return False
        return bool(
            usable(len(found.free)) or not usable(found.hosts) or waited > hosts.wait_seconds
        )

    def pause(seconds: float) -> None:
        bar.note(f"waiting for {hosts.nodes} hosts of the Dask cluster")
        if (stopping or threading.Event()).wait(seconds):
            raise KeyboardInterrupt

    with progress("train", None, "") as bar:
        found = wait_for(client, resources, is_enough, pause)
    number = usable(len(found.free))
    if number:
        return found.free[:number]
    raise _too_few(config, found, fewest, resources)


def _is_shared_out(config: TrainConfig, nodes: int) -> bool:
    return config.shape.micro_batches % (config.hardware.ranks * nodes) == 0


def _too_few(
    config: TrainConfig, found: Survey, fewest: int, resources: Mapping[str, float]
) -> ConfigError | ClusterError:
    hosts = config.hosts
    has = f"the Dask cluster at {hosts.dask} has {found.hosts or 'none'} that can train"
    if found.busy and found.hosts >= fewest:
        return ClusterError(
            f"{fewest} hosts are needed, and {len(found.busy)} of {found.hosts} at {hosts.dask} "
            f"were busy for {hosts.wait_seconds} s (hosts.wait_seconds); run again later"
        )
    why = f" ({found.unfit_text()})" if found.unfit else ""
    remedy = "start more workers, or give a smaller --nnodes"
    if any(GPU in reason for reason in found.unfit.values()):
        amount = f"{resources[GPU]:g}"
        remedy = f"start workers with --resources GPU={amount}, or --set hardware.device=cpu"
    return found.error(
        f"{fewest} host{'s are' if fewest > 1 else ' is'} needed, and {has}{why}; {remedy}"
    )


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if (name == NUM_THREADS or name.startswith(_PASSED_ON))
        and not name.endswith(_OF_EACH_HOST)
    }
