"""A run's ranks from start to end: their GPUs, their memory, and their journal on its way to
MLflow.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from quickdraw_core.errors import OutOfMemoryError
from quickdraw_core.launching.best_model import log_best, warming_up
from quickdraw_core.launching.gpus import rank_environment
from quickdraw_core.launching.open_run import open_latest
from quickdraw_core.launching.processes import Rendezvous, RunContext, run_ranks
from quickdraw_core.launching.rendezvous import gather_hosts, release_hosts
from quickdraw_core.progress import progress
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import TrackedRun, deliver_rest, delivery_thread
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    append,
    file_record,
    follow,
    last_status,
    now_ms,
    status_record,
)
from quickdraw_core.training.checkpoint import LAST_ARTIFACT, Resumable, find_checkpoint
from quickdraw_core.training.plan import Plan
from quickdraw_core.training.run_folder import RunFolder, keep_run_folder


def launch_tracked(
    run: RunFolder,
    plan: Plan,
    pack: Pack,
    latest: Resumable,
    tracked: TrackedRun,
    context: RunContext,
    opened: Opened,
) -> tuple[list[str], str | None]:
    """Runs the ranks while their journal is sent to MLflow: what there is to say, and what of
    it MLflow did not take. Raises what `run_ranks` does.
    """
    status, reason = "KILLED", None  # Ctrl-C, and a termination that an orchestrator raises
    append(run.path, status_record("RUNNING"))
    with delivery_thread(run.path, tracked.uri) as sending:
        try:
            with nullcontext() if tracked.uri == NO_TRACKING else warming_up(run, pack):
                notes = launch(run, plan, latest, context, opened)
            if tracked.uri != NO_TRACKING:
                notes += log_best(run, pack, opened)
            status = "FINISHED"
        except Exception as error:
            status, reason = "FAILED", str(error)
            raise
        finally:
            _name_last(run.path)
            append(run.path, status_record(status, reason))
    return notes, sending.delivery.problem


def launch(
    run: RunFolder,
    plan: Plan,
    latest: Resumable,
    context: RunContext,
    opened: Opened,
    rendezvous: Rendezvous | None = None,
) -> list[str]:
    """Runs this host's ranks on GPUs that no other run uses: those which `context` names, else
    its own.

    rendezvous: that host 0 has called to; host 0 itself calls here. Returns what there is to say
    about it. Raises what `run_ranks` does.
    """
    given = context.environment
    with rank_environment(run.config.ranks, run.config.device, given) as environment:
        context = replace(context, environment=environment)
        if run.config.hosts.nodes > 1 and rendezvous is None:
            rendezvous = _call_hosts(run, latest, context)
        return _run_until_they_fit(run, plan, latest, context, opened, rendezvous)


def record_end(run: RunFolder, step: int, pack: Pack, uri: str, opened: Opened) -> list[str]:
    """Has a run whose training is at its end say so, where a kill after that left it unsaid:
    to the other hosts, in the journal, and with its model. Returns what hindered it.
    """
    release_hosts(run.path, run.config.hosts, run.key, step)
    notes = [] if uri == NO_TRACKING else log_best(run, pack, opened)
    records, _ = follow(run.path / JOURNAL_NAME, 0)
    if last_status(records) != "FINISHED":
        _name_last(run.path)
        # At the time of the last record, which is when it ended.
        times = [record["time_ms"] for record in records if "time_ms" in record]
        append(run.path, status_record("FINISHED") | {"time_ms": max(times, default=now_ms())})
    return notes


def send_rest(run_dir: Path, uri: str) -> str | None:
    """Sends what a finished run's journal still holds; returns what hindered it."""
    return None if uri == NO_TRACKING else deliver_rest(run_dir).problem


def _run_until_they_fit(
    run: RunFolder,
    plan: Plan,
    latest: Resumable,
    context: RunContext,
    opened: Opened,
    rendezvous: Rendezvous | None,
) -> list[str]:
    """Runs the ranks; where a micro-batch does not fit into memory, again with half of it.

    On a single host: several would have to agree.
    """
    notes: list[str] = []
    while True:
        try:
            run_ranks(run, plan, latest.step, context, rendezvous)
            return notes
        except OutOfMemoryError as error:
            split = run.micro_split * 2
            config = run.config
            if config.hosts.nodes > 1 or split > config.micro_batch_size:
                raise
            notes.append(
                f"out of memory with {config.micro_batch_size // run.micro_split} drawings at "
                f"once: went on with {config.micro_batch_size // split}, and the same "
                f"global batch of {config.global_batch_size} ({error})"
            )
            run = replace(run, micro_split=split)
            run.write()
            keep_run_folder(run, opened)
            latest = open_latest(run, opened)


def _call_hosts(run: RunFolder, latest: Resumable, context: RunContext) -> Rendezvous:
    """Host 0's part of the rendezvous: waits for the other hosts."""
    hosts = run.config.hosts
    with progress("train", None, "") as bar:
        bar.note(f"waiting for {hosts.nodes - 1} more hosts in {run.path}")
        attempt, address = gather_hosts(run.path, hosts, run.key, latest.step, context.stopping)
    return Rendezvous(attempt.id, address)


def _name_last(run_dir: Path) -> None:
    last = find_checkpoint(run_dir, "last")
    if last is not None:
        append(run_dir, file_record(last, LAST_ARTIFACT))
