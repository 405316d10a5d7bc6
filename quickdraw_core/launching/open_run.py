"""The run of a folder: new, continued, or joined on another host."""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from quickdraw_core.cluster.environment import launcher_job
from quickdraw_core.errors import CheckpointError
from quickdraw_core.launching.provenance import provenance_of
from quickdraw_core.launching.rank_failure import ERRORS_NAME
from quickdraw_core.launching.rendezvous import Attempt, Rendezvous, join_attempt
from quickdraw_core.loading.exclude import excluded_sha256
from quickdraw_core.loading.joined import also_fingerprint
from quickdraw_core.progress import progress
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.locks import require_free_folder
from quickdraw_core.tracking.journal import JOURNAL_NAME
from quickdraw_core.tracking.logged_model import MODEL_FOLDER
from quickdraw_core.tracking.run_record import RUN_RECORD_NAME
from quickdraw_core.tracking.samples import SAMPLES_NAME
from quickdraw_core.training.checkpoint import Resumable, latest_checkpoint, open_checkpoint
from quickdraw_core.training.config import TrainConfig, training_code
from quickdraw_core.training.distill import copy_teachers
from quickdraw_core.training.plan import ROWS_NAME, Plan, Rows
from quickdraw_core.training.run_folder import RUNS, RunFolder, keep_run_folder, open_run_folder


def run_path(config: TrainConfig, store: Store) -> Path:
    """The run's folder: as configured, else named by what is trained on what."""
    name = f"{config.model.name}-{len(store.label_map)}classes"
    named = RUNS / f"{name}-{config.identity(store.manifest.fingerprint)}"
    return (config.run_dir or named).absolute()


def open_latest(run: RunFolder, opened: Opened) -> Resumable:
    """Where the run goes on. Raises what `latest_checkpoint` does."""
    return latest_checkpoint(run.path, run.owns, partial(open_checkpoint, opened=opened))


def begin_run(
    config: TrainConfig, store: Store, rows: Rows, steps: Callable[[], int], opened: Opened
) -> RunFolder:
    """The run to continue, or a new one.

    steps: asked of a new one, before the folder is changed. Raises `CheckpointError` if the
    folder holds another one, and what first weights that cannot be had raise.
    """
    fingerprint = store.manifest.fingerprint
    path = run_path(config, store)
    resolved = config.updated({"store": store.path, "run_dir": path, "fresh": False})
    recorded = {
        "exclude_sha256": excluded_sha256(config.select),
        "also_fingerprint": also_fingerprint(config.select),
    }
    resolved = resolved.updated({"select": config.select.absolute().model_dump() | recorded})
    if config.distill is not None:
        resolved = resolved.updated({"distill": config.distill.recorded().model_dump()})
    if RunFolder.is_there(path) and not config.fresh:
        run = continued_run(config, store, opened)
        # What does not decide the weights, such as the number of ranks, may be another now.
        steps_of_run = Plan.of(config, rows, run.steps).steps
        provenance = provenance_of(config, store, steps_of_run)
        copy_teachers(resolved.distill, path)  # if a copy was lost
        run = replace(run, config=resolved, provenance=provenance)
    else:
        _fetch_weights(config, len(store.label_map))
        plan = Plan.of(config, rows, steps())
        copy_teachers(resolved.distill, path)  # first: they may be of the run that is replaced
        _clear(path)
        rows.write(path)
        key = secrets.token_hex(8)
        run = RunFolder(
            path,
            resolved,
            fingerprint,
            key,
            code=training_code(),
            provenance=provenance_of(config, store, plan.steps),
            steps=plan.steps,
            begun_by=launcher_job(os.environ),
        )
    run.write()
    keep_run_folder(run, opened)
    return run


def continued_run(config: TrainConfig, store: Store, opened: Opened) -> RunFolder:
    """The run of a folder that has one. Raises `CheckpointError` if it is another one."""
    path = run_path(config, store)
    run = open_run_folder(path, opened)
    if run.identity != config.identity(store.manifest.fingerprint):
        raise CheckpointError(
            f"{path} holds a run with other options, data or code; give another --run-dir, "
            "or --fresh to start over there"
        )
    return run


