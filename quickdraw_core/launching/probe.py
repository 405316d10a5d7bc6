"""A probe: a training's first steps in a folder of their own, to learn its speed and its memory.

It is a real one, from torch's launcher to the checkpoint, with the same ranks, loader and step;
its weights are thrown away. One step that is not counted (it compiles, allocates and reads the
first pages), then `PROBE_STEPS` that are, one validation and one checkpoint.
"""

import os
import shutil
import signal
import stat
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickdraw_core.errors import TrainingError
from quickdraw_core.launching.gpus import gpu_waits
from quickdraw_core.launching.launch import launch
from quickdraw_core.launching.open_run import begin_run, run_path
from quickdraw_core.launching.processes import RunContext
from quickdraw_core.launching.room import checkpoint_bytes, teachers_bytes
from quickdraw_core.loading.joined import TrainPack
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.system.disk import Need, require_room
from quickdraw_core.system.locks import held, holder_of
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow
from quickdraw_core.training.checkpoint import Resumable, find_checkpoint
from quickdraw_core.training.config import HostsConfig, TrainConfig
from quickdraw_core.training.plan import Plan, Rows

PROBE_STEPS = 20
_WARM_STEPS = 1
_STEPS = _WARM_STEPS + PROBE_STEPS
_PREFIX = "quickdraw-probe-"
_PROBE_LOCK = ".probe"
_BEGUN_SECONDS = 60.0
_T_95 = 2.093
"""Student's t of 95 % for the mean of `PROBE_STEPS` values."""
_VALIDATED = 1_000
"""Drawings that a probe validates on, about."""


@dataclass(frozen=True)
class Probe:
    """What a probe measured.

    step_seconds: of each counted step. start_seconds: of all that is neither a counted step nor a
    validation nor a checkpoint: starting the ranks, the first step, ending. drawing_seconds: of
    one validation drawing. checkpoint_bytes, checkpoint_seconds: of one. memory_megabytes: the
    most that any rank took, validating or not; of the GPU's memory if it has one. seconds: of the
    whole probe, but for waited_seconds, in which it waited for GPUs that others use. notes: what
    went otherwise than asked for.
    """

    step_seconds: tuple[float, ...]
    start_seconds: float
    drawing_seconds: float
    checkpoint_bytes: int
    checkpoint_seconds: float
    memory_megabytes: float
    seconds: float
    notes: tuple[str, ...] = ()
    waited_seconds: float = 0.0

    @property
    def step_mean(self) -> float:
        """Seconds of a step."""
        return statistics.fmean(self.step_seconds)

    def half_width(self, steps: int) -> float:
        """Half of the interval, in seconds, that holds the time of so many further steps with
        95 % probability, if they vary as those of the probe and each for itself.
        """
        spread = statistics.stdev(self.step_seconds)
        share = 1 / len(self.step_seconds) + 1 / steps if steps else 0.0
        return float(_T_95 * spread * steps * share**0.5)


def probe(
    config: TrainConfig, store: Store, pack: TrainPack, context: RunContext, opened: Opened
) -> Probe:
    """Trains a few steps and measures them; leaves nothing. Of several hosts this one probes
    alone, with its share of the global batch: what they exchange between them is not in it.

    Raises what a training raises.
    """
    begun = time.perf_counter()
    # The workers of a cluster see the run's folder, and not this host's temporary files.
    shared = None if context.nodes is None else run_path(config, store).parent
    with own_folder(shared) as path:
        size = checkpoint_bytes(config, len(store.label_map))
        copies = 0 if config.distill is None else teachers_bytes(config.distill)
        require_room([Need("the probe's checkpoint", size + copies, path, "TMPDIR")])
        probing, here = probing_config(config, path, len(store.label_map)), opened.branch()
        rows = Rows.of(probing, pack)
        run = begin_run(probing, store, rows, lambda: _STEPS, here)
        try:
            plan = Plan.of(probing, rows, _STEPS)
            titled = context.titled("probe")
            with gpu_waits() as waits:
                notes = launch(run, plan, Resumable(None), titled, here)
        except TrainingError as error:
            reason = str(error).partition(f"; see {path}")[0]
            raise type(error)(f"a probe of {_STEPS} steps failed: {reason}") from error
        records, _ = follow(path / JOURNAL_NAME, 0)
        checkpoint = find_checkpoint(path, "last")
        assert checkpoint is not None
        return _measured(
            records,
            images_a_step=probing.global_batch_size,
            validated=len(rows.validation),
            checkpoint=checkpoint.stat(),
            seconds=time.perf_counter() - begun - sum(waits),
            waited=sum(waits),
            notes=tuple(notes),
        )


