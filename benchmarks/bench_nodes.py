"""A training on two hosts: by a command on each, and by one command on a Dask cluster's workers.

    python benchmarks/bench_nodes.py [--rounds 3] [--steps 60]

Both ways in turn, with one rank of one thread a host, with the defaults of `train`. The hosts are
two addresses of this machine's loopback. Scheduler and workers run all the time, as they do on a
cluster. Measured are the seconds from the start of the commands to the end of the first step, to
the end of all of them, and the speed of the steps by the journal; the medians of the rounds count.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.journal import follow

HOSTS = ("127.0.0.1", "127.0.0.2")
WORDS, ROWS = 24, 500
WARM_STEPS = 5


class Timed(NamedTuple):
    """Of one training. first, whole: seconds from its start; rate: images a second."""

    first: float
    whole: float
    rate: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # two hosts share the cores of this one
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        store = made_store(folder)
        address = stack.enter_context(cluster(folder))
        ways = {"a command on each host": by_hand, "one command, Dask's workers": by_dask}
        times: dict[str, list[Timed]] = {way: [] for way in ways}
        for number in range(asked.rounds):
            for way, commands in ways.items():
                run_dir = folder / f"run-{number}-{len(times[way])}-{way[0]}"
                words = training(store, run_dir, asked.steps)
                times[way].append(timed(commands(words, address), run_dir))
                print(f"round {number + 1}, {way}: {times[way][-1]}", file=sys.stderr)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"{asked.rounds} rounds, {asked.steps} steps\n")  # fmt: skip
    print("| way | to the end of the first step | of all | images/s |\n| --- | --- | --- | --- |")
    for way, found in times.items():
        first, whole, rate = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {way} | {first:.1f} s | {whole:.1f} s | {rate:,.0f} |")


def made_store(folder: Path) -> Path:
    generate_csvs(folder / "csv", default_words(WORDS), ROWS, seed=1)
    ingest(IngestConfig.parse({"source": folder / "csv", "store": folder / "store"}))
    open_pack(Store.open(folder / "store"))
    return folder / "store"


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A scheduler, and a worker with a nanny on each host; its address."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        listening = ["--host", HOSTS[0], "--port", "0", "--no-dashboard"]
        dask(stack, folder, "scheduler", *listening, "--scheduler-file", str(file))
        while not file.exists() or not file.stat().st_size:
            time.sleep(0.05)
        address = str(json.loads(file.read_text())["address"])
        for host in HOSTS:
            dask(stack, folder, "worker", address, "--host", host, "--nthreads", "1",
                 "--no-dashboard", "--local-directory", str(folder / host))  # fmt: skip
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(len(HOSTS))
        yield address


def dask(stack: ExitStack, folder: Path, *words: str) -> None:
    log = stack.enter_context((folder / "dask.log").open("ab"))
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def training(store: Path, run_dir: Path, steps: int) -> list[str]:
    return [
        *(sys.executable, "-m", "quickdraw_core.cli", "train", "--store", str(store), "--quiet"),
        *("--run-dir", str(run_dir), "--nproc", "1", "--tracking-uri", "none", "--set"),
        *(f"max_steps={steps}", "--set", "tracking.log_every_steps=1", "--nnodes", "2"),
    ]


def by_hand(words: list[str], address: str) -> list[list[str]]:
    with socket.socket() as probe:
        probe.bind((HOSTS[0], 0))
        port = probe.getsockname()[1]
    words = [*words, "--rendezvous", f"{HOSTS[0]}:{port}", "--node-rank"]
    return [[*words, "0"], [*words, "1"]]


def by_dask(words: list[str], address: str) -> list[list[str]]:
    return [[*words, "--dask", address]]


def timed(commands: list[list[str]], run_dir: Path) -> Timed:
    begun, began_ms = time.perf_counter(), time.time() * 1e3
    processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for words in commands]
    codes = [process.wait() for process in processes]
    whole = time.perf_counter() - begun
    if any(codes):
        raise SystemExit(f"{codes}: {commands[0]}")
    records, _ = follow(run_dir / "journal.jsonl", 0)
    steps = [record for record in records if "train/loss" in record.get("metrics", {})]
    rates = [record["metrics"]["train/images_per_second"] for record in steps[WARM_STEPS:]]
    return Timed((steps[0]["time_ms"] - began_ms) / 1e3, whole, statistics.median(rates))


if __name__ == "__main__":
    main()
