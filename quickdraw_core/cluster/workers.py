"""The workers of a Dask cluster: which of them can do work of this package, one a host.

What is asked of a worker is asked by functions that travel by value: a worker with another
version of this package may lack any of ours.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from quickdraw_core.errors import ConfigError, and_more, first_line
from quickdraw_core.system.code_version import package_version

PROCESS_KEY = "quickdraw-process"
"""What the names of Dask tasks begin with that are a sub-process of their worker."""

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Worker:
    """A worker that can be given work now. id: of this start of it; one that is started again at
    the same address has another. host: name or address by which the other workers reach it.
    """

    address: str
    id: str
    host: str


class Survey(NamedTuple):
    """What a cluster has: a worker of each host that can work now, the number of hosts that
    could but are busy, and why other workers cannot.
    """

    free: list[Worker]
    busy: int
    unfit: dict[str, str]

    @property
    def hosts(self) -> int:
        """Hosts that can work, now or once they are done with other work."""
        return len(self.free) + self.busy

    def unfit_text(self) -> str:
        """Why workers cannot work, for a message; empty if all can."""
        reasons = [f"{host} {why}" for host, why in sorted(self.unfit.items())]
        return "; ".join(reasons[:3]) + and_more(len(reasons) - 3)


def survey(client: Any, resources: Mapping[str, float]) -> Survey:
    """Asks a cluster for its workers. resources: that a worker must have."""
    known = client.scheduler_info(n_workers=-1)["workers"]
    tasks = client.processing()
    unfit: dict[str, str] = {}
    fit: list[Worker] = []
    answers = _ask(client)
    for address, facts in sorted(known.items()):
        host, answer = host_of(address), answers.get(address, _SILENT)
        why = answer.problem or _lacking(facts.get("resources", {}), resources)
        if why is None:
            fit.append(Worker(address, answer.id, host))
        else:
            unfit[host] = why
    # A host's other worker is idle in vain: two such processes would share its processors.
    at_work = {
        host_of(address)
        for address, keys in tasks.items()
        if any(str(key).startswith(PROCESS_KEY) for key in keys)
    }
    free: dict[str, Worker] = {}
    for worker in fit:
        is_full = len(tasks.get(worker.address, ())) >= known[worker.address]["nthreads"]
        if worker.host not in at_work and not is_full:
            free.setdefault(worker.host, worker)
    hosts = {worker.host for worker in fit}
    unfit = {host: why for host, why in unfit.items() if host not in hosts}
    return Survey([*free.values()], len(hosts) - len(free), unfit)


def wait_for(
    client: Any,
    resources: Mapping[str, float],
    is_enough: Callable[[Survey, float], bool],
    pause: Callable[[float], object] = time.sleep,
) -> Survey:
    """The first survey that `is_enough`, which is given it and the seconds waited so far."""
    begun = time.monotonic()
    while not is_enough(found := survey(client, resources), time.monotonic() - begun):
        pause(_POLL_SECONDS)
    return found


class _Answer(NamedTuple):
    """Of a worker. problem: why it cannot work; None: nothing is known to be wrong."""

    id: str
    problem: str | None


_SILENT = _Answer("", "does not answer")


def _ask(client: Any) -> dict[str, _Answer]:
    """Which start of a worker is at an address, and whether it has this version."""

    def version(dask_worker: Any) -> tuple[str, str]:  # by value, hence its own imports
        try:
            from quickdraw_core.system.code_version import package_version
        except ImportError:
            return dask_worker.id, ""
        return dask_worker.id, package_version()

    return {
        address: _judged(answer)
        for address, answer in client.run(version, on_error="return").items()
    }


def _judged(answer: Any) -> _Answer:
    if isinstance(answer, Exception):
        return _Answer("", f"fails: {first_line(answer)}")
    (id_, version), ours = answer, package_version()
    if version == ours:
        return _Answer(id_, None)
    if not version:
        return _Answer(id_, "does not have this package")
    return _Answer(id_, f"has another version of this package ({version}, here {ours})")


def _lacking(has: Mapping[str, float], needs: Mapping[str, float]) -> str | None:
    """Which resource is missing; None: none is."""
    for name, amount in needs.items():
        if has.get(name, 0) < amount:
            return f"has {has.get(name, 0):g} of the resource {name}"
    return None


def host_of(address: str) -> str:
    """Of `tcp://host:port`, also with an IPv6 address in brackets."""
    return address.partition("://")[2].rpartition(":")[0].strip("[]")


def names_of(workers: Iterable[Worker]) -> str:
    """The workers' hosts, for messages."""
    hosts = [worker.host for worker in workers]
    return ", ".join(hosts[:5]) + and_more(len(hosts) - 5)


def check_versions(client: Any, address: str) -> None:
    """Raises `ConfigError` if a worker of the cluster at an address has another version of this
    package, or none.
    """
    for worker, answer in sorted(_ask(client).items()):
        if answer.problem is not None:
            raise ConfigError(
                f"the worker {worker} of the Dask cluster {address} {answer.problem}; give all of "
                "them this version"
            )
