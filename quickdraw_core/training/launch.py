"""The training stage: a run folder, an MLflow run, and the ranks as processes.

Who wants to go on after a failure calls `train` again: the same configuration on the same data
continues from the latest checkpoint.
"""

import getpass
import secrets
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quickdraw_core.assignments import flattened
from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    OutOfMemoryError,
    QuickdrawError,
    TrackingError,
    TrainingError,
)
from quickdraw_core.files import require_writable
from quickdraw_core.loading.loader import Feed, make_batch
from quickdraw_core.loading.select import find_label
from quickdraw_core.locks import (
    FOLDER_LOCK,
    held_folder,
    require_free,
    require_free_folder,
)
from quickdraw_core.modeling.pretrained import check_weights
from quickdraw_core.progress import progress
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import NO_TRACKING, check_address, resolve_tracking_uri
from quickdraw_core.tracking.card import CARD_NAME, RunCard
from quickdraw_core.tracking.delivery import (
    OpenedRun,
    courier,
    deliver_rest,
    is_delivered,
    open_run,
)
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    append,
    file_record,
    follow,
    last_status,
    now_ms,
    status_record,
)
from quickdraw_core.tracking.logged_model import MODEL_FOLDER, log_model
from quickdraw_core.training.checkpoint import (
    Resumable,
    find_checkpoint,
    latest_checkpoint,
    load_checkpoint,
)
from quickdraw_core.training.config import TrainConfig, training_code
from quickdraw_core.training.curves import read_curves
from quickdraw_core.training.diagnosis import Finding, diagnose
from quickdraw_core.training.gpus import rank_environment
from quickdraw_core.training.hardware import check_hardware, choose_device, unused_gpus
from quickdraw_core.training.meeting import Attempt, answer_host_0, call_hosts, dismiss_hosts
from quickdraw_core.training.plan import ROWS_NAME, Plan
from quickdraw_core.training.processes import (
    ALONE,
    ERRORS_NAME,
    Meeting,
    Surroundings,
    run_ranks,
)
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.samples import SAMPLES_NAME
from quickdraw_core.training.state import OfBytes, network_of, new_network

RUNS = Path("runs")
"""Where runs are that are given no folder."""
_EXPORTING = threading.Lock()
"""Networks are written as models one at a time: what silences torch's exporter meanwhile is the
whole process's, and two that end in the wrong order would leave it silent."""

LAST_ARTIFACT = "checkpoints/last.pt"
"""Where a run's last checkpoint stands among its MLflow artifacts."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished training says of itself.

    skipped: it was finished already. notes: what went otherwise than asked for.
    tracking_problem: why MLflow does not show all of it. findings: what its curves say is wrong.
    """

    run_dir: Path
    mlflow_run_id: str
    tracking_uri: str
    best_checkpoint: Path
    metrics: dict[str, float]
    steps: int
    resumed_from: int
    skipped: bool
    notes: tuple[str, ...]
    tracking_problem: str | None
    findings: tuple[Finding, ...] = ()


def train(config: TrainConfig, around: Surroundings = ALONE) -> TrainResult:
    """Trains to the end of the plan, from the run folder's latest checkpoint where it has one.

    around: where the training is one of several, such as the rows of a sweep.
    Raises `StoreError`, `ConfigError`, `CheckpointError` or `BusyError` (another training is at
    work in the run folder) before anything is started, and
    `TrainingError` where a rank fails.
    """
    store = check(config)
    with held_folder(run_path(config, store), "training", _lock_name(config)):
        return _train(config, store, around)


def _lock_name(config: TrainConfig) -> str:
    """Of the lock of the run folder, which several hosts share: each host has its own."""
    rank = config.hosts.node_rank
    return f"{FOLDER_LOCK}-host{rank}" if rank else FOLDER_LOCK


