"""What MLflow gets of a training: params and tags, its status, the last checkpoint and the best
model; and when.
"""

import getpass
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from quickdraw_core.assignments import flattened
from quickdraw_core.diagnosis.cost import cost_of, cost_tags
from quickdraw_core.launching.best_model import log_best, warming_up
from quickdraw_core.launching.provenance import provenance_tags
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import deliver_rest, delivery_thread
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    Record,
    append,
    file_record,
    follow,
    last_status,
    now_ms,
    status_record,
    tags_record,
)
from quickdraw_core.training.checkpoint import LAST_ARTIFACT, find_checkpoint
from quickdraw_core.training.config import TrainConfig, training_code
from quickdraw_core.training.hardware import choose_device
from quickdraw_core.training.run_folder import RunFolder

Reported = tuple[list[str], str | None]
"""Notes for the user, and what MLflow did not take, if anything."""


def params_of(config: TrainConfig) -> dict[str, object]:
    """The configuration flat, as MLflow compares it: `augment.shear` beside `epochs`."""
    excluded: Any = {"run_dir": True, "fresh": True, "tracking": {"uri"}}
    return flattened(config.model_dump(mode="json", exclude=excluded))


def tags_of(run: RunFolder, store: Store) -> dict[str, str]:
    """Code, data and machine of a training."""
    config = run.config
    device = choose_device(config.hardware.device, config.hardware.ranks)
    also = run.config.select.also_fingerprint
    commit = str(run.provenance.get("code", {}).get("git commit", "unknown"))
    return {
        "code_version": training_code(),
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "quickdraw train",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "store_fingerprint": store.manifest.fingerprint,
        **({} if also is None else {"also_store_fingerprint": also}),
        "label_map_sha256": store.label_map.sha256,
        "classes": str(len(store.label_map)),
        "world_size": str(config.world_size),
        "device": device,
        **provenance_tags(run.provenance),
    }


def report_training(
    run: RunFolder, pack: Pack, uri: str, opened: Opened, train: Callable[[], list[str]]
) -> Reported:
    """Trains, and delivers the journal to MLflow meanwhile. Raises what `train` does.

    train: runs the ranks and returns notes.
    """
    status, failure = "KILLED", None  # Ctrl-C, and a termination that an orchestrator raises
    append(run.path, status_record("RUNNING"))
    with delivery_thread(run.path, uri) as thread:
        try:
            with nullcontext() if uri == NO_TRACKING else warming_up(run, pack):
                notes = train()
            notes += [] if uri == NO_TRACKING else log_best(run, pack, opened)
            status = "FINISHED"
        except Exception as error:
            status, failure = "FAILED", error
            raise
        finally:
            _record_end(run.path, status_record(status, failure))
    return notes, thread.delivery.problem


def report_finished(run: RunFolder, pack: Pack, uri: str, opened: Opened) -> Reported:
    """Reports the end of a training that was killed after its last step, and delivers the rest."""
    notes = [] if uri == NO_TRACKING else log_best(run, pack, opened)
    records, _ = follow(run.path / JOURNAL_NAME, 0)
    if last_status(records) != "FINISHED":
        # At the time of the last record, which is when it ended.
        times = [record["time_ms"] for record in records if "time_ms" in record]
        ended = {"time_ms": max(times, default=now_ms())}
        _record_end(run.path, status_record("FINISHED") | ended)
    return notes, None if uri == NO_TRACKING else deliver_rest(run.path).problem


def _record_end(run_dir: Path, status: Record) -> None:
    """The last checkpoint, what the training has cost, and its status."""
    last = find_checkpoint(run_dir, "last")
    if last is not None:
        append(run_dir, file_record(last, LAST_ARTIFACT))
    records, _ = follow(run_dir / JOURNAL_NAME, 0)
    append(run_dir, tags_record(cost_tags(cost_of([*records, status]))), status)


def _user() -> str:
    """Who runs this, as MLflow's own client would say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return "unknown"
