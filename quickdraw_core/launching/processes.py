"""The ranks as processes: torch's launcher as a sub-process, followed to its end."""

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from quickdraw_core.launching.rank_failure import ERRORS_NAME, failure_of
from quickdraw_core.launching.rendezvous import Rendezvous
from quickdraw_core.launching.torch_launcher import launcher_command, launcher_environment
from quickdraw_core.progress import Bar, duration_text, progress
from quickdraw_core.system.parent_death import sub_process
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_ECHO_SECONDS = 5
"""How long the launcher may take to end once a rank of this host has failed. One that has lost
host 0 hangs in a call that no signal reaches."""


class Launched(Protocol):
    """Ranks at work."""

    def poll(self) -> int | None:
        """The exit code of their launcher, one of those that failed if there are several; None if
        they are at work. Raises `ClusterError` if they are lost.
        """


class Nodes(Protocol):
    """Other hosts, on which the ranks are started from here."""

    def launched(
        self, run: RunFolder, step: int, environment: Mapping[str, str], log: BinaryIO
    ) -> AbstractContextManager[Launched]:
        """A block with the ranks of all nodes, which go on from a step and print to a log."""

    def names(self, count: int) -> str:
        """The first so many of the hosts, for messages."""


@dataclass(frozen=True)
class RunContext:
    """What a training is given by who starts several of them. None of it decides the weights.

    environment: variables of the ranks, over those of this process: which GPUs they see. tags:
    further ones of the MLflow run. stopping: once it is set, the training ends as by Ctrl-C,
    which reaches the main thread alone. title: what its progress is called. nodes: where all of
    its ranks run; None: this host's run here.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    stopping: threading.Event | None = None
    title: str = "train"
    nodes: Nodes | None = None

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
    images = (plan.steps - start) * run.config.global_batch_size
    nodes, hosts, processes = context.nodes, run.config.hosts.nodes, run.config.hardware.ranks
    where = ""
    if nodes is not None:
        begun_ns = 0  # other hosts have other clocks, and `nodes` removes what there is of before
        processes, where = run.config.world_size, f" on {nodes.names(hosts)}"
    with (
        log_path.open("ab") as log,
        progress(context.title, images, "images") as bar,
        launcher(run, rendezvous, context.environment, log)
        if nodes is None
        else nodes.launched(run, start, context.environment, log) as ranks,
    ):
        going_on = f", going on from step {start:,}" if start else ""
        s = "es" if processes != 1 else ""
        bar.log(f"starting {processes} process{s}{where}{going_on}")
        steps = _Steps(bar, run.config.global_batch_size, start, plan.steps)
        logged_to = logged
        while True:
            code = ranks.poll()
            logged_to = _log_lines(log_path, logged_to, whole=code is not None)
            records, read_to = follow(journal, read_to)
            steps.show(records)
            if code is not None:
                break
            if context.stopping is not None and context.stopping.is_set():
                raise KeyboardInterrupt
            time.sleep(_POLL_SECONDS)
    if code:
        raise failure_of(run.path / ERRORS_NAME, begun_ns, hosts, log_path, logged)


@contextmanager
def launcher(
    run: RunFolder,
    rendezvous: Rendezvous | None,
    environment: Mapping[str, str],
    output: BinaryIO,
) -> Iterator[Launched]:
    """A block with this host's ranks, which print to `output`. rendezvous: with other hosts."""
    errors = run.path / ERRORS_NAME / f"node-{run.config.hosts.node_rank}"
    shutil.rmtree(errors, ignore_errors=True)  # of an attempt before this one
    command = launcher_command(run, errors, rendezvous)
    variables = launcher_environment(run.config, environment, rendezvous)
    with sub_process(command, variables, output) as process:
        yield _Launcher(process, None if rendezvous is None else errors)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Launcher:
    """torch's launcher on this host. errors: where ranks note theirs; None: it ends with them."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path | None) -> None:
        self._process, self._errors = process, errors
        self._failed_at: float | None = None

    def poll(self) -> int | None:
        """As of any process. Kills a launcher, and its ranks with it, that does not end after one
        of them failed.
        """
        code = self._process.poll()
        if code is None and self._errors is not None:
            if self._failed_at is None:
                is_failed = any(self._errors.glob("**/error.json"))
                self._failed_at = time.monotonic() if is_failed else None
            elif time.monotonic() - self._failed_at > _ECHO_SECONDS:
                self._process.kill()
        return code


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