def _train(config: TrainConfig, store: Store, around: Surroundings) -> TrainResult:
    pack = open_pack(store)
    plan = Plan.of(config, pack)
    first, meeting = config.hosts.node_rank == 0, None
    if first:
        run = _open_run(config, store, plan)
        latest = latest_checkpoint(run.path, run.owns)
    else:
        run, latest, meeting = _join_run(config, store, around.stopping)
    skipped = latest.checkpoint is not None and latest.checkpoint.finished
    notes, problem = list(latest.refused), None
    unused = None if skipped else unused_gpus(config)
    if unused is not None:
        notes.append(unused)
        with progress("train", None, "") as bar:
            bar.note(unused)  # now as well, not only after hours on the CPU
    if not first:
        notes += [] if skipped else _run(run, plan, latest, around, meeting)
    else:
        tags = _tags(config, store) | dict(around.tags)
        opened = open_run(run.path, config.tracking_uri, run.path.name, _params(config), tags)
        notes += [opened.problem] if opened.problem else []
        if skipped:
            dismiss_hosts(run.path, config.hosts, run.key, latest.step)
            notes += _log_best(run, pack, opened.uri)
            _tell_end(run.path)
            problem = deliver_rest(run.path).problem if opened.uri != NO_TRACKING else None
        else:
            more, problem = _run_tracked(run, plan, pack, latest, opened, around)
            notes += more
    best = find_checkpoint(run.path, "best")
    if best is None:
        raise TrainingError(f"the training ended without a checkpoint; see {run.path / 'log.txt'}")
    card = RunCard.read(run.path)
    return TrainResult(
        run_dir=run.path,
        mlflow_run_id=card.run_id if card else "",
        tracking_uri=card.uri if card else NO_TRACKING,
        best_checkpoint=best,
        metrics=load_checkpoint(best).metrics,
        steps=latest_checkpoint(run.path, run.owns).step,
        resumed_from=latest.step,
        skipped=skipped,
        notes=tuple(notes),
        tracking_problem=problem,
        findings=diagnose(read_curves(run.path), classes=int(np.count_nonzero(plan.train_counts))),
    )


def _run_tracked(
    run: RunFolder,
    plan: Plan,
    pack: Pack,
    latest: Resumable,
    opened: OpenedRun,
    around: Surroundings,
) -> tuple[list[str], str | None]:
    """Runs the ranks while their journal is sent to MLflow: what there is to say, and what of
    it MLflow did not take.
    """
    status, reason = "KILLED", None  # Ctrl-C, and a termination that an orchestrator raises
    with courier(run.path, opened.uri) as sending:
        append(run.path, status_record("RUNNING"))
        try:
            notes = _run(run, plan, latest, around)
            notes += _log_best(run, pack, opened.uri)
            status = "FINISHED"
        except Exception as error:
            status, reason = "FAILED", str(error)
            raise
        finally:
            _name_last(run.path)
            append(run.path, status_record(status, reason))
    return notes, sending.delivery.problem


def _name_last(run_dir: Path) -> None:
    last = find_checkpoint(run_dir, "last")
    if last is not None:
        append(run_dir, file_record(last, LAST_ARTIFACT))


def _tell_end(run_dir: Path) -> None:
    """Has the journal of a finished training say so, at the time of its last record, and name the
    last checkpoint: a kill after it may have left that unsaid.
    """
    records, _ = follow(run_dir / JOURNAL_NAME, 0)
    if last_status(records) != "FINISHED":
        _name_last(run_dir)
        times = [record["time_ms"] for record in records if "time_ms" in record]
        append(run_dir, status_record("FINISHED") | {"time_ms": max(times, default=now_ms())})


def _log_best(run: RunFolder, pack: Pack, uri: str) -> list[str]:
    """Writes the best checkpoint as a model of MLflow's; returns what hindered it."""
    best = find_checkpoint(run.path, "best")
    if uri == NO_TRACKING or best is None:
        return []
    checkpoint = load_checkpoint(best)
    network, config = network_of(checkpoint)
    example = make_batch(pack, np.arange(2), config.encoding, config.side_px, Feed())
    try:
        with _EXPORTING:
            log_model(
                run.path,
                OfBytes(network),
                example.images_nchw.numpy(),
                key=checkpoint.weights_sha256,
                step=checkpoint.step,
                label_map=checkpoint.label_map,
                config=checkpoint.config,
            )
    except TrackingError as error:
        return [str(error)]
    return []