@contextmanager
def own_folder(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder for a block, deleted at its end, also by SIGTERM; what probes that were
    killed have left is deleted before. parent: where it is; None: among the temporary files.
    """
    temporary = parent or Path(tempfile.gettempdir())
    temporary.mkdir(parents=True, exist_ok=True)
    for old in temporary.glob(f"{_PREFIX}*"):
        if _is_left(old):
            shutil.rmtree(old, ignore_errors=True)
    with (
        _ended_by_sigterm(),
        tempfile.TemporaryDirectory(
            prefix=_PREFIX, dir=temporary, ignore_cleanup_errors=True
        ) as folder,
        held(Path(folder) / _PROBE_LOCK, folder, "probe"),
    ):
        yield Path(folder)


def _is_left(folder: Path) -> bool:
    """Whether a folder is of a probe of this user that has ended without deleting it."""
    try:
        facts = folder.lstat()
        is_ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
        # Of one that has only just begun the lock is not there yet.
        is_old = (folder / _PROBE_LOCK).exists() or time.time() - facts.st_mtime > _BEGUN_SECONDS
    except OSError:  # deleted meanwhile
        return False
    return is_ours and is_old and holder_of(folder / _PROBE_LOCK) is None


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A block that SIGTERM ends as an exception does, so that it can tidy up, and then this
    process as ever. Whoever handles the signal already goes on doing so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    received = []

    def end(number: int, _: object) -> None:
        received.append(number)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if received:
            os.kill(os.getpid(), signal.SIGTERM)


def probing_config(config: TrainConfig, path: Path, classes: int) -> TrainConfig:
    """The configuration of a probe: what the speed depends on is as in `config`."""
    per_class = max(1, _VALIDATED // classes)
    if config.validation.per_class is not None:
        per_class = min(per_class, config.validation.per_class)
    return config.updated(
        {
            "run_dir": path,
            "fresh": False,
            "max_steps": _STEPS,
            "global_batch_size": config.global_batch_size // config.hosts.nodes,
            "model": {"pretrained": None},
            # A step takes as long at any rate, and none diverges at this one.
            "optimizer": {"learning_rate": 1e-6},
            "schedule": {"name": "constant", "warmup_steps": 0},
            "validation": {"every_steps": _STEPS, "per_class": per_class, "patience": None},
            "checkpoints": {"every_steps": None, "keep": 1},
            "tracking": {"uri": "none", "log_every_steps": 1, "record_samples": False},
            # One of the workers, if the ranks run there.
            "hosts": config.hosts.model_dump() | {"nodes": 1, "min_nodes": 1}
            if config.hosts.dask is not None
            else HostsConfig().model_dump(),
        }
    )


def _measured(
    records: Iterable[dict[str, Any]],
    *,
    images_a_step: int,
    validated: int,
    checkpoint: os.stat_result,
    seconds: float,
    waited: float,
    notes: tuple[str, ...],
) -> Probe:
    """What the journal of a probe says. Pure."""
    points = [record for record in records if "metrics" in record]
    trained = [record for record in points if "train/loss" in record["metrics"]]
    judged = [record for record in points if "validation/loss" in record["metrics"]]
    steps = [
        images_a_step / record["metrics"]["train/images_per_second"]
        for record in trained[_WARM_STEPS:]
    ]
    validation_ms = judged[-1]["time_ms"] - trained[-1]["time_ms"]
    checkpoint_ms = max(0.0, checkpoint.st_mtime_ns / 1e6 - judged[-1]["time_ms"])
    measured = sum(steps) + (validation_ms + checkpoint_ms) / 1e3
    return Probe(
        step_seconds=tuple(steps),
        start_seconds=max(0.0, seconds - measured),
        drawing_seconds=validation_ms / 1e3 / validated,
        checkpoint_bytes=checkpoint.st_size,
        checkpoint_seconds=checkpoint_ms / 1e3,
        memory_megabytes=judged[-1]["metrics"]["train/memory_megabytes"],
        seconds=seconds,
        notes=notes,
        waited_seconds=waited,
    )
