"""How fast each stage of the main job is on this machine, measured in one run.

    python benchmarks/bench_main_job.py [--rows 2000]

Makes doodles of 24 words in a temporary folder and prints a Markdown table. Training is given
beside the bare model on one fixed batch, with the same ranks, threads and micro-batches: what
drawing, loading, exchanging gradients and logging cost together. Each figure is the best of
several tries, since other work on the machine only ever slows one down.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.run import ingest
from quickdraw_core.recipes import find_recipe
from quickdraw_core.render.encodings import render
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.launch import train

WORDS = 24
TRIES = 3

BARE_MODEL = """
import sys, time, torch
from quickdraw_core.modeling.models import build_model
from quickdraw_core.modeling.optimizers import build_optimizer
torch.set_num_threads(1)
size = int(sys.argv[1])
network = build_model("small_cnn", 3, 24, 32).to(memory_format=torch.channels_last).train()
optimizer = build_optimizer("adamw", network, 0.01)
images = torch.rand(size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
labels = torch.arange(size) % 24
for step in range(150):
    if step == 20:
        begun = time.perf_counter()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
print(130 * size / (time.perf_counter() - begun))
"""


def best_rate(work: Callable[[], object], amount: int) -> float:
    """Amount a second of the fastest of a few tries."""
    times = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return amount / min(times)


def bare_model_rate(ranks: int, micro_batch_size: int) -> float:
    """Images a second of `ranks` processes that only step the model, at the same time."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    }
    command = [sys.executable, "-c", BARE_MODEL, str(micro_batch_size)]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(ranks)
    ]
    return sum(float(process.communicate()[0]) for process in processes)


def training_rates(folder: Path, store: Path) -> tuple[float, float]:
    """Median images a second, and share of time waiting for data, of a real two-rank run."""
    config = find_recipe("demo").updated(
        {
            "store": store,
            "run_dir": folder / "run",
            "tracking_uri": "none",
            "epochs": 1,
            "fresh": True,
        }
    )
    train(config)
    points = [
        record["metrics"]
        for record in map(json.loads, (folder / "run" / "journal.jsonl").read_text().splitlines())
        if "train/loss" in record.get("metrics", {})
    ][1:]
    speed = statistics.median(point["train/images_per_second"] for point in points)
    return speed, statistics.median(point["train/data_wait_share"] for point in points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000, help="doodles a word")
    rows = parser.parse_args().rows
    total = WORDS * rows
    table: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, path = folder / "csv", folder / "store"
        words = default_words(WORDS)
        generated = best_rate(lambda: generate_csvs(source, words, rows, seed=0), total)
        table.append(("generate, one core", f"{generated:,.0f} drawings/s"))
        size = sum(p.stat().st_size for p in source.iterdir())
        options = {"source": source, "store": path, "workers": os.cpu_count()}
        ingested = best_rate(lambda: ingest(IngestConfig.parse(options | {"fresh": True})), total)
        table.append(
            ("ingest, all cores, starting Dask included",
             f"{ingested:,.0f} rows/s, {ingested * size / total / 1e6:.1f} MB/s")
        )  # fmt: skip
        pack = open_pack(Store.open(path))
        chosen = np.random.default_rng(0).permutation(len(pack))[:4096]
        drawings = pack.drawings.take(chosen)
        for encoding, side_px in (("gray", 32), ("order", 32), ("gray", 64), ("order", 64)):
            rate = best_rate(lambda e=encoding, s=side_px: render(drawings, e, s), len(drawings))
            table.append((f"draw {encoding} at {side_px} px, one core", f"{rate:,.0f} images/s"))
        micro_batch_size = find_recipe("demo").micro_batch_size
        bare = bare_model_rate(2, micro_batch_size)
        speed, waiting = training_rates(folder, path)
        table.append(("bare small_cnn on a fixed batch, two processes", f"{bare:,.0f} images/s"))
        table.append(
            ("train small_cnn, two ranks",
             f"{speed:,.0f} images/s ({speed / bare:.0%} of bare), {waiting:.1%} waiting for data")
        )  # fmt: skip
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "numba", "pyarrow", "dask"))
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, "
          f"{os.cpu_count()} cores, {total:,} doodles\n")  # fmt: skip
    print("| stage | measured |\n| --- | --- |")
    for stage, measured in table:
        print(f"| {stage} | {measured} |")


if __name__ == "__main__":
    main()