def is_finished(config: TrainConfig) -> bool:
    """Whether the training that is asked for is at its end already, what it left is whole, and
    nothing of it waits to be sent to MLflow.
    """
    try:
        store = Store.open(config.store)
        run = RunFolder.read(run_path(config, store))
        if run.identity != config.identity(store.manifest.fingerprint):
            return False
        latest = latest_checkpoint(run.path, run.owns).checkpoint
        best = find_checkpoint(run.path, "best")
        if latest is None or not latest.finished or best is None:
            return False
        load_checkpoint(best)
        records, _ = follow(run.path / JOURNAL_NAME, 0)
    except (QuickdrawError, OSError):
        return False
    return last_status(records) == "FINISHED" and is_delivered(run.path)


def check_options(config: TrainConfig) -> None:
    """Finds out without a store whether a training can begin. Raises `ConfigError`, or
    `TrackingError` for an address of MLflow that can never work.
    """
    check_address(resolve_tracking_uri(config.tracking_uri))
    if config.hosts.node_rank and config.fresh:
        raise ConfigError(
            "--fresh is host 0's: it begins the run that the others join; leave it out here"
        )
    if config.run_dir is None or not RunFolder.is_there(config.run_dir):
        require_writable(config.run_dir or RUNS)
    check_hardware(config)


def check(config: TrainConfig) -> Store:
    """Opens the store to train on: what can be found wrong without work."""
    check_options(config)
    store = Store.open(config.store)
    for word in config.select.classes or ():
        find_label(store.label_map, word)
    path = run_path(config, store)
    require_free(path / _lock_name(config), str(path))
    goes_on = not config.fresh and find_checkpoint(path, "last") is not None
    if config.pretrained is not None and not goes_on:
        check_weights(config.pretrained)
    return store


def _fetch_weights(config: TrainConfig, classes: int) -> None:
    """Gets pretrained weights before anything is started: a file that is none is refused, and
    what torchvision downloads is there once, for all ranks of this host.
    """
    if config.pretrained is not None:
        new_network(config, classes, config.pretrained)


def _run(
    run: RunFolder,
    plan: Plan,
    latest: Resumable,
    around: Surroundings,
    meeting: Meeting | None = None,
) -> list[str]:
    """Runs the ranks on GPUs that no other run uses: those which `around` names, else its own."""
    given = around.environment
    with rank_environment(run.config.ranks, run.config.device, given) as environment:
        around = replace(around, environment=environment)
        return _run_ranks(run, plan, latest, around, meeting)


def _run_ranks(
    run: RunFolder,
    plan: Plan,
    latest: Resumable,
    around: Surroundings,
    meeting: Meeting | None,
) -> list[str]:
    """Runs the ranks; where a micro-batch does not fit into memory, again with half of it.

    On a single host: several would have to agree. meeting: that host 0 has called to; host 0
    itself calls here. Returns what there is to say about it.
    """
    notes: list[str] = []
    if run.config.hosts.nodes > 1 and meeting is None:
        meeting = _call_hosts(run, latest, around)
    while True:
        try:
            run_ranks(run, plan, latest.step, around, meeting)
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
            latest = latest_checkpoint(run.path, run.owns)


def run_path(config: TrainConfig, store: Store) -> Path:
    """The run's folder: as configured, else named by what is trained on what."""
    name = f"{config.model}-{len(store.label_map)}classes"
    named = RUNS / f"{name}-{config.identity(store.manifest.fingerprint)}"
    return (config.run_dir or named).absolute()


def run_file(config: TrainConfig) -> Path:
    """The file that a run begun anew is written to, there or not. Raises `StoreError`."""
    return run_path(config, Store.open(config.store)) / "run.json"


def _open_run(config: TrainConfig, store: Store, plan: Plan) -> RunFolder:
    """The run to continue, or a new one."""
    fingerprint = store.manifest.fingerprint
    path = run_path(config, store)
    resolved = config.updated({"store": store.path, "run_dir": path, "fresh": False})
    if RunFolder.is_there(path) and not config.fresh:
        run = RunFolder.read(path)
        if run.identity != config.identity(fingerprint):
            raise CheckpointError(
                f"{path} holds a run with other options, data or code; give another --run-dir, "
                "or --fresh to start over there"
            )
        # What does not decide the weights, such as the number of ranks, may be another now.
        run = replace(run, config=resolved)
        run.write()
        return run
    _fetch_weights(config, len(store.label_map))
    _clear(path)
    plan.write(path)
    run = RunFolder(path, resolved, fingerprint, secrets.token_hex(8), code=training_code())
    run.write()
    return run


