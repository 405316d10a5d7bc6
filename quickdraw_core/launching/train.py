"""The training stage: prepared once, then finished already, or run.

Who wants to go on after a failure calls it again: the same configuration on the same data
continues from the latest checkpoint.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quickdraw_core.cluster.connect import check_certificates
from quickdraw_core.errors import ConfigError, QuickdrawError
from quickdraw_core.launching.estimate import Estimate, estimate, steps_within
from quickdraw_core.launching.launch import host_0_first, launch
from quickdraw_core.launching.mlflow_run import (
    params_of,
    report_finished,
    report_training,
    tags_of,
)
from quickdraw_core.launching.nodes.dask_nodes import nodes_of
from quickdraw_core.launching.open_run import (
    begin_run,
    continued_run,
    finished_run,
    join_run,
    open_latest,
    run_path,
)
from quickdraw_core.launching.probe import Probe, probe
from quickdraw_core.launching.processes import STANDALONE, RunContext
from quickdraw_core.launching.rendezvous import release_hosts
from quickdraw_core.launching.result import TrainResult, result_of
from quickdraw_core.launching.room import pack_needs, training_needs
from quickdraw_core.loading.exclude import read_excluded
from quickdraw_core.loading.joined import (
    also_fingerprint,
    first_pack,
    open_also,
    opened_train_pack,
)
from quickdraw_core.loading.select import find_label, selection_notes
from quickdraw_core.progress import progress
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of, options_of
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.disk import Need, require_room
from quickdraw_core.system.files import require_writable
from quickdraw_core.system.locks import FOLDER_LOCK, held_folder, require_free
from quickdraw_core.tracking.address import check_address, resolve_tracking_uri
from quickdraw_core.tracking.delivery import is_delivered
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow, last_status
from quickdraw_core.tracking.start_run import record_run, start_run
from quickdraw_core.training.checkpoint import find_checkpoint, step_of
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distill import teacher_files
from quickdraw_core.training.hardware import HardwareConfig, check_hardware, unused_gpus
from quickdraw_core.training.plan import Plan, Rows, checked_rows, steps_of
from quickdraw_core.training.run_folder import RUN_NAME, RUNS, RunFolder


@dataclass(frozen=True)
class PreparedTraining:
    """A training that can begin. path: the run's folder, there or not."""

    config: TrainConfig
    opened: Opened
    store: Store
    path: Path

    def key(self) -> str:
        """Of folder, data and options."""
        data = self.store.manifest.fingerprint, also_fingerprint(self.config.select)
        return key_of("train", self.path, *data, options_of(self.config, "store"))

    def finished(self) -> TrainResult | None:
        """The result, if the training ended, its files are whole, and MLflow has all of it."""
        if self.config.fresh:
            return None
        try:
            run_and_latest = finished_run(self.config, self.store, self.opened)
            if run_and_latest is None or not is_delivered(self.path, self.config.tracking.uri):
                return None
            records, _ = follow(self.path / JOURNAL_NAME, 0)
            if last_status(records) != "FINISHED":
                return None
            _, latest = run_and_latest
            return result_of(self.path, self.opened, latest.step, True, latest.refused)
        except (QuickdrawError, OSError):
            return None  # the work itself then says why

    def unfinished(self) -> Outlook:
        """From which step the run goes on, or why it is begun. Raises `CheckpointError` for a
        folder of another run, as `run` does.
        """
        if self.config.fresh:
            return Outlook(Action.ANEW, "starts over, as asked for")
        if not RunFolder.is_there(self.path):
            return Outlook(Action.ANEW, f"no run of these options, data and code in {self.path}")
        run = continued_run(self.config, self.store, self.opened)
        latest = open_latest(run, self.opened)
        if latest.is_finished:
            return Outlook(Action.CONTINUE, "trained; what is missing is written and sent")
        if latest.checkpoint is None:
            return Outlook(Action.CONTINUE, "begun, without a checkpoint yet: from step 0")
        return Outlook(Action.CONTINUE, f"from step {latest.step:,}, its last checkpoint")

    def run(self, context: RunContext = STANDALONE) -> TrainResult:
        """Trains to the end of the plan, from the run folder's latest checkpoint if it has
        one.

        context: set if the training is one of several, such as the rows of a sweep. Raises
        `BusyError` if another training is at work in the run folder, `StoreError`,
        `ConfigError` or `CheckpointError` before anything is started, and `TrainingError` if
        a rank fails. `ConfigError` as well if the disk cannot hold what is to be written.
        """
        begun = time.perf_counter()
        store = open_store(self.config.store, self.opened)  # it may be another one meanwhile
        require_room(needs_of(self.config, store, self.opened))
        path = run_path(self.config, store)
        with (
            held_folder(path, "training", _lock_name(self.config)),
            self._on_nodes(store, path, context) as (config, context),
        ):
            return _run(config, store, context, self.opened, begun)

    def _on_nodes(
        self, store: Store, path: Path, context: RunContext
    ) -> AbstractContextManager[tuple[TrainConfig, RunContext]]:
        """As `nodes_of`; without a cluster, too, if only the results are left to be delivered."""
        config, opened = self.config, self.opened
        if config.hosts.dask is None:
            return nullcontext((config, context))
        done = not config.fresh and finished_run(config, store, opened) is not None
        return nullcontext((config, context)) if done else nodes_of(config, path, context)

    def estimate(self, context: RunContext | None = STANDALONE) -> Estimate:
        """What the training will take. It leaves nothing, but for the pack of the store.

        context: of a probe that measures speed and memory; None: without. Raises what a training
        raises.
        """
        store, config = open_store(self.config.store, self.opened), self.config
        require_room(pack_needs(store, open_also(config.select, store, self.opened)))
        pack = opened_train_pack(store, config.select, self.opened)
        rows = checked_rows(config, pack)
        steps, done = None, 0
        if RunFolder.is_there(self.path) and not config.fresh:
            run = continued_run(config, store, self.opened)
            last = find_checkpoint(self.path, "last")
            steps = Plan.of(config, rows, run.steps).steps
            done = 0 if last is None else step_of(last)
        if done and finished_run(config, store, self.opened) is not None:
            steps = done  # it may have run out of patience before the last
        measured = None
        if context is not None and not 0 < done == steps:
            with nodes_of(config, self.path, context, shared=False) as (config, context):
                measured = probe(config, store, pack, context, self.opened)
        return estimate(config, self.path, rows, len(store.label_map), measured, steps, done)


