"""The ranks as processes: torch's launcher as a sub-process, followed to its end.

The launcher's own restarts stay off: with gloo they hang.
"""

import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from quickdraw_core import training
from quickdraw_core.errors import (
    DivergedError,
    OutOfMemoryError,
    TrainingError,
    WriteError,
)
from quickdraw_core.launching.rendezvous import interface_of
from quickdraw_core.progress import Bar, duration_text, progress
from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.system.threads import share_cores
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder

ERRORS_NAME = "errors"
_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 30
_ECHO_SECONDS = 5
"""How long the launcher may take to end once a rank of this host has failed. One that has lost
host 0 hangs in a call that no signal reaches."""
_RENDEZVOUS_SECONDS = 60
"""The least time-out of the launchers' rendezvous: they load torch and more first."""
_ERROR_LINE = re.compile(r"\w+(\.\w+)*(Error|Exception)\b.*")
_KINDS = {kind.__name__: kind for kind in (DivergedError, OutOfMemoryError)}
"""Errors of a rank that a training passes on as what they are, by the name of their class."""


@dataclass(frozen=True)
class RunContext:
    """What a training is given by who starts several of them. None of it decides the weights.

    environment: variables of the ranks, over those of this process: which GPUs they see. tags:
    further ones of the MLflow run. stopping: once it is set, the training ends as by Ctrl-C,
    which reaches the main thread alone.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    stopping: threading.Event | None = None


STANDALONE = RunContext()
"""Of a training that nobody runs beside others."""


@dataclass(frozen=True)
class Rendezvous:
    """Where the launchers of several hosts meet. attempt: an id that no other attempt has.
    address: of this host, in the network that it shares with the others.
    """

    attempt: str
    address: str


def run_ranks(
    run: RunFolder,
    plan: Plan,
    start: int,
    context: RunContext = STANDALONE,
    rendezvous: Rendezvous | None = None,
) -> None:
    """Starts this host's ranks, shows their progress from the journal, and waits for their end.

    rendezvous: with other hosts; none: this one trains alone.
    Raises `OutOfMemoryError` where a rank's memory did not suffice, `DivergedError` where the
    loss was no longer finite, `WriteError` where a rank could not write, `TrainingError` for the
    rest.
    """
    journal, log_path = run.path / JOURNAL_NAME, run.path / "log.txt"
    seen = journal.stat().st_size if journal.exists() else 0
    errors = run.path / ERRORS_NAME / f"node-{run.config.hosts.node_rank}"
    shutil.rmtree(errors, ignore_errors=True)  # of an attempt before this one
    begun_ns = time.time_ns()
    logged = log_path.stat().st_size if log_path.exists() else 0
    images = (plan.steps - start) * run.config.global_batch_size
    with (
        log_path.open("ab") as log,
        progress("train", images, "images") as bar,
        _process(
            _command(run, errors, rendezvous),
            environment_of(run.config, context.environment, rendezvous),
            log,
        ) as process,
    ):
        going_on = f", going on from step {start:,}" if start else ""
        bar.log(f"starting {run.config.hardware.ranks} processes{going_on}")
        steps = _Steps(bar, run.config.global_batch_size, start, plan.steps)
        told, failed_at = logged, None
        while True:
            code = process.poll()
            told = _tell_lines(log_path, told, whole=code is not None)
            if rendezvous is not None and code is None:
                failed_at = _end_with_its_ranks(process, errors, failed_at)
            records, seen = follow(journal, seen)
            steps.show(records)
            if code is not None:
                break
            if context.stopping is not None and context.stopping.is_set():
                raise KeyboardInterrupt
            time.sleep(_POLL_SECONDS)
    if code:
        rank, name, reason = _first_error(errors.parent, begun_ns, run.config.hosts.nodes)
        if name == WriteError.__name__:
            raise WriteError(reason)
        words = f"{rank}: {name}: {reason}" if rank else _last_words(log_path, logged)
        raise _KINDS.get(name, TrainingError)(f"training failed: {words}; see {log.name}")


def _command(run: RunFolder, errors: Path, rendezvous: Rendezvous | None) -> list[str]:
    """torch's launcher, for one host or as one of several."""
    config, hosts = run.config, run.config.hosts
    forks = sys.platform.startswith("linux")
    launcher = "quickdraw_core.training.launcher" if forks else "torch.distributed.run"
    command = [sys.executable, "-m", launcher]
    if rendezvous is None:
        command += ["--standalone"]
    else:
        # Numbered by the rendezvous itself: any of the ranks writes to the folder that all share.
        command += ["--nnodes", str(hosts.nodes), "--rdzv-id", rendezvous.attempt]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", str(hosts.rendezvous)]
        # What torch would find out by the host's name, which is often that of its loopback.
        command += ["--local-addr", rendezvous.address]
        seconds = max(config.hardware.timeout_seconds, _RENDEZVOUS_SECONDS)
        conf = {"is_host": int(hosts.node_rank == 0)}
        conf |= {"join_timeout": seconds, "read_timeout": seconds}
        command += ["--rdzv-conf", ",".join(f"{key}={value}" for key, value in conf.items())]
    command += ["--nproc-per-node", str(config.hardware.ranks), "--max-restarts", "0"]
    command += ["--log-dir", str(errors)]
    where = [str(run.path), str(config.store)]
    if not forks:
        return [*command, "-m", "quickdraw_core.training.rank", *where]
    forked = ["--start-method", "fork", "--run-path"]
    program = Path(training.__file__).with_name("rank.py")
    return [*command, *forked, str(program), *where]


