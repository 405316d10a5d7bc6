"""One host's part of a training that another host leads: `python -m …node JOB`, JOB as JSON.

It starts torch's launcher as the leading host asks, follows it, and ends with it. It also ends
when the run folder says that its attempt is over, which it learns there even if whoever started
it cannot be reached.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from quickdraw_core.errors import CheckpointError, QuickdrawError, StoreError
from quickdraw_core.launching.gpus import rank_environment
from quickdraw_core.launching.nodes.attempt import read_attempt
from quickdraw_core.launching.processes import launcher
from quickdraw_core.launching.rendezvous import Rendezvous, address_towards
from quickdraw_core.loading.joined import opened_train_pack
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import open_store
from quickdraw_core.training.checkpoint import CHECKPOINTS, step_of
from quickdraw_core.training.hardware import check_hardware
from quickdraw_core.training.run_folder import RUN_NAME, RunFolder

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_SEEN_SECONDS = 60.0
"""How long a shared folder may take to show here what the leading host has written there."""


@dataclass(frozen=True)
class Job:
    """What a node is to do. run, store, also: where they are; also: the second store, if there is
    one. node_rank: its number. attempt: its id. run_sha256: of `run.json` as the leading host
    wrote it. step: of the checkpoint from which the run goes on; 0: of none. endpoint: host:port
    of node 0, where the launchers meet, and peer: the host of another node, whose network this one
    is to use; empty if there is one node. defaults: variables, for those that this host has none
    of.
    """

    run: str
    store: str
    node_rank: int
    attempt: str
    run_sha256: str
    step: int = 0
    endpoint: str = ""
    peer: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    also: str = ""

    def words(self) -> list[str]:
        """The command that does it, but for the Python."""
        return ["-m", __name__, json.dumps(asdict(self))]


def digest_of(run_dir: Path) -> str:
    """Of a run folder's `run.json`."""
    return hashlib.sha256((run_dir / RUN_NAME).read_bytes()).hexdigest()


def work(job: Job) -> int:
    """Runs this host's ranks to their end; returns the exit code of their launcher.

    Raises `CheckpointError`, `StoreError` or `ConfigError` before they are started.
    """
    run = _run_of(job)
    check_hardware(run.config.hardware)
    opened = Opened()
    store = open_store(run.config.store, opened)
    if store.manifest.fingerprint != run.store_fingerprint:
        raise StoreError(
            f"the store {job.store} is another one on this host than where the training was "
            "begun; give one that all hosts share, or copies of it"
        )
    # Once for all ranks, if this host has none yet.
    opened_train_pack(store, run.config.select, opened)
    rendezvous = None
    if job.endpoint:
        rendezvous = Rendezvous(job.attempt, address_towards(job.peer), job.endpoint)
    hardware = run.config.hardware
    with (
        rank_environment(hardware.ranks, hardware.device) as environment,
        launcher(run, rendezvous, environment, sys.stdout.buffer) as process,
    ):
        next_look = time.monotonic() + _LOOK_SECONDS
        while (code := process.poll()) is None:
            time.sleep(_POLL_SECONDS)
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + _LOOK_SECONDS
            attempt = read_attempt(run.path)
            if attempt is not None and attempt["attempt"] != job.attempt:
                print("the attempt is over: its processes end", flush=True)  # noqa: T201
                return 1
    return code


def _run_of(job: Job) -> RunFolder:
    """The run as the leading host sees it, once the shared folder shows it here."""
    path = Path(job.run)

    def is_shown() -> bool:
        with suppress(OSError):
            steps = [0, *map(step_of, (path / CHECKPOINTS).glob("step-*.pt"))]
            return job.step in steps and digest_of(path) == job.run_sha256
        return False

    if not _within(_SEEN_SECONDS, is_shown):
        raise CheckpointError(
            f"{path} does not show on this host what the leading one has written there; give a "
            "--run-dir that all hosts share"
        )
    run = RunFolder.read(path)
    place = {"node_rank": job.node_rank, "rendezvous": job.endpoint or None}
    hosts = {"dask": None, "tls": None, "require": None, "nodes": run.config.hosts.nodes} | place
    changes = {"store": job.store, "run_dir": path, "hosts": hosts}
    changes |= {"select": {"also": job.also}} if job.also else {}
    return replace(run, config=run.config.updated(changes))


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def main() -> int:
    """Works; an error is a line that begins with its name."""
    # As an exception, so that the launcher is ended in peace, and its GPUs are let go after it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        job = Job(**json.loads(sys.argv[1]))
        for name, value in job.defaults.items():
            os.environ.setdefault(name, value)
        return work(job)
    except QuickdrawError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
