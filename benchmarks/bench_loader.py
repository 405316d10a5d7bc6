"""How fast batches come, ready to train on, against what a user would pick instead, in one run.

    python benchmarks/bench_loader.py [SOURCE] [--rounds 3] [--threads 2]

SOURCE: a folder of Kaggle CSVs, held in memory by the rivals; without it the real drawings that
may lie beside the checkout (`../shared/data/train_simplified`), else generated doodles. Prints a
Markdown table: images a second of 64 × 64 px, one channel, in shuffled batches of 256, uint8, on
two cores. Beside it images a CPU second, of this process and its workers, user and system: what
other work on the machine disturbs less.

- All contenders take turns; each figure is the best of some epochs after a first one that starts
  workers, compiles and fills the page cache, so that none of that counts.
- A rival whose package is missing is left out, and named. `loader_rivals.py` says how each is
  written and what to install; MosaicML Streaming brings 35 packages, so better into an
  environment of its own.
- Memory is that of this process, before and after some thousand batches more.
"""

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from loader_rivals import BATCH_SIZE, RIVALS, SIDE_PX, WORKERS, Epoch, Rows

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.labels import LabelMap
from quickdraw_core.loading.config import AugmentConfig, BatchShape
from quickdraw_core.loading.loader import Feed, Loader
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store

MEMORY_BATCHES = 3_000


def find_source(given: Path | None, folder: Path) -> Path:
    real = Path(__file__).resolve().parents[2] / "shared" / "data" / "train_simplified"
    if given is not None or real.is_dir():
        return given or real
    generate_csvs(folder / "csv", default_words(24), 2_000, seed=0)
    return folder / "csv"


def read_rows(source: Path) -> Rows:
    """Drawing as text and label of every row, in memory."""
    found = []
    for path in sorted(source.glob("*.csv")):
        with path.open(newline="") as file:
            found += [(row["drawing"], row["word"]) for row in csv.DictReader(file)]
    index = LabelMap.of(word for _, word in found).index
    return [(text, index[word]) for text, word in found]


class Ours:
    """This project's loader, an epoch at a time."""

    def __init__(
        self, pack: Pack, threads: int, encoding: str = "gray", augmented: bool = False
    ) -> None:
        shape = BatchShape(BATCH_SIZE, BATCH_SIZE, 1)
        config = AugmentConfig(stroke_drop_share=0.1, point_noise=2) if augmented else None
        feed = Feed(threads=threads, prefetch=2 * threads + 2)
        rows = np.arange(len(pack))
        image = ImageConfig(encoding=encoding, side_px=SIDE_PX)
        self.loader = Loader(pack, rows, shape, 0, image, 0, config, feed=feed)
        self.loader.end_step = 0

    def __call__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.loader.start_step = self.loader.end_step
        self.loader.end_step += self.loader.steps_an_epoch
        return ((batch.images_nchw, batch.labels_n) for batch in self.loader)


class Rate(NamedTuple):
    """Images a second, and images a CPU second."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """Of this process and its workers so far."""
    process = psutil.Process()
    times = [p.cpu_times() for p in [process, *process.children(recursive=True)]]
    return sum(t.user + t.system for t in times)


def rate(epoch: Epoch) -> Rate:
    """Of as many epochs as take a second."""
    count = 0
    begun, cpu_begun = time.perf_counter(), cpu_seconds()
    while time.perf_counter() - begun < 1:
        count += images_of(epoch)
    taken, cpu_taken = time.perf_counter() - begun, cpu_seconds() - cpu_begun
    return Rate(count / taken, count / cpu_taken)


def images_of(epoch: Epoch) -> int:
    """Takes all batches of an epoch, and counts their images."""
    count = 0
    for images, labels in epoch():
        assert images.dtype == torch.uint8
        assert len(images) == len(labels) == BATCH_SIZE
        count += len(images)
    return count


def best_rates(contenders: dict[str, Epoch], rounds: int) -> dict[str, Rate]:
    """Of each the best of its epochs; they take turns."""
    best = dict.fromkeys(contenders, Rate(0, 0))
    for number in range(rounds + 1):
        for name, epoch in contenders.items():
            found = rate(epoch)
            if number:
                old = best[name]
                best[name] = Rate(max(old.wall, found.wall), max(old.cpu, found.cpu))
            print(f"{name}: {found.wall:,.0f}/s, {found.cpu:,.0f} a CPU second", file=sys.stderr)
    return best


def memory_growth(epoch: Epoch) -> tuple[float, float]:
    """Resident MiB of this process before and after `MEMORY_BATCHES` batches."""
    sizes = []
    for batches in (100, MEMORY_BATCHES):
        seen = 0
        while seen < batches:
            seen += sum(1 for _ in epoch())
        sizes.append(psutil.Process().memory_info().rss / (1 << 20))
    return sizes[0], sizes[1]


def clean_shared_memory() -> Callable[[], None]:
    """Streaming leaves shared memory of runs that were killed, and then finds it in its way."""
    try:
        from streaming.base.util import clean_stale_shared_memory
    except ImportError:
        return lambda: None
    return clean_stale_shared_memory  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=WORKERS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clean, missing = clean_shared_memory(), []
    clean()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = find_source(arguments.source, folder)
        rows = read_rows(source)
        config = {"source": source, "store": folder / "store", "workers": os.cpu_count()}
        ingest(IngestConfig.parse(config))
        pack = open_pack(Store.open(folder / "store"))
        contenders: dict[str, Epoch] = {"this loader": Ours(pack, arguments.threads)}
        for number, (title, (package, make)) in enumerate(RIVALS.items()):
            try:
                version(package)
            except PackageNotFoundError:
                missing.append(package)
                continue
            contenders[title] = make(rows, folder / str(number))
        contenders["this loader, augmented"] = Ours(pack, arguments.threads, augmented=True)
        contenders["this loader, `order` (3 channels)"] = Ours(pack, arguments.threads, "order")
        rates = best_rates(contenders, arguments.rounds)
        before, after = memory_growth(contenders["this loader, augmented"])
        contenders.clear()
        clean()
    packages = ["torch", "numba", *dict.fromkeys(p for p, _ in RIVALS.values())]
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        + ", ".join(f"{p} {version(p)}" for p in packages if p not in missing)
        + f", {os.cpu_count()} cores, {len(rows):,} drawings, {SIDE_PX} px, batches of "
        f"{BATCH_SIZE}, {arguments.threads} threads or {WORKERS} workers\n"
    )
    print("| batches ready to train on | images/s | slower by | images a CPU second | slower by |")
    print("| --- | --- | --- | --- | --- |")
    ours = rates["this loader"]
    for title, found in rates.items():
        cells = [f"{found.wall:,.0f}", "", f"{found.cpu:,.0f}", ""]
        if not title.startswith("this"):
            cells[1::2] = f"{ours.wall / found.wall:.1f} ×", f"{ours.cpu / found.cpu:.1f} ×"
        print(f"| {title} | {' | '.join(cells)} |")
    print(f"\nResident memory: {before:,.0f} MiB, after {MEMORY_BATCHES:,} batches more "
          f"{after:,.0f} MiB.")  # fmt: skip
    if missing:
        print(f"Not installed, hence left out: {', '.join(dict.fromkeys(missing))}.")


if __name__ == "__main__":
    main()
