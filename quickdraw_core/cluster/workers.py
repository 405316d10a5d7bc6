"""The workers of a Dask cluster: which of them can do work of this package, one a host.

What is asked of a worker is asked by functions that travel by value: a worker with another
version of this package may lack any of ours.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quickdraw_core.cluster.patience import LOST
from quickdraw_core.errors import ClusterError, ConfigError, and_more, first_line
from quickdraw_core.system.code_version import package_version

PROCESS_KEY = "quickdraw-process"
"""What the names of Dask tasks begin with that are a sub-process of their worker."""

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
"""How long a worker may take to answer. Dask takes one that hangs for lost after some minutes."""
_ASKED_AT_ONCE = 64
"""Each takes a connection to the scheduler."""


@dataclass(frozen=True)
class Worker:
    """A worker that can be given work now. id: of this start of it; one that is started again at
    the same address has another. host: name or address by which the other workers reach it.
    """

    address: str
    id: str
    host: str


class Survey(NamedTuple):
    """What a cluster has: a worker of each host that can work now, one of each host that could
    but is busy, and why other workers cannot.
    """

    free: list[Worker]
    busy: list[Worker]
    unfit: dict[str, str]

    @property
    def hosts(self) -> int:
        """Hosts that can work, now or once they are done with other work."""
        return len(self.free) + len(self.busy)

    @property
    def error(self) -> type[ClusterError | ConfigError]:
        """Of a cluster with too few hosts: whether it is worth another try, since a worker only
        does not answer now.
        """
        return ClusterError if _SILENT.problem in self.unfit.values() else ConfigError

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
    answers = _versions(client, [*known])
    for address, facts in sorted(known.items()):
        host, answer = host_of(address), answers[address]
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
    hosts: dict[str, Worker] = {}
    free: dict[str, Worker] = {}
    for worker in fit:
        hosts.setdefault(worker.host, worker)
        is_full = len(tasks.get(worker.address, ())) >= known[worker.address]["nthreads"]
        if worker.host not in at_work and not is_full:
            free.setdefault(worker.host, worker)
    busy = [worker for host, worker in hosts.items() if host not in free]
    unfit = {host: why for host, why in unfit.items() if host not in hosts}
    return Survey([*free.values()], busy, unfit)


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


def ask(
    client: Any,
    addresses: Sequence[str],
    function: Callable[..., Any],
    *values: Any,
    seconds: float | None = None,
) -> dict[str, Any]:
    """What a function returns on each worker, or the exception that it raised; nothing of those
    that do not answer. They need no free thread for it.

    seconds: that each may take; default: `_ANSWER_SECONDS`. Raises `ClusterError` if it is the
    scheduler that does not answer.
    """
    limit = _ANSWER_SECONDS if seconds is None else seconds

    async def ask_each() -> list[Mapping[str, Any]]:
        room = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask_one(address: str) -> Mapping[str, Any]:
            async with room:
                asked = client.run(function, *values, workers=[address], on_error="return")
                try:
                    answer: Mapping[str, Any] = await asyncio.wait_for(asked, limit)
                except TimeoutError:
                    return {}
                return answer

        return await asyncio.gather(*map(ask_one, addresses))

    if not addresses:
        return {}
    rounds = math.ceil(len(addresses) / _ASKED_AT_ONCE)
    try:
        found = client.sync(ask_each, callback_timeout=(rounds + 1) * limit)
    except OSError as error:
        raise ClusterError(LOST) from error
    answers = {address: answer for each in found for address, answer in each.items()}
    if len(answers) < len(addresses):
        client.nthreads()  # a scheduler that hangs passes nothing on
    return answers


def _versions(client: Any, addresses: Sequence[str]) -> dict[str, _Answer]:
    """Which start of a worker is at an address, and whether it has this version."""

    def version(dask_worker: Any) -> tuple[str, str]:  # by value, hence its own imports
        try:
            from quickdraw_core.system.code_version import package_version
        except ImportError:
            return dask_worker.id, ""
        return dask_worker.id, package_version()

    answers = ask(client, addresses, version)
    return {
        address: _judged(answers[address]) if address in answers else _SILENT
        for address in addresses
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


def require_answer(worker: Worker, answer: Any) -> Any:
    """What a worker answered to `ask`. Raises `ClusterError` if it did not, or could not."""
    if answer is None or isinstance(answer, Exception):
        why = _SILENT.problem if answer is None else f"fails: {first_line(answer)}"
        raise ClusterError(
            f"the Dask worker on {worker.host} {why}; start it again if it hangs, and run again"
        )
    return answer


def check_versions(client: Any, address: str) -> None:
    """Raises `ConfigError` if a worker of the cluster at an address has another version of this
    package, or none; `ClusterError` if it has workers, and none of them answers.
    """
    answers = _versions(client, [*client.nthreads()])
    for worker, answer in sorted(answers.items()):
        if answer.problem is not None and answer is not _SILENT:
            raise ConfigError(
                f"the worker {worker} of the Dask cluster {address} {answer.problem}; give all of "
                "them this version"
            )
    if answers and all(answer is _SILENT for answer in answers.values()):
        raise ClusterError(
            f"no worker of the Dask cluster {address} answers; start them again if they hang, and "
            "run again"
        )


def start_command(address: str, resources: Mapping[str, float]) -> str:
    """The command that starts a worker with such resources, for messages."""
    options = f" --resources {resources_text(resources)}" if resources else ""
    return f"`dask worker {address}{options}`"


def resources_text(resources: Mapping[str, float]) -> str:
    """Resources as `dask worker` takes them: `GPU=2,BIGMEM=1`."""
    return ",".join(f"{name}={amount:g}" for name, amount in resources.items())
