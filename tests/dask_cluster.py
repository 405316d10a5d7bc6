"""A Dask cluster of processes of their own, whose workers may be on several addresses of this
machine's loopback: what Dask takes for hosts.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from hosts import Host


@contextmanager
def dask_command(*words: str, ready: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dask's own command line, ended by its id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while ready is not None and not (ready.exists() and ready.stat().st_size):
            assert process.poll() is None, f"{words} ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(300)


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[int]]]:
    """A scheduler and workers as processes of their own: (address, process ids, its own first)."""
    with dask_hosts(folder, ["127.0.0.1"] * workers) as cluster:
        yield cluster


@contextmanager
def dask_hosts(
    folder: Path, hosts: Sequence[str], *options: str
) -> Iterator[tuple[str, list[int]]]:
    """The same with a worker on each of these hosts (127.0.0.1, 127.0.0.2, …).

    options: of `dask worker`.
    """
    file = folder / "scheduler.json"
    with dask_command(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(file), ready=file,
    ) as scheduler, ExitStack() as running:  # fmt: skip
        address = json.loads(file.read_text())["address"]
        pids = [scheduler.pid]
        for number, host in enumerate(hosts):
            worker = dask_command(
                "worker", address, "--host", host, "--nthreads", "1", "--no-nanny",
                "--no-dashboard", "--local-directory", str(folder / f"worker-{number}"), *options,
            )  # fmt: skip
            pids.append(running.enter_context(worker).pid)
        yield address, pids


@contextmanager
def dask_on(host: Host, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dask's own command line on a host, ended by its id."""
    command = host.command(sys.executable, "-m", "dask", *words)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()  # a nanny ends its worker
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(300)


def worker_on(
    host: Host, address: str, folder: Path, *more: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker on a host."""
    words = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
    return dask_on(host, "worker", address, *words, *more)
