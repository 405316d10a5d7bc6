"""What 8 to 1,024 ranks cost before they train: order, share-out, checkpoint, rendezvous.

    python benchmarks/bench_scale.py [--drawings 50000000] [--ranks 8,64,256,1024] \
        [--hosts 2,8,32] [--gloo 2,8,32,64] [--only order,checkpoint,rendezvous]

Nothing is trained, and no drawing is drawn: every rank's part is built by the code that trains.

- **order**: rows and labels of so many drawings in files, as a run folder and a pack have them.
  For each world size, each of its ranks opens them, makes its loader, takes its share of the
  validation drawings, and computes which drawings its first steps take. All ranks' drawings of a
  step together are compared with those of another world size. Memory: numpy's, by tracemalloc.
- **checkpoint**: that of recipe `full` (`sketch_fusion_resnet34`, Muon, running average), written
  and read; and by arithmetic what a step, its exchange and a checkpoint take on so many GPUs.
- **rendezvous**: so many hosts as threads by the run folder; so many launchers as processes by
  torch's `c10d`; so many ranks as processes by gloo, to the end of a first exchange. All of them
  share this machine's cores, so that their times are upper bounds; their files are counted.
"""

import argparse
import hashlib
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rendezvous_times import rendezvous

from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.labels import LabelMap
from quickdraw_core.loading.config import BatchShape
from quickdraw_core.loading.loader import Loader
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.recipes import find_recipe
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.store.holdout import HoldoutRule
from quickdraw_core.store.pack import Pack
from quickdraw_core.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.network import new_network
from quickdraw_core.training.plan import Rows

CLASSES = 340
STEPS = 3
"""Of each rank, whose drawings are computed and compared between the world sizes."""
CONFIG = TrainConfig(global_batch_size=65_536, micro_batch_size=64)
FULL_RATE = 4_470
"""Images a second of a GPU, by the arithmetic of recipe `full`."""
NETWORK = 12.5e9
"""Bytes a second between two hosts: 100 Gbit/s."""
STORAGE = 1e9
"""Bytes a second of the folder that all hosts share."""
SAMPLED = 4
"""Ranks of a world size whose memory is measured, and that balance the classes."""


