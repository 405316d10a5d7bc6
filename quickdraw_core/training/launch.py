"""The training stage: a run folder, an MLflow run, and torch's launcher as a sub-process.

The launcher's own restarts stay off (with gloo they hang); who wants to go on calls `train`
again, and the same configuration on the same data continues from the last checkpoint.
"""

import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from quickdraw_core.errors import CheckpointError, TrackingError, TrainingError
from quickdraw_core.progress import Bar, progress
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import resolve_tracking_uri
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow
from quickdraw_core.tracking.runs import set_status, start_run
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distributed import choose_device, die_with_parent
from quickdraw_core.training.run_folder import Plan, RunFolder

_ERRORS = "errors"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 30


@dataclass(frozen=True)
class TrainResult:
    """What a finished training says of itself.

    skipped: it was finished already. tracking_problem: why MLflow does not show all of it.
    """

    run_dir: Path
    mlflow_run_id: str
    tracking_uri: str
    best_checkpoint: Path
    metrics: dict[str, float]
    steps: int
    resumed_from: int
    skipped: bool
    tracking_problem: str | None


def train(config: TrainConfig) -> TrainResult:
    """Trains to the end of the plan, from the run folder's last checkpoint where it has one.

    Raises `StoreError`, `ConfigError` or `CheckpointError` before anything is started, and
    `TrainingError` where a rank fails.
    """
    store = check(config)
    pack = open_pack(store)
    plan = Plan.of(config, len(pack.rows(Split.TRAIN)))
    run, resumed_from = _open_run(config, store)
    skipped, problem = resumed_from >= plan.steps, None
    if not skipped:
        status = "KILLED"  # Ctrl-C, and a termination that an orchestrator raises
        try:
            _run_ranks(run, plan, resumed_from)
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            problem = _mark(run, status)
    best = find_checkpoint(run.path, "best")
    if best is None:
        raise TrainingError(f"the training ended without a checkpoint; see {run.path / 'log.txt'}")
    return TrainResult(
        run_dir=run.path,
        mlflow_run_id=run.mlflow_run_id,
        tracking_uri=run.tracking_uri,
        best_checkpoint=best,
        metrics=load_checkpoint(best).metrics,
        steps=plan.steps,
        resumed_from=resumed_from,
        skipped=skipped,
        tracking_problem=problem,
    )


def _mark(run: RunFolder, status: str) -> str | None:
    """Tells MLflow the run's status; returns what went wrong, since that stops no training."""
    try:
        set_status(run.tracking_uri, run.mlflow_run_id, status)
    except TrackingError as error:
        return str(error)
    return None


def check(config: TrainConfig) -> Store:
    """Opens the store to train on: what can be found wrong without work."""
    return Store.open(config.store)


def _open_run(config: TrainConfig, store: Store) -> tuple[RunFolder, int]:
    """The run to continue, or a new one; and the steps that it has done."""
    fingerprint = store.manifest.fingerprint
    identity = config.identity(fingerprint)
    classes = len(store.label_map)
    path = config.run_dir or Path("runs") / f"{config.model}-{classes}classes-{identity}"
    path = path.absolute()
    resolved = config.updated({"store": store.path, "run_dir": path, "fresh": False})
    if RunFolder.is_there(path) and not config.fresh:
        run = RunFolder.read(path)
        if run.config.identity(run.store_fingerprint) != identity:
            raise CheckpointError(
                f"{path} holds a run with other options or data; give another --run-dir, "
                "or --fresh to start over there"
            )
        # What does not decide the weights, such as the number of ranks, may be another now.
        run = replace(run, config=resolved)
        run.write()
        last = find_checkpoint(path, "last")
        return run, load_checkpoint(last).step if last else 0
    uri = resolve_tracking_uri(config.tracking_uri)
    device = choose_device(config.device, config.ranks)
    run_id = start_run(uri, path.name, _params(config), _tags(config, store, device))
    _clear(path)  # only now that the new run has a place: a refusal costs the old one nothing
    run = RunFolder(path, resolved, fingerprint, uri, run_id)
    run.write()
    return run, 0


