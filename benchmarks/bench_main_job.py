"""How fast doodles are generated and ingested on this machine, measured in one run.

    python benchmarks/bench_main_job.py [--rows 2000]

Works in a temporary folder and prints a Markdown table. Each figure is the best of several tries,
since other work on the machine only ever slows one down. The other stages have benchmarks of
their own: `bench_render.py`, `bench_loader.py` and `bench_step.py`.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words

WORDS = 24
TRIES = 3


def best_rate(work: Callable[[], object], amount: int) -> float:
    """Amount a second of the fastest of a few tries."""
    times = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return amount / min(times)


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
    packages = ", ".join(f"{p} {version(p)}" for p in ("numba", "pyarrow", "dask"))
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, "
          f"{os.cpu_count()} cores, {total:,} doodles\n")  # fmt: skip
    print("| stage | measured |\n| --- | --- |")
    for stage, measured in table:
        print(f"| {stage} | {measured} |")


if __name__ == "__main__":
    main()
