"""GPUs, of which two runs must never use the same.

How many are free is a global concurrency limit of the Prefect server, named `gpu`: runs queue
there, and it is seen in the UI. Its slots are leased, so that those of a run that was killed come
back by themselves. Which GPUs they are is a lock of the host's kernel for each: it is let go at
the moment its holder dies, and never before, so that a lease that ran out while the server was
away gives nobody a GPU that is in use.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from prefect.concurrency.sync import concurrency

from quickdraw_core.progress import progress
from quickdraw_core.sweep.slots import visible_devices
from quickdraw_core.training.hardware import choose_device

LIMIT = "gpu"
LEASE_SECONDS = 60
_LOOK_SECONDS = 1.0


@contextmanager
def gpus_taken(ranks: int, device: str = "auto") -> Iterator[dict[str, str]]:
    """A block in which as many GPUs as `ranks` are this run's alone; waits until they are free.

    Yields the variables that show the processes of the run those GPUs and no others; none where
    the work is the CPU's. A limit that was never made admits everybody: the locks still hold.
    """
    if choose_device(device, ranks) != "cuda":
        yield {}
        return
    devices = visible_devices(torch.cuda.device_count(), os.environ)
    with slots_taken(ranks), devices_locked(devices, ranks) as taken:
        yield {"CUDA_VISIBLE_DEVICES": ",".join(taken)}


@contextmanager
def slots_taken(count: int) -> Iterator[None]:
    """A block that holds `count` slots of the limit. That a lease cannot be renewed while the
    server is away never ends the work within.
    """
    with concurrency(
        LIMIT,
        occupy=count,
        lease_duration=LEASE_SECONDS,
        strict=False,
        raise_on_lease_renewal_failure=False,
    ):
        yield


@contextmanager
def devices_locked(devices: Sequence[str], count: int) -> Iterator[tuple[str, ...]]:
    """A block that holds `count` of this host's devices, once so many are free."""
    folder = Path(os.environ.get("QUICKDRAW_GPU_LOCKS") or tempfile.gettempdir())
    with ExitStack() as stack, progress("gpu", None, "") as bar:
        taken = _try_lock(folder, devices, count, stack)
        while taken is None:
            bar.note(f"waiting for {count} of the GPUs {', '.join(devices)}")
            time.sleep(_LOOK_SECONDS)
            taken = _try_lock(folder, devices, count, stack)
        bar.note("")
        yield taken


def _try_lock(
    folder: Path, devices: Sequence[str], count: int, stack: ExitStack
) -> tuple[str, ...] | None:
    """Locks as many as are asked for, or none."""
    taken: list[str] = []
    with ExitStack() as attempt:
        for device in devices:
            name = device.replace(os.sep, "-")
            opened = _opened(folder / f"quickdraw-gpu-{name}.lock")
            attempt.callback(os.close, opened)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            taken.append(device)
            if len(taken) == count:
                stack.push(attempt.pop_all())
                return tuple(taken)
    return None


def _opened(path: Path) -> int:
    """A descriptor of a lock file that every user of the host may lock, whoever made it.

    It is never written to, but a network's file system locks only what is opened for that.
    O_CREAT is for a file that is missing alone: in a folder like /tmp the kernel refuses it for
    a file of another user (`fs.protected_regular`).
    """
    with suppress(FileExistsError):
        if not path.exists():
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(made, 0o666)  # whatever the umask of who is first
            return made
    try:
        return os.open(path, os.O_RDWR)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


@contextmanager
def seen_here(environment: Mapping[str, str]) -> Iterator[None]:
    """A block in which this process, too, sees those GPUs alone: for work that it does itself.

    CUDA reads the variable once, when it is first used, and the processes of a training are not
    this one: what works on a GPU here has to be the first in this process that does.
    """
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
