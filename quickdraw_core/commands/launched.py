"""What it means for a command that a launcher (srun, torchrun, Kubeflow's Trainer) started it."""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.cluster.environment import Launched, find_launched, job_of, slurm_address
from quickdraw_core.commands.options import given, train_config_of
from quickdraw_core.errors import ConfigError
from quickdraw_core.terminal.console import errors
from quickdraw_core.terminal.progress_display import display_as

if TYPE_CHECKING:
    from quickdraw_core.training.config import TrainConfig

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
    if launched.is_restart and config.fresh and _has_begun(config):
        config = config.updated({"fresh": False})
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


def _has_begun(config: "TrainConfig") -> bool:
    """Whether a start before of this very job has begun the run, for which `fresh` was. It may
    have ended before that; what the folder holds is then what is to be replaced.
    """
    from quickdraw_core.launching.open_run import is_begun_by
    from quickdraw_core.stage import Opened

    return is_begun_by(job_of(os.environ), config, Opened())


def _launched_here() -> Launched:
    is_task = os.environ.get("SLURM_TASK_PID") == str(os.getpid())
    is_at_terminal = sys.stdin is not None and sys.stdin.isatty()
    return find_launched(os.environ, slurm_address, is_at_terminal and not is_task)
