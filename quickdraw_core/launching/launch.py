"""A run's ranks from start to end: their GPUs, the other hosts, and their memory."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from quickdraw_core.cluster.environment import Launched, find_launched
from quickdraw_core.errors import ConfigError, OutOfMemoryError, QuickdrawError, first_line
from quickdraw_core.launching.gpus import rank_environment
from quickdraw_core.launching.open_run import open_latest
from quickdraw_core.launching.processes import RunContext, run_ranks
from quickdraw_core.launching.rendezvous import Rendezvous, gather_hosts
from quickdraw_core.progress import progress
from quickdraw_core.stage import Opened
from quickdraw_core.system.locks import FOLDER_LOCK, has_locks, holder_of
from quickdraw_core.training.checkpoint import Resumable
from quickdraw_core.training.config import HostsConfig
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder, keep_run_folder

_REPORT_SECONDS = 60.0
"""How long host 0 may take to report a failure to MLflow."""

_POLL_SECONDS = 0.2


def launch(
    run: RunFolder,
    plan: Plan,
    latest: Resumable,
    context: RunContext,
    opened: Opened,
    rendezvous: Rendezvous | None = None,
) -> list[str]:
    """Runs the ranks of `context.nodes`, or this host's: on GPUs that no other run uses, those
    which `context` names, else its own. If a micro-batch does not fit into memory, runs them
    again with half of it.

    rendezvous: of a host that has joined the run; host 0 gathers the others here. Returns notes
    for the user. Raises what `run_ranks` does.
    """
    config, notes = run.config, list[str]()
    hardware, given = config.hardware, context.environment
    is_here = context.nodes is None
    with (
        rank_environment(hardware.ranks, hardware.device, given)
        if is_here
        else nullcontext(dict(given)) as environment
    ):
        context = replace(context, environment=environment)
        if is_here and config.hosts.nodes > 1 and rendezvous is None:
            rendezvous = _gather(run, latest, context)
        while True:
            try:
                run_ranks(run, plan, latest.step, context, rendezvous)
                return notes
            except OutOfMemoryError as error:
                split = run.micro_split * 2
                # Several hosts would have to agree on it.
                if config.hosts.nodes > 1 or split > config.micro_batch_size:
                    raise
                notes.append(
                    f"out of memory with {config.micro_batch_size // run.micro_split} drawings "
                    f"at once: went on with {config.micro_batch_size // split}, and the same "
                    f"global batch of {config.global_batch_size} ({error})"
                )
                run = replace(run, micro_split=split)
                run.write()
                keep_run_folder(run, opened)
                latest = open_latest(run, opened)


@contextmanager
def host_0_first(run: RunFolder, stopping: threading.Event | None = None) -> Iterator[None]:
    """A block of another host, whose error waits until host 0 is done with this attempt, within
    the time-out of its ranks. Host 0 reports for all of them, and a launcher may kill it once one
    host's command has failed (`srun --kill-on-bad-exit`).

    stopping: ends the waiting. Nobody waits without a launcher, or if the file system has no
    locks, which would name host 0 after its end.
    """
    lock = run.path / FOLDER_LOCK
    host_0 = None
    if _launched_for(run.config.hosts) is not None and has_locks(lock):
        host_0 = holder_of(lock)  # with the time since when: at its next attempt it is another
    try:
        yield
    except QuickdrawError as error:
        if host_0 is not None:
            _wait_for_host_0(run, lock, host_0, stopping or threading.Event(), first_line(error))
        raise


def _wait_for_host_0(
    run: RunFolder, lock: Path, host_0: str, stopping: threading.Event, why: str
) -> None:
    deadline = time.monotonic() + run.config.hardware.timeout_seconds + _REPORT_SECONDS
    with progress("train", None, "") as bar:
        bar.note(f"failed ({why}); waiting for host 0 to report it")
        while holder_of(lock) == host_0 and time.monotonic() < deadline:
            if stopping.wait(_POLL_SECONDS):
                return


def _gather(run: RunFolder, latest: Resumable, context: RunContext) -> Rendezvous:
    hosts = run.config.hosts
    launched = _launched_for(hosts)
    of_all = "" if launched is None else f" of {launched.all}"
    with progress("train", None, "") as bar:
        bar.note(f"waiting for {hosts.nodes - 1} more{of_all or ' hosts'} in {run.path}")
        attempt, address = gather_hosts(run.path, hosts, run.key, latest.step, context.stopping)
    return Rendezvous(attempt.id, address, attempt.endpoint)


def _launched_for(hosts: HostsConfig) -> Launched | None:
    """What the launcher says that started the command on these hosts; None if none did."""
    with suppress(ConfigError):  # the hosts were given by options, whatever this is
        launched = find_launched(os.environ, str)
        return launched if launched.nodes == hosts.nodes > 1 else None
    return None
