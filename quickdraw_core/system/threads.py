"""How many threads compute in a process, and how they wait for each other.

The one place that decides both, for commands, workers, training and evaluation processes and
tests. torch's OpenMP runtime reads its variables once, when torch is loaded. So they are set
before, by the process that starts it. This module loads nothing but the standard library.
"""

import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

NUM_THREADS = "OMP_NUM_THREADS"

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""A thread that has done its part of a parallel loop sleeps until the others are done.

By default it spins: libgomp, which torch's wheels for Linux bundle, for 300,000 turns, some
milliseconds. Beside other work the thread that it waits for may have been taken off its core, and
to spin is to use up the time in which that thread could have run (benchmarks/bench_shared.py;
docs/decisions/0023). `OMP_WAIT_POLICY` says the same to the other runtimes, LLVM's and Intel's.
"""

_USERS_WAITING = (*WAITING, "KMP_BLOCKTIME")
"""A user who sets one of these has decided how threads wait."""

_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def set_waiting(environment: MutableMapping[str, str]) -> None:
    """Sets how threads wait, unless the environment says so already.

    environment: `os.environ`, before torch is loaded, or that of a process to be started.
    """
    if not any(name in environment for name in _USERS_WAITING):
        environment.update(WAITING)


def share_cores(environment: MutableMapping[str, str], processes: int) -> None:
    """Sets up the environment of one of several processes that compute on this host at once:
    how its threads wait, and a fair share of the cores. A user's own variables stay.
    """
    set_waiting(environment)
    environment.setdefault(NUM_THREADS, str(threads_each(processes)))


def threads_each(processes: int) -> int:
    """Threads of each of several processes: all cores shared out, and at least one."""
    return max(1, usable_cores() // processes)


def usable_cores() -> int:
    """Cores that this process may use: those of its affinity mask, or fewer if a cgroup, such
    as a container's, limits its time. Never a matter of how busy they are: the number of threads
    decides how sums are rounded, so a run that goes on must find the same one.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limits = cgroup_limits(_CGROUPS, _OWN_CGROUPS) if _OWN_CGROUPS.exists() else ()
    return max(1, min([cores, *map(math.ceil, limits)]))


def cgroup_limits(root: Path, own: Path) -> Iterator[float]:
    """Cores' worth of time that the cgroups of a process allow it, its own and those around it.

    root: where the kernel shows cgroups. own: the process's list of its own (man 7 cgroups). A
    container sees itself as the root of them all, with version 1 under the name that it has
    outside; so folders that are not there are passed over.
    """
    for line in own.read_text("utf-8").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        folder = top / name.lstrip("/")
        for group in (folder, *folder.parents):
            yield from _limit_v1(group) if controllers else _limit_v2(group)
            if group == top:
                break


def _limit_v2(group: Path) -> Iterator[float]:
    """Of `cpu.max`: microseconds (or max), and those of the period that they are of."""
    try:
        quota, period = (group / "cpu.max").read_text("utf-8").split()
        if quota != "max":
            yield int(quota) / int(period)
    except (OSError, ValueError):
        return


def _limit_v1(group: Path) -> Iterator[float]:
    """Of two files; a quota of -1 means no limit."""
    try:
        quota, period = (
            int((group / f"cpu.cfs_{name}_us").read_text("utf-8")) for name in ("quota", "period")
        )
    except (OSError, ValueError):
        return
    if quota > 0:
        yield quota / period