@contextmanager
def measured() -> Iterator[Callable[[], float]]:
    """A block, and afterwards the most memory that numpy had in it, MB."""
    tracemalloc.start()
    peak = 0
    try:
        yield lambda: peak / 1e6
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def pack_of(folder: Path, drawings: int) -> Pack:
    """A pack of so many drawings without strokes: what decides order and share-out, in files."""
    rng = np.random.default_rng(0)
    shares = np.linspace(1, 3, CLASSES)
    counts = (shares / shares.sum() * drawings).astype(np.int64)
    counts[-1] += drawings - counts.sum()
    holdout = HoldoutRule(test_share=0.001, validation_share=0.05)
    key_ids = rng.integers(0, 1 << 63, drawings, dtype=np.uint64)
    arrays = {
        "labels": np.repeat(np.arange(CLASSES, dtype=np.uint16), counts),
        "key_ids": key_ids,
        "splits": holdout.split(key_ids),
        "recognized": np.ones(drawings, np.uint8),
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    opened = {n: np.asarray(np.load(folder / f"{n}.npy", mmap_mode="r")) for n in arrays}
    nothing = np.empty(0, np.uint8)
    offsets = np.zeros(1, np.int64)
    strokes = DrawingBatch(nothing, nothing, np.empty(0, np.uint16), offsets, offsets)
    words = LabelMap.of(f"word {n:03}" for n in range(CLASSES))
    return Pack(folder, "none", words, holdout, strokes, **opened)


def loader_of(pack: Pack, rows: Rows, world_size: int, rank: int, balance: float = 0) -> Loader:
    shape = BatchShape(CONFIG.global_batch_size, CONFIG.micro_batch_size, world_size)
    image = ImageConfig(side_px=64)
    return Loader(pack, rows.train, shape, rank, image, seed=0, class_balance=balance)


def rows_of_step(loader: Loader, step: int) -> Int64Array:
    """The drawings that a rank takes in a step, in their order."""
    parts = range(loader.shape.micro_batches_a_rank)
    return np.concatenate([loader.order.rows_at(*loader.positions(step, p)) for p in parts])


def order(drawings: int, worlds: Sequence[int]) -> None:
    print(f"\n## Order and share-out, {drawings:,} drawings\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack = pack_of(folder, drawings)
        begun = time.perf_counter()
        chosen = Rows.of(CONFIG, pack)
        seconds = time.perf_counter() - begun
        with measured() as peak:
            Rows.of(CONFIG, pack)
        chosen.write(folder)
        print(
            f"host 0, once: {len(chosen.train):,} train and {len(chosen.validation):,} "
            f"validation drawings chosen in {seconds:.1f} s, {peak():,.0f} MB\n"
        )
        del chosen
        print(
            "| ranks | to open and make the loader | memory a rank | order of a step | a drawing"
            " | balanced classes | memory | validation drawings a rank |"
        )
        print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        digests = {world: _order_of_world(pack, folder, world) for world in worlds}
        same = "the same" if len(set(digests.values())) == 1 else f"NOT the same: {digests}"
        print(f"\nDrawings of the first {STEPS} steps, over all ranks: {same} for each number.")


def _order_of_world(pack: Pack, folder: Path, world: int) -> str:
    opening, ordering, shares, digest = [], [], [], hashlib.sha256()
    loaders = []
    for rank in range(world):
        begun = time.perf_counter()
        rows = Rows.read(CONFIG, pack, folder)
        loaders.append(loader_of(pack, rows, world, rank))
        shares.append(len(rows.validation[rank::world]))
        opening.append(time.perf_counter() - begun)
    for step in range(STEPS):
        for loader in loaders:
            begun = time.perf_counter()
            rows_now = rows_of_step(loader, step)
            ordering.append(time.perf_counter() - begun)
            digest.update(rows_now.tobytes())
    sampled = sorted({0, world - 1, *range(0, world, max(1, world // SAMPLED))})[:SAMPLED]
    peaks, balanced, balanced_peaks = [], [], []
    for rank in sampled:
        with measured() as peak:
            rows_of_step(loader_of(pack, Rows.read(CONFIG, pack, folder), world, rank), 0)
        peaks.append(peak())
        begun = time.perf_counter()
        loader_of(pack, Rows.read(CONFIG, pack, folder), world, rank, balance=0.5)
        balanced.append(time.perf_counter() - begun)
        with measured() as peak:
            loader_of(pack, Rows.read(CONFIG, pack, folder), world, rank, balance=0.5)
        balanced_peaks.append(peak())
    a_step = statistics.median(ordering)
    print(
        f"| {world:,} | {statistics.median(opening) * 1e3:.1f} ms | {max(peaks):.2f} MB "
        f"| {a_step * 1e3:.2f} ms | {a_step / (CONFIG.global_batch_size / world) * 1e9:.0f} ns "
        f"| {statistics.median(balanced) * 1e3:,.1f} ms | {max(balanced_peaks):,.2f} MB "
        f"| {min(shares):,} to {max(shares):,} |",
        flush=True,
    )
    return digest.hexdigest()


def checkpoint() -> None:
    config = find_recipe("full")
    network = new_network(config, CLASSES)
    optimizer = build_optimizer(config.optimizer, network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    average = torch.optim.swa_utils.AveragedModel(network)
    states: dict[str, dict[str, Any]] = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": average.state_dict(),
        "loader": {"epoch": 0, "step": 0},
        "validations": {"metrics": {}, "best": 0.0, "since_best": 0},
    }
    labels = LabelMap.of(f"word {n:03}" for n in range(CLASSES)).to_json()
    values = Checkpoint(1, states, config.model_dump(mode="json"), labels, [1] * CLASSES, "", "")
    weights = sum(p.numel() for p in network.parameters())
    with tempfile.TemporaryDirectory() as name:
        writing, reading = [], []
        for _turn in range(3):
            begun = time.perf_counter()
            path = save_checkpoint(Path(name), values, is_best=True, keep=1)
            writing.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            load_checkpoint(path)
            reading.append(time.perf_counter() - begun)
        size = path.stat().st_size
    print(
        f"\n## Checkpoint of recipe `full`: {weights / 1e6:.1f} million weights, "
        f"{size / 1e6:.0f} MB\n\n"
        f"written and synced in {_span(writing)}, read and checked in {_span(reading)}, by a rank"
    )
    _arithmetic(weights, size, config.global_batch_size)


def _arithmetic(weights: int, checkpoint_bytes: int, global_batch: int) -> None:
    """What a step of recipe `full` takes on so many GPUs; nothing of it is measured."""
    print(
        f"\nArithmetic: {FULL_RATE:,} images/s a GPU, 8 GPUs a host, {NETWORK / 1e9:.1f} GB/s "
        f"between hosts, {STORAGE / 1e9:.0f} GB/s of the shared folder for all; from exchanges "
        "hidden behind the backward pass to none.\n"
    )
    print(
        "| GPUs | hosts | global batch | computing | exchange | efficiency | a checkpoint, of its"
        " 1,000 steps | read to go on |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for fixed in (True, False):
        for ranks in (8, 16, 32, 64, 128, 256, 1_024):
            hosts = ranks // 8
            batch = global_batch if fixed else global_batch // 8 * ranks
            computing = batch / ranks / FULL_RATE
            exchange = 2 * (hosts - 1) / hosts * weights * 4 / NETWORK
            best, worst = max(computing, exchange), computing + exchange
            share = checkpoint_bytes / STORAGE / (1_000 * best)
            print(
                f"| {ranks:,} | {hosts} | {batch:,} | {computing * 1e3:.1f} ms "
                f"| {exchange * 1e3:.1f} ms | {computing / worst:.0%} to {computing / best:.0%} "
                f"| {share:.1%} | {hosts * checkpoint_bytes / STORAGE:.1f} s |"
            )


def _span(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f} s"


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drawings", type=int, default=50_000_000)
    parser.add_argument("--ranks", type=_numbers, default=[8, 64, 256, 1_024])
    parser.add_argument("--hosts", type=_numbers, default=[2, 8, 32])
    parser.add_argument("--gloo", type=_numbers, default=[2, 8, 32, 64])
    parser.add_argument("--only", default="order,checkpoint,rendezvous")
    options = parser.parse_args()
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    print(
        f"{now}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    wanted = options.only.split(",")
    if "order" in wanted:
        order(options.drawings, options.ranks)
    if "checkpoint" in wanted:
        checkpoint()
    if "rendezvous" in wanted:
        rendezvous(options.hosts, options.gloo)


if __name__ == "__main__":
    main()
