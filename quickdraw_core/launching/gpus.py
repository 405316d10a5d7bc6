"""The GPUs of this host, of which two runs must never use the same.

Which ones a run uses is a lock of the host's kernel for each: it is let go at the moment its
holder dies, and never before. How many of a whole site are free is for
an orchestrator to say, before.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import MappingProxyType

from quickdraw_core.progress import progress
from quickdraw_core.system.child_environment import applied_environment
from quickdraw_core.system.locks import try_lock
from quickdraw_core.training.hardware import choose_device, gpu_count

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LOOK_SECONDS = 1.0
_LIST_SECONDS = 60

_waits: ContextVar[list[float] | None] = ContextVar("quickdraw_gpu_waits", default=None)
_held: ContextVar[bool] = ContextVar("quickdraw_gpus_held", default=False)
"""Whether this is within a block that has locked the GPUs of all that is done in it."""


@contextmanager
def gpus_locked(ranks: int, device: str = "auto") -> Iterator[None]:
    """A block for work of this process: it sees as many GPUs as `ranks`, which are its own, once
    so many are free. Nothing is locked for work of the CPU, nor within `devices_locked`.

    CUDA reads its variable once, when it is first used, and the processes of a training are not
    this one: what works on a GPU here has to be the first in this process that does.
    """
    with rank_environment(ranks, device) as environment, applied_environment(environment):
        yield


@contextmanager
def rank_environment(
    ranks: int, device: str = "auto", given: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, str]]:
    """The same for work of other processes: yields the variables that show them those GPUs and
    no others.

    given: variables that they have anyway, and keep. Nothing is locked if these name GPUs,
    which whoever gave them has locked.
    """
    if VISIBLE in given or _held.get() or choose_device(device, ranks) != "cuda":
        yield dict(given)
        return
    with devices_locked(visible_devices(gpu_count(), os.environ), ranks) as taken:
        yield {**given, VISIBLE: ",".join(taken)}


@contextmanager
def devices_locked(devices: Sequence[str], count: int) -> Iterator[tuple[str, ...]]:
    """A block that holds `count` of this host's devices, once so many are free."""
    folder = Path(os.environ.get("QUICKDRAW_GPU_LOCKS") or tempfile.gettempdir())
    with ExitStack() as stack, progress("gpu", None, "") as bar:
        begun = time.perf_counter()
        taken = _try_lock(folder, devices, count, stack)
        while taken is None:
            bar.note(f"waiting for {count} of the GPUs {', '.join(devices)}")
            time.sleep(_LOOK_SECONDS)
            taken = _try_lock(folder, devices, count, stack)
        bar.note("")
        if (waits := _waits.get()) is not None:
            waits.append(time.perf_counter() - begun)
        outside = _held.set(True)
        try:
            yield taken
        finally:
            _held.reset(outside)


@contextmanager
def gpu_waits() -> Iterator[list[float]]:
    """A block that lists the seconds for which it has waited for GPUs."""
    waits: list[float] = []
    outside = _waits.set(waits)
    try:
        yield waits
    finally:
        _waits.reset(outside)


def _try_lock(
    folder: Path, devices: Sequence[str], count: int, stack: ExitStack
) -> tuple[str, ...] | None:
    """Locks as many as are asked for, or none."""
    taken: list[str] = []
    with ExitStack() as attempt:
        for device in devices:
            name = lock_name(device, os.environ, _uuids())
            opened = _opened(folder / f"quickdraw-gpu-{name}.lock")
            attempt.callback(os.close, opened)
            if try_lock(opened) is False:
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


def lock_name(device: str, environment: Mapping[str, str], uuids: Mapping[str, str]) -> str:
    """What all processes of this host call a GPU, whoever started them: its UUID, if it is known.

    Where Slurm confines jobs to their GPUs (cgroups), each job has a GPU 0. Without UUIDs that is
    the number which Slurm lists for it, or else 0: two jobs then wait for each other, and never
    use one GPU together. uuids: by number, of the GPUs that this process may use.
    """
    if device in uuids:
        return uuids[device]
    visible = [name.strip() for name in environment.get(VISIBLE, "").split(",")]
    listed = environment.get("SLURM_STEP_GPUS") or environment.get("SLURM_JOB_GPUS", "")
    numbers = listed.split(",")
    if listed and len(numbers) == len(visible) and device in visible:
        device = numbers[visible.index(device)]
    return device.replace(os.sep, "-")


@cache
def _uuids() -> Mapping[str, str]:
    """The UUIDs of the GPUs that this process may use, by their numbers, as the driver's own
    command lists them; empty without it. Asked for by torch, CUDA would begin here.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    try:
        listed = subprocess.run(
            [command, "-L"], capture_output=True, text=True, check=False, timeout=_LIST_SECONDS
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return uuids_in(listed)


def uuids_in(listed: str) -> dict[str, str]:
    """Number → UUID of each GPU in what `nvidia-smi -L` prints."""
    return dict(re.findall(r"^GPU (\d+): .*\(UUID: (GPU-[^)\s]+)\)", listed, re.MULTILINE))


def visible_devices(count: int, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the `count` GPUs of this process: 0, 1, …, or those given to it."""
    names = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(names[:count] if names else map(str, range(count)))
