"""What the whole training step costs beside the bare model.

    python benchmarks/bench_step.py [--store STORE] [--steps 300] [--rounds 3] [--set key=value …]

Three ways in turn, some rounds, with the same network, optimiser, micro-batch, number of ranks
and threads:

- bare: each rank is a process of its own that steps the model on one fixed batch;
- bare, exchanging: the same, and the ranks average their gradients (DistributedDataParallel);
- training: `train` itself, with drawing, loading, logging and journal, from its journal.

The best round of each counts, since other work on the machine only ever slows one down. The
share of time spent waiting for data is the training's own.
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
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.torch_launcher import launcher_environment
from quickdraw_core.launching.train import train
from quickdraw_core.modeling.losses import build_loss
from quickdraw_core.modeling.models import build_model
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.recipes import find_recipe
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.store import Store
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distributed import process_group
from quickdraw_core.training.hardware import choose_arithmetic

WARM_STEPS = 20


def step_bare(config: TrainConfig, classes: int, steps: int, exchanging: bool) -> None:
    """In a rank: steps the model on a fixed batch and prints images a second."""
    with process_group("cpu", 60) as ranks:
        arithmetic = choose_arithmetic(config.hardware, config.model.precision, "cpu")
        image = config.image
        network = build_model(config.model, image, classes)
        arithmetic.place(network, ranks.device)
        network.train()
        forward = ranks.wrap(network) if exchanging else network
        optimizer = build_optimizer(config.optimizer.updated({"learning_rate": 1e-3}), network)
        loss_of = build_loss(config.loss)
        size, parts = config.micro_batch_size, config.shape.micro_batches_a_rank
        shape = (size, image.channels, image.side_px, image.side_px)
        drawn = torch.randint(0, 256, shape, dtype=torch.uint8)
        images = arithmetic.input(drawn, ranks.device)
        labels = torch.arange(size) % classes
        for step in range(WARM_STEPS + steps):
            if step == WARM_STEPS:
                ranks.barrier()
                begun = time.perf_counter()
            for part in range(parts):
                if exchanging:
                    with ranks.exchanging(forward, part == parts - 1):
                        loss_of(forward(images), labels).backward()
                else:
                    loss_of(forward(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        ranks.barrier()
        seconds = time.perf_counter() - begun
        if ranks.is_first:
            print(json.dumps({"rate": steps * config.global_batch_size / seconds}))


def bare_rate(config: TrainConfig, classes: int, steps: int, exchanging: bool) -> float:
    """Images a second of all ranks together."""
    options = [config.model_dump_json(), str(classes), str(steps), str(int(exchanging))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(config.hardware.ranks), __file__, "--rank", *options]
    done = subprocess.run(
        command, env=launcher_environment(config), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(json.loads(done.stdout.strip().splitlines()[-1])["rate"])


def training_rate(config: TrainConfig, steps: int) -> tuple[float, float]:
    """Median images a second, and share of time waiting for data, of a real training."""
    with tempfile.TemporaryDirectory() as folder:
        drawings = Store.open(config.store).manifest.rows_kept
        epochs = (steps + WARM_STEPS) * config.global_batch_size / drawings
        changes = {"run_dir": folder, "tracking": {"uri": "none"}, "epochs": epochs}
        train(config.updated(changes | {"validation": {"every_steps": 10**9}}))
        lines = (Path(folder) / "journal.jsonl").read_text().splitlines()
    points = [record["metrics"] for record in map(json.loads, lines) if "metrics" in record]
    points = [p for p in points if "train/loss" in p][
        WARM_STEPS // config.tracking.log_every_steps :
    ]
    speed = statistics.median(point["train/images_per_second"] for point in points)
    return speed, statistics.median(point["train/data_wait_share"] for point in points)


def main() -> None:
    if sys.argv[1:2] == ["--rank"]:
        config, classes, steps, exchanging = sys.argv[2:]
        step_bare(
            TrainConfig.model_validate_json(config), int(classes), int(steps), exchanging == "1"
        )
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="default: generated doodles of 24 words")
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store
        if store is None:
            store = Path(folder) / "store"
            generate_csvs(Path(folder) / "csv", default_words(24), 2_000, seed=0)
            ingest(IngestConfig(source=Path(folder) / "csv", store=store))
        config = find_recipe(options.recipe).updated({"store": store})
        config = config.updated(parse_assignments(options.set))
        classes = len(Store.open(store).label_map)
        bare, exchanging, training = [], [], []
        for _ in range(options.rounds):
            bare.append(bare_rate(config, classes, options.steps, False))
            exchanging.append(bare_rate(config, classes, options.steps, True))
            training.append(training_rate(config, options.steps))
    speed, waiting = max(training)
    image, ranks = config.image, config.hardware.ranks
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, torch "
          f"{version('torch')}, {os.cpu_count()} cores; {config.model.name}, {image.encoding} at "
          f"{image.side_px} px, {ranks} ranks, global batch {config.global_batch_size} "
          f"in micro-batches of {config.micro_batch_size}\n")  # fmt: skip
    print("| step | images/s | of bare |\n| --- | --- | --- |")
    print(f"| bare model | {max(bare):,.0f} | |")
    print(f"| bare model, ranks exchanging gradients | {max(exchanging):,.0f} | "
          f"{max(exchanging) / max(bare):.1%} |")  # fmt: skip
    print(f"| training, {waiting:.2%} of it waiting for data | {speed:,.0f} | "
          f"{speed / max(bare):.1%} (of exchanging: {speed / max(exchanging):.1%}) |")  # fmt: skip


if __name__ == "__main__":
    main()
