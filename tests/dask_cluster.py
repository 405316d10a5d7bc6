"""A Dask cluster of processes of their own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    file = folder / "scheduler.json"
    host = ("--host", "127.0.0.1")
    with dask_command(
        "scheduler", *host, "--port", "0", "--no-dashboard", "--scheduler-file", str(file),
        ready=file,
    ) as scheduler:  # fmt: skip
        address = json.loads(file.read_text())["address"]
        running = [
            dask_command(
                "worker", address, *host, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--local-directory", str(folder / f"worker-{number}"),
            )
            for number in range(workers)
        ]  # fmt: skip
        pids = [scheduler.pid]
        try:
            pids += [worker.__enter__().pid for worker in running]
            yield address, pids
        finally:
            for worker in running:
                worker.__exit__(None, None, None)
