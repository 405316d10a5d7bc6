"""What it means for a command that a launcher (srun, torchrun, Kubeflow's Trainer) started it."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.cluster.environment import Launched, find_launched, launcher_job, slurm_address
from quickdraw_core.commands.options import given, train_config_of, with_fastest_ranks
from quickdraw_core.errors import ConfigError, StoreError
from quickdraw_core.terminal.console import errors
from quickdraw_core.terminal.progress_display import display_as

if TYPE_CHECKING:
    from quickdraw_core.config import Config
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.training.config import TrainConfig

C = TypeVar("C", bound="Config")

_HOSTS = {"nnodes": "nodes", "node_rank": "node_rank", "rendezvous": "rendezvous"}
"""Options of `train`, and the values of `HostsConfig` that they give."""


def launched_train_config(
    options: Mapping[str, Any], changes: Iterable[str] | None
) -> "tuple[TrainConfig, Launched]":
    """The configuration of `train`, on the hosts that a launcher says unless options do, and what
    that launcher says. Raises `ConfigError` if the two contradict each other.
    """
    launched = _launched_here()
    asked = {_HOSTS[name]: value for name, value in given(options, *_HOSTS).items()}
    changed = parse_assignments(changes or ()).get("hosts")
    if isinstance(changed, dict):
        asked |= {name: changed[name] for name in _HOSTS.values() if name in changed}
    by_dask = given(options, "dask")
    if launched.nodes > 1 and (by_dask or (isinstance(changed, dict) and changed.get("dask"))):
        raise ConfigError(
            f"--dask starts the hosts itself, and this is {launched.where}; give the command "
            "once, or leave --dask out"
        )
    values = {
        "hosts": launched.hosts(asked) | by_dask,
        "ranks": options["ranks"] or launched.ranks,
    }
    try:
        config = train_config_of(options["recipe"], {**options, **values}, changes)
    except ConfigError as error:
        if launched.nodes > 1 and "shared out" in str(error):
            raise ConfigError(f"{error} ({launched.all})") from error
        raise
    if values["ranks"] is None:
        config = with_fastest_ranks(config, parse_assignments(changes or ()))
    config = going_on_training(launched, config)
    if launched.alone_of > 1 and config.hosts.nodes == 1 and config.hosts.dask is None:
        errors.print(
            f"note: this job has {launched.alone_of} nodes, and this training one of them; "
            "`srun quickdraw train …` has all of them",
            markup=False,
            soft_wrap=True,
        )
    return config, launched


def started_once(command: str) -> Launched:
    """What a launcher says around a command that does its work on one host. Raises `ConfigError`
    if it was started on several.
    """
    launched = _launched_here()
    launched.require_alone(command)
    return launched


def shown_once(launched: Launched) -> AbstractContextManager[None]:
    """A block whose progress host 0 alone shows: that of all of them is the same."""
    return display_as("none") if launched.node_rank else nullcontext()


def going_on(launched: Launched, config: C, is_begun_by: Callable[[str], bool]) -> C:
    """The configuration of work that a launcher may have started again: `fresh` no longer counts
    once an earlier start of this very job has begun. It may have ended before that; what is there
    is then what is to be replaced.

    is_begun_by: whether a job, as `launcher_job` gives it, was the last to start over there.
    """
    if getattr(config, "fresh", False) and has_begun(launched, is_begun_by):
        return config.updated({"fresh": False})
    return config


def going_on_ingest(launched: Launched, config: "IngestConfig") -> "IngestConfig":
    """As `going_on`, of an ingest."""
    return going_on(launched, config, partial(_is_ingest_of, config))


def going_on_training(launched: Launched, config: "TrainConfig") -> "TrainConfig":
    """As `going_on`, of a training."""
    return going_on(launched, config, partial(_is_training_of, config))


def redone_from(
    launched: Launched, stage: str | None, ingest: "IngestConfig", train: "TrainConfig"
) -> str | None:
    """From which stage on a pipeline is done anew if a launcher may have started it again: from
    the one after the last that an earlier start of this very job has begun anew.

    stage: the one that was asked for. Those between ingest and training take minutes.
    """
    if stage in ("ingest", "pack", "train") and has_begun(
        launched, partial(_is_training_of, train)
    ):
        return "evaluate"
    if stage == "ingest" and has_begun(launched, partial(_is_ingest_of, ingest)):
        return "pack"
    return stage


def has_begun(launched: Launched, is_begun_by: Callable[[str], bool]) -> bool:
    """Whether a launcher started this very job again, and an earlier start of it has begun."""
    return launched.is_restart and is_begun_by(launcher_job(os.environ))


def _is_ingest_of(config: "IngestConfig", job: str) -> bool:
    from quickdraw_core.storage.begun_by import is_begun_by
    from quickdraw_core.storage.factory import storage_of

    return is_begun_by(storage_of(config.store), job)


def _is_training_of(config: "TrainConfig", job: str) -> bool:
    from quickdraw_core.launching.open_run import is_begun_by
    from quickdraw_core.stage import Opened

    try:
        return is_begun_by(job, config, Opened())
    except StoreError:  # without the store that names its folder no run was begun
        return False


def _launched_here() -> Launched:
    is_task = os.environ.get("SLURM_TASK_PID") == str(os.getpid())
    is_at_terminal = sys.stdin is not None and sys.stdin.isatty()
    return find_launched(os.environ, slurm_address, is_at_terminal and not is_task)