def needs_of(config: TrainConfig, store: Store, opened: Opened) -> list[Need]:
    """What a training is still going to write: the pack of the store, and what its run keeps."""
    path = run_path(config, store)
    goes_on = RunFolder.is_there(path) and not config.fresh
    if goes_on and finished_run(config, store, opened) is not None:
        return []
    packs = pack_needs(store, open_also(config.select, store, opened))
    return [*packs, *training_needs(config, path, len(store.label_map))]


def prepare(config: TrainConfig, opened: Opened) -> PreparedTraining:
    """Opens the stores to train on, and finds out what can be found wrong without work.

    Raises `StoreError`, `ConfigError`, `TrackingError`, or `BusyError` if another training is
    at work in the run folder.
    """
    check_options(config)
    store = open_store(config.store, opened)
    for word in config.select.classes or ():
        find_label(store.label_map, word)
    if config.select.exclude is not None:
        _require_excluded(config)
    open_also(config.select, store, opened)
    path = run_path(config, store)
    require_free(path / _lock_name(config), str(path))
    goes_on = not config.fresh and find_checkpoint(path, "last") is not None
    if config.model.pretrained is not None and not goes_on:
        from quickdraw_core.modeling.pretrained import check_weights

        check_weights(config.model.pretrained)
    if config.distill is not None and not goes_on:
        from quickdraw_core.training.network import require_teachers

        require_teachers(config, store)
    return PreparedTraining(config, opened, store, path)


def _require_excluded(config: TrainConfig) -> None:
    """Raises `ConfigError` if the drawings to exclude cannot be read; to a run that was begun only
    the same file leads back.
    """
    try:
        read_excluded(config.select)
    except ConfigError as error:
        if config.fresh or (config.run_dir is not None and not RunFolder.is_there(config.run_dir)):
            raise
        what = "this run" if config.run_dir is not None else "a run that you go on with"
        raise ConfigError(f"{error}, or restore the file that {what} was begun with") from error


def begun_at(config: TrainConfig, opened: Opened) -> float | None:
    """When the run of the folder was begun, or last gone on with."""
    path = config.run_dir or run_path(config, open_store(config.store, opened))
    return LocalStorage(path).modified(RUN_NAME)