def _clear(path: Path) -> None:
    """Empties a run folder of what a run of ours left there, and of nothing else."""
    for pattern in ("run.json", f"{JOURNAL_NAME}*", "log.txt", "checkpoints/*"):
        for old in path.glob(pattern):
            old.unlink()
    for folder in (_ERRORS, "evaluation"):
        shutil.rmtree(path / folder, ignore_errors=True)


def _params(config: TrainConfig) -> dict[str, object]:
    """The configuration flat, as MLflow compares it: `augment.shear` beside `model`."""
    flat: dict[str, object] = {}

    def walk(prefix: str, values: Mapping[str, object]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = value

    walk("", config.model_dump(mode="json", exclude={"run_dir", "fresh", "tracking_uri"}))
    return flat


def _tags(config: TrainConfig, store: Store, device: str) -> dict[str, str]:
    commit = _git_commit()
    return {
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "quickdraw train",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "store_fingerprint": store.manifest.fingerprint,
        "label_map_sha256": store.label_map.sha256,
        "classes": str(len(store.label_map)),
        "world_size": str(config.ranks),
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
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _run_ranks(run: RunFolder, plan: Plan, start: int) -> None:
    """Starts the ranks, shows their progress from the journal, and waits for their end."""
    if start:
        _mark(run, "RUNNING")
    seen = (run.path / JOURNAL_NAME).stat().st_size if (run.path / JOURNAL_NAME).exists() else 0
    errors = run.path / _ERRORS
    shutil.rmtree(errors, ignore_errors=True)  # of an attempt before this one
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(run.config.ranks), "--max-restarts", "0"]
    command += ["--log-dir", str(errors), "-m", "quickdraw_core.training.rank", str(run.path)]
    images = (plan.steps - start) * run.config.global_batch_size
    with (
        (run.path / "log.txt").open("ab") as log,
        progress("train", images, "images") as bar,
        _process(command, _environment(run.config), log) as process,
    ):
        bar.note(f"starting {run.config.ranks} processes")
        done = start
        while True:
            code = process.poll()
            records, seen = follow(run.path / JOURNAL_NAME, seen)
            done = _show(records, bar, done, run.config.global_batch_size)
            if code is not None:
                break
            time.sleep(_POLL_SECONDS)
    if code:
        raise TrainingError(f"training failed: {_first_error(errors)}; see {log.name}")


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


def _environment(config: TrainConfig) -> dict[str, str]:
    """The ranks' environment: cores shared out, and the loopback for gloo on one host."""
    threads = max(1, (os.cpu_count() or 1) // config.ranks)
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    # glibc gives the large tensors of a step back to the kernel and faults their pages in
    # again at the next one: a fifth of the time on a CPU. (Other allocators ignore these.)
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    if sys.platform.startswith("linux"):
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _show(records: list[dict[str, object]], bar: Bar, done: int, images_a_step: int) -> int:
    """Advances the bar by the steps that the records tell of; returns the steps done."""
    for record in records:
        metrics = record.get("metrics")
        if not isinstance(metrics, dict):
            continue
        step = int(str(record["step"]))
        if "train/loss" in metrics:
            bar.advance((step - done) * images_a_step)
            done = step
        if "validation/map_at_3" in metrics:
            bar.note(f"validation MAP@3 {metrics['validation/map_at_3']:.4f}")
    return done


def _first_error(errors: Path) -> str:
    """The first rank's error by time: the others only report that a peer is gone."""
    found = []
    for path in errors.glob("**/error.json"):
        try:
            message = json.loads(path.read_text())["message"]
            time_stamp = int(message["extraInfo"]["timestamp"])
            found.append((time_stamp, path.parent.name, str(message["message"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    if not found:
        return "the processes ended without saying why (killed, or out of memory)"
    _, rank, text = min(found)
    return f"rank {rank}: {text}"