def is_begun_by(job: str, config: TrainConfig, opened: Opened) -> bool:
    """Whether this job, as `launcher_job` gives it, has begun the run of the folder. Raises
    `StoreError` if the folder is named by a store that cannot be opened.
    """
    path = config.run_dir or run_path(config, open_store(config.store, opened))
    try:
        return open_run_folder(path, opened).begun_by == job
    except CheckpointError:
        return False


def join_run(
    config: TrainConfig, store: Store, opened: Opened, stopping: threading.Event | None
) -> tuple[RunFolder, Resumable, Rendezvous | None]:
    """The run that host 0 has begun, and where the others meet; none if all is done."""
    path = run_path(config, store)
    while True:
        # The run that is there now is the one that host 0 replaces, if it starts over.
        finished = None if config.fresh else finished_run(config, store, opened)
        if finished is not None:
            return (*finished, None)
        _fetch_weights(config, len(store.label_map))
        with progress("train", None, "") as bar:
            bar.note(f"waiting for host 0 to begin in {path}")
            attempt, address = join_attempt(path, config.hosts, stopping)
        run, latest = _as_host_0_sees_it(config, store, attempt, opened)
        if attempt.id:
            return run, latest, Rendezvous(attempt.id, address, attempt.endpoint)


def finished_run(
    config: TrainConfig, store: Store, opened: Opened
) -> tuple[RunFolder, Resumable] | None:
    """The run if nothing is left to train. What else is there is host 0's to judge."""
    try:
        run = open_run_folder(run_path(config, store), opened)
        if run.identity != config.identity(store.manifest.fingerprint):
            return None
        latest = open_latest(run, opened)
    except CheckpointError:
        return None
    return (_as_ours(run, config, store), latest) if latest.is_finished else None


def _as_host_0_sees_it(
    config: TrainConfig, store: Store, attempt: Attempt, opened: Opened
) -> tuple[RunFolder, Resumable]:
    """The run and its checkpoint, once the shared folder shows here what host 0 has there."""
    path = run_path(config, store)
    deadline = time.monotonic() + config.hosts.wait_seconds
    while True:
        run = open_run_folder(path, opened) if RunFolder.is_there(path) else None
        if run is not None and run.key == attempt.run:
            if run.identity != config.identity(store.manifest.fingerprint):
                raise CheckpointError(
                    f"{path} holds a run with other options, data or code than this host was "
                    "given; give all hosts the same command but for --node-rank, and the same "
                    "version of this program"
                )
            latest = open_latest(run, opened)
            if latest.step == attempt.step:
                return _as_ours(run, config, store), latest
        if time.monotonic() > deadline:
            raise CheckpointError(
                f"{path} does not show here the run that host 0 goes on with from step "
                f"{attempt.step:,}; give a folder that all hosts share"
            )
        time.sleep(1)


def _as_ours(run: RunFolder, config: TrainConfig, store: Store) -> RunFolder:
    """The run with what is another on each host."""
    path = run_path(config, store)
    ours = {"store": store.path, "run_dir": path, "hosts": config.hosts.model_dump()}
    also = config.select.absolute().also
    return replace(run, path=path, config=config.updated(ours | {"select": {"also": also}}))


def _fetch_weights(config: TrainConfig, classes: int) -> None:
    """Gets pretrained weights before anything is started: a file without weights is refused, and
    torchvision downloads once for all ranks of this host.
    """
    if config.model.pretrained is not None:
        from quickdraw_core.training.network import new_network

        new_network(config, classes, config.model.pretrained)


def _clear(path: Path) -> None:
    """Empties a run folder of what an earlier run left there, and of nothing else."""
    ours = ("run.json", RUN_RECORD_NAME, f"{JOURNAL_NAME}*", "log.txt", "promotion.json")
    for pattern in (*ours, "checkpoints/*"):
        for old in path.glob(pattern):
            old.unlink()
    folders = [path / name for name in (ERRORS_NAME, ROWS_NAME, SAMPLES_NAME, MODEL_FOLDER)]
    evaluations = [path / "evaluation", *path.glob("evaluation-*")]
    for folder in evaluations:
        require_free_folder(folder)
    for folder in (*folders, *evaluations):
        shutil.rmtree(folder, ignore_errors=True)