def _end_with_its_ranks(
    process: subprocess.Popen[bytes], errors: Path, failed_at: float | None
) -> float | None:
    """Kills a launcher, and its ranks with it, that does not end after one of them failed.

    Returns since when one has failed.
    """
    if failed_at is None:
        return time.monotonic() if any(errors.glob("**/error.json")) else None
    if time.monotonic() - failed_at > _ECHO_SECONDS:
        process.kill()
    return failed_at


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], log: BinaryIO
) -> Iterator[subprocess.Popen[bytes]]:
    """A sub-process that never outlives the block, nor (on Linux) this process."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment_of(
    config: TrainConfig,
    more: Mapping[str, str] | None = None,
    rendezvous: Rendezvous | None = None,
) -> dict[str, str]:
    """The ranks' environment: cores shared out, how threads wait, and the network for gloo: the
    loopback on one host, else the one in which the hosts meet.

    more: variables that replace those of this process.
    """
    environment = child_environment() | dict(more or {})
    share_cores(environment, config.hardware.ranks)
    # Asked whether there are GPUs, torch then asks the driver, and does not begin CUDA in a
    # launcher that forks the ranks.
    environment.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    # glibc gives the large tensors of a step back to the kernel and faults their pages in
    # again at the next one: a fifth of the time on a CPU. (Other allocators ignore these.)
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    if rendezvous is not None:
        interface = interface_of(rendezvous.address)
        if interface is not None:
            environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    elif sys.platform.startswith("linux") and config.hosts.nodes == 1:
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


class _Steps:
    """The steps that a training's journal tells of, shown on a bar. done: the steps so far."""

    def __init__(self, bar: Bar, images_a_step: int, done: int, last: int) -> None:
        self._bar, self._images_a_step = bar, images_a_step
        self._done, self._last = done, last
        self._trained: dict[str, float] = {}

    def show(self, records: list[dict[str, Any]]) -> None:
        """Advances the bar by new records' steps, and logs their validations."""
        for record in records:
            metrics = record.get("metrics", {})
            if "train/loss" in metrics:
                self._bar.advance((record["step"] - self._done) * self._images_a_step)
                self._done, self._trained = record["step"], metrics
            if "validation/map_at_3" in metrics:
                event = self._event(metrics)
                _LOG.info(event)
                self._bar.log(event)
                self._bar.note(f"validation MAP@3 {metrics['validation/map_at_3']:.4f}")

    def _event(self, validated: dict[str, float]) -> str:
        words = f"step {self._done:,} of {self._last:,}: "
        words += f"validation MAP@3 {validated['validation/map_at_3']:.4f}"
        words += f", loss {validated['validation/loss']:.4f}"
        if not self._trained:  # a kill between the two records has left it in the journal before
            return words
        rate = self._trained["train/images_per_second"]
        left = (self._last - self._done) * self._images_a_step / rate
        words += f" (training {self._trained['train/loss']:.4f}), {rate:,.0f} images/s"
        return f"{words}, {duration_text(left)} left"


def _tell_lines(log: Path, start: int, whole: bool) -> int:
    """Logs the lines that the processes printed since byte `start`; returns where they end.

    whole: also a last line without an end.
    """
    with log.open("rb") as file:
        file.seek(start)
        text = file.read()
    end = len(text) if whole else text.rfind(b"\n") + 1
    for line in text[:end].decode(errors="replace").splitlines():
        if line.strip():
            _LOG.info(line)
    return start + end


def _first_error(errors: Path, begun_ns: int, nodes: int) -> tuple[str, str, str]:
    """The first error of all ranks and hosts by time: the others only report that a peer is gone.

    By the time that the file was written: what torch notes in it is in whole seconds. Returns
    the rank, the name of the error's class and its message; empty if no rank has noted one.
    """
    found = [(sys.maxsize, "", "", "")]
    for path in errors.glob("**/error.json"):
        try:
            written_ns = path.stat().st_mtime_ns
            message = str(json.loads(path.read_text("utf-8", "replace"))["message"]["message"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if written_ns >= begun_ns:  # not of an attempt before this one, on another host
            host = path.relative_to(errors).parts[0].removeprefix("node-")
            of_host = f" of host {host}" if nodes > 1 else ""
            name, _, reason = message.partition(": ")  # as torch's `record` writes it
            found.append((written_ns, f"rank {path.parent.name}{of_host}", name, reason))
    return min(found)[1:]


def _last_words(log: Path, start: int) -> str:
    """What the log holds of an error that came before the ranks could note one."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    words = [line for line in lines if _ERROR_LINE.match(line) and "ChildFailedError" not in line]
    return words[0] if words else "the processes ended without saying why (killed, for one)"