def _call_hosts(run: RunFolder, latest: Resumable, around: Surroundings) -> Meeting:
    """Host 0's part of the meeting: waits for the other hosts."""
    hosts = run.config.hosts
    with progress("train", None, "") as bar:
        bar.note(f"waiting for {hosts.nodes - 1} more hosts in {run.path}")
        attempt, address = call_hosts(run.path, hosts, run.key, latest.step, around.stopping)
    return Meeting(attempt.id, address)


def _join_run(
    config: TrainConfig, store: Store, stopping: threading.Event | None
) -> tuple[RunFolder, Resumable, Meeting | None]:
    """The run that host 0 has begun in the folder that all hosts share, and where the others
    meet; none where all is done.
    """
    path = run_path(config, store)
    while True:
        found = _finished(path, config, store)
        if found is not None:
            return (*found, None)
        _fetch_weights(config, len(store.label_map))
        with progress("train", None, "") as bar:
            bar.note(f"waiting for host 0 to begin in {path}")
            attempt, address = answer_host_0(path, config.hosts, stopping)
        run, latest = _as_host_0_sees_it(path, config, store, attempt)
        if attempt.id:
            return run, latest, Meeting(attempt.id, address)


def _finished(path: Path, config: TrainConfig, store: Store) -> tuple[RunFolder, Resumable] | None:
    """The run where nothing is left to train. What else is there is host 0's to judge."""
    try:
        run = RunFolder.read(path)
        latest = latest_checkpoint(path, run.owns)
    except CheckpointError:
        return None
    ours = run.identity == config.identity(store.manifest.fingerprint)
    done = ours and latest.checkpoint is not None and latest.checkpoint.finished
    return (_as_ours(run, config, store), latest) if done else None


def _as_host_0_sees_it(
    path: Path, config: TrainConfig, store: Store, attempt: Attempt
) -> tuple[RunFolder, Resumable]:
    """The run and its checkpoint, once the shared folder shows here what host 0 has there."""
    deadline = time.monotonic() + config.hosts.wait_seconds
    while True:
        run = RunFolder.read(path) if RunFolder.is_there(path) else None
        if run is not None and run.key == attempt.run:
            if run.identity != config.identity(store.manifest.fingerprint):
                raise CheckpointError(
                    f"{path} holds a run with other options, data or code than this host was "
                    "given; give all hosts the same command but for --node-rank, and the same "
                    "version of this program"
                )
            latest = latest_checkpoint(path, run.owns)
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
    return replace(run, path=path, config=config.updated(ours))


def _clear(path: Path) -> None:
    """Empties a run folder of what a run of ours left there, and of nothing else."""
    ours = ("run.json", CARD_NAME, f"{JOURNAL_NAME}*", "log.txt", "promotion.json")
    for pattern in (*ours, "checkpoints/*"):
        for old in path.glob(pattern):
            old.unlink()
    folders = [path / name for name in (ERRORS_NAME, ROWS_NAME, SAMPLES_NAME, MODEL_FOLDER)]
    evaluations = [path / "evaluation", *path.glob("evaluation-*")]
    for folder in evaluations:
        require_free_folder(folder)
    for folder in (*folders, *evaluations):
        shutil.rmtree(folder, ignore_errors=True)


def _params(config: TrainConfig) -> dict[str, object]:
    """The configuration flat, as MLflow compares it: `augment.shear` beside `model`."""
    return flattened(config.model_dump(mode="json", exclude={"run_dir", "fresh", "tracking_uri"}))


def _tags(config: TrainConfig, store: Store) -> dict[str, str]:
    commit, device = _git_commit(), choose_device(config.device, config.ranks)
    return {
        "code_version": training_code(),
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "quickdraw train",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "store_fingerprint": store.manifest.fingerprint,
        "label_map_sha256": store.label_map.sha256,
        "classes": str(len(store.label_map)),
        "world_size": str(config.world_size),
        "device": device,
    }


def _user() -> str:
    """Who runs this, as MLflow's own client would say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return "unknown"


def _git_commit() -> str:
    """The commit of this code; `unknown` outside a checkout."""
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "rev-parse", "HEAD"]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=here)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
