"""The ranks as processes: torch's launcher as a sub-process, followed to its end."""

import logging
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from quickdraw_core.launching.rank_failure import ERRORS_NAME, failure_of
from quickdraw_core.launching.rendezvous import Rendezvous
from quickdraw_core.launching.torch_launcher import launcher_command, launcher_environment
from quickdraw_core.progress import Bar, duration_text, progress
from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 30
_ECHO_SECONDS = 5
"""How long the launcher may take to end once a rank of this host has failed. One that has lost
host 0 hangs in a call that no signal reaches."""


@dataclass(frozen=True)
class RunContext:
    """What a training is given by who starts several of them. None of it decides the weights.

    environment: variables of the ranks, over those of this process: which GPUs they see. tags:
    further ones of the MLflow run. stopping: once it is set, the training ends as by Ctrl-C,
    which reaches the main thread alone. title: what its progress is called.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    stopping: threading.Event | None = None
    title: str = "train"

    def titled(self, title: str) -> "RunContext":
        """The same for work that is called otherwise."""
        return replace(self, title=title)


STANDALONE = RunContext()
"""Of a training that nobody runs beside others."""


def run_ranks(
    run: RunFolder,
    plan: Plan,
    start: int,
    context: RunContext = STANDALONE,
    rendezvous: Rendezvous | None = None,
) -> None:
    """Starts this host's ranks, shows their progress from the journal, and waits for their end.

    rendezvous: with other hosts; none: this one trains alone.
    Raises what `failure_of` returns if a rank fails.
    """
    journal, log_path = run.path / JOURNAL_NAME, run.path / "log.txt"
    begun_ns, logged, read_to = time.time_ns(), _size(log_path), _size(journal)
    errors = run.path / ERRORS_NAME / f"node-{run.config.hosts.node_rank}"
    shutil.rmtree(errors, ignore_errors=True)  # of an attempt before this one
    images = (plan.steps - start) * run.config.global_batch_size
    with (
        log_path.open("ab") as log,
        progress(context.title, images, "images") as bar,
        _process(
            launcher_command(run, errors, rendezvous),
            launcher_environment(run.config, context.environment, rendezvous),
            log,
        ) as process,
    ):
        going_on = f", going on from step {start:,}" if start else ""
        bar.log(f"starting {run.config.hardware.ranks} processes{going_on}")
        steps = _Steps(bar, run.config.global_batch_size, start, plan.steps)
        logged_to, failed_at = logged, None
        while True:
            code = process.poll()
            logged_to = _log_lines(log_path, logged_to, whole=code is not None)
            if rendezvous is not None and code is None:
                failed_at = _end_with_its_ranks(process, errors, failed_at)
            records, read_to = follow(journal, read_to)
            steps.show(records)
            if code is not None:
                break
            if context.stopping is not None and context.stopping.is_set():
                raise KeyboardInterrupt
            time.sleep(_POLL_SECONDS)
    if code:
        raise failure_of(errors.parent, begun_ns, run.config.hosts.nodes, log_path, logged)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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


class _Steps:
    """The steps in a training's journal, shown on a bar. done: the steps so far."""

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


def _log_lines(log: Path, start: int, whole: bool) -> int:
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
