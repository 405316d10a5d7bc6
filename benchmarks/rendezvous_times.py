"""How long hosts, launchers and ranks take to meet, by the code that a training uses.

All of them share this machine's cores, so that the times are upper bounds.
"""

import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from quickdraw_core.launching.rendezvous import gather_hosts, join_attempt
from quickdraw_core.training.config import HostsConfig


def rendezvous(hosts: Sequence[int], ranks: Sequence[int]) -> None:
    print("\n## Rendezvous\n")
    print(
        "| hosts or ranks | hosts by the run folder | launchers by c10d | ranks by gloo "
        "| files a rank | memory a rank |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for number in sorted({*hosts, *ranks}):
        folder = launchers = gloo = files = memory = ""
        if number in hosts:
            folder = f"{_by_folder(number):.2f} s"
            launchers = f"{max(s for s, *_ in _processes(number, _by_c10d)):.2f} s"
        if number in ranks:
            told = _processes(number, _by_gloo)
            gloo = f"{max(s for s, *_ in told):.2f} s"
            files = str(max(f for _, f, _ in told))
            memory = f"{max(m for *_, m in told):.1f} MB"
        print(f"| {number} | {folder} | {launchers} | {gloo} | {files} | {memory} |", flush=True)


def _by_folder(number: int) -> float:
    """Seconds from the last host's start until all of them have the attempt."""
    with tempfile.TemporaryDirectory() as name:
        run, address = Path(name), "127.0.0.1:29400"
        (run / "hosts").mkdir()
        others = [
            HostsConfig(nodes=number, node_rank=n, rendezvous=address, wait_seconds=300)
            for n in range(1, number)
        ]
        threads = [threading.Thread(target=join_attempt, args=(run, h, None)) for h in others]
        for thread in threads:
            thread.start()
        begun = time.perf_counter()
        first = HostsConfig(nodes=number, rendezvous=address, wait_seconds=300)
        gather_hosts(run, first, "key", 0, None)
        for thread in threads:
            thread.join()
        return time.perf_counter() - begun


Act = Callable[[int, int, int], object]
"""Does something as a rank of so many, by a port; what it returns is kept until all are done."""
Told = tuple[float, int, float]
"""Of a process: seconds, files that it has more than before, MB that it has more."""


def _processes(number: int, act: Act) -> list[Told]:
    """What each of so many processes says of `act(rank, number, port)`, begun by all at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    start, told = context.Barrier(number), context.SimpleQueue()
    arguments = [(rank, number, port, act, start, told) for rank in range(number)]
    processes = [context.Process(target=_process, args=each) for each in arguments]
    for process in processes:
        process.start()
    answers = list[Told]()
    while len(answers) < number:
        answer = told.get()
        if isinstance(answer, str):
            for process in processes:
                process.kill()
            raise RuntimeError(answer)
        answers.append(answer)
    for process in processes:
        process.join()
    return answers


def _process(
    rank: int,
    number: int,
    port: int,
    act: Act,
    start: Barrier,
    told: "SimpleQueue[Told | str]",
) -> None:
    torch.set_num_threads(1)
    start.wait()
    files, memory, begun = _files(), _anonymous(), time.perf_counter()
    try:
        _kept = act(rank, number, port)  # with the connections that the others need
    except Exception as error:  # noqa: BLE001 — whatever it is, the others would wait without end
        told.put(f"{act.__name__} of {number}: {error}")
        os._exit(1)
    seconds = time.perf_counter() - begun
    answer = (seconds, _files() - files, _anonymous() - memory)
    start.wait()  # whoever leaves closes the connections of the others
    told.put(answer)
    start.wait()
    os._exit(0)


def _by_c10d(rank: int, number: int, port: int) -> object:
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    address = f"127.0.0.1:{port}"
    limits = {"min_nodes": number, "max_nodes": number, "local_addr": "127.0.0.1"}
    conf = {"is_host": int(rank == 0), "join_timeout": 300, "read_timeout": 300}
    parameters = RendezvousParameters("c10d", address, f"run-{port}", **limits, **conf)
    handler = get_rendezvous_handler(parameters)  # with the store, if it is host 0's
    return handler, handler.next_rendezvous()


def _by_gloo(rank: int, number: int, port: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    init = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init, rank=rank, world_size=number)
    torch.distributed.all_reduce(torch.ones(1))


def _files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 — as quick as can be


def _anonymous() -> float:
    """MB that are this process's own."""
    [line] = [s for s in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in s]
    return int(line.split()[1]) / 1e3