TRAIN_STAGE = Stage("train", prepare, begun_at)


def train(
    config: TrainConfig, context: RunContext = STANDALONE, opened: Opened | None = None
) -> TrainResult:
    """A recogniser of the configured store: the earlier result, or that of the work now.

    Raises what `prepare` and `PreparedTraining.run` raise.
    """
    prepared = prepare(config, opened or Opened())
    return prepared.finished() or prepared.run(context)


def check_options(config: TrainConfig) -> None:
    """Finds out without a store whether a training can begin. Raises `ConfigError`, or
    `TrackingError` for an address of MLflow that can never work.
    """
    check_address(resolve_tracking_uri(config.tracking.uri))
    if config.run_dir is None or not RunFolder.is_there(config.run_dir):
        require_writable(config.run_dir or RUNS)
    check_certificates(config.hosts.tls, "hosts.tls")
    if config.distill is not None:
        teacher_files(config.distill)
    # What the workers of a cluster have is theirs to say; here the best model is written.
    is_here = config.hosts.dask is None
    check_hardware(config.hardware if is_here else HardwareConfig(device="cpu"))


def _lock_name(config: TrainConfig) -> str:
    """Of the lock of the run folder, which several hosts share: each host has its own."""
    rank = config.hosts.node_rank
    return f"{FOLDER_LOCK}-host{rank}" if rank else FOLDER_LOCK


def _run(
    config: TrainConfig, store: Store, context: RunContext, opened: Opened, begun: float
) -> TrainResult:
    """begun: when the training did, by `time.perf_counter`."""
    pack = opened_train_pack(store, config.select, opened)
    rows = checked_rows(config, pack)
    is_host_0, rendezvous, problem = config.hosts.node_rank == 0, None, None
    if is_host_0:
        probing = partial(probe, config, store, pack, context, opened)
        run = begin_run(
            config, store, rows, partial(_steps_by, config, rows, probing, begun), opened
        )
        latest = open_latest(run, opened)
    else:
        run, latest, rendezvous = join_run(config, store, opened, context.stopping)
    done, notes = latest.is_finished, list(latest.refused)
    if not done:  # the run folder's: this process keeps no 8 bytes a drawing while its ranks train
        rows = Rows.read(config, pack, run.path)
    shares, hosts = config.shape.micro_batches, config.hosts.nodes
    notes += selection_notes(pack, config.select) if is_host_0 and not done else []
    is_here = context.nodes is None and not done
    unused = unused_gpus(config.hardware, shares, hosts) if is_here else None
    if unused is not None:
        notes.append(unused)
        with progress("train", None, "") as bar:
            bar.note(unused)  # now as well, not only after hours on the CPU
    plan = Plan.of(config, rows, run.steps)  # of host 0's run, for all of them
    ranks = partial(launch, run, plan, latest, context, opened, rendezvous)
    if is_host_0:
        tags = tags_of(run, store) | {"steps": str(plan.steps)} | dict(context.tags)
        # The MLflow run of a run that is to be trained is made while its ranks start.
        track = start_run if done else record_run
        tracked = track(run.path, config.tracking.uri, run.path.name, params_of(config), tags)
        notes += [tracked.problem] if tracked.problem else []
        if done:
            release_hosts(run.path, config.hosts, run.key, latest.step)
            more, problem = report_finished(run, first_pack(pack), tracked.uri, opened)
        else:
            more, problem = report_training(run, first_pack(pack), tracked.uri, opened, ranks)
        notes += more
    elif not done:
        with host_0_first(run, context.stopping):
            notes += ranks()
    return result_of(run.path, opened, latest.step, done, notes, problem)


def _steps_by(config: TrainConfig, rows: Rows, probing: Callable[[], Probe], begun: float) -> int:
    """The steps of a new run: those of the configuration, or as many as a probe says will fit
    into what is left of the minutes since it began.
    """
    steps = steps_of(config, rows.steps_an_epoch)
    if steps is None:
        measured = probing()
        spent = time.perf_counter() - begun - measured.waited_seconds
        steps = steps_within(config, rows, measured, spent)
        with progress("train", None, "") as bar:
            bar.log(
                f"{steps:,} steps fit into {config.max_minutes:g} minutes, by a probe of "
                f"{measured.seconds:.0f} s: {config.global_batch_size / measured.step_mean:,.0f} "
                "images/s"
            )
    return steps
