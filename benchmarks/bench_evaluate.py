"""What judging 34,000 drawings costs beside the model's own time.

    python benchmarks/bench_evaluate.py [--work FOLDER] [--rounds 3]

The challenge's 340 classes with 100 held-out drawings each, of made-up rows in Kaggle's form
(`ingest_input.py`), and the `laptop` recipe's network after a few steps: what it guesses does not
matter to the time. In turn, some rounds, of which the best counts:

- bare: the network on one fixed batch, as often as there are batches;
- predict: `predict_rows`, which gathers, draws, and ranks the guesses.

Then once each: judging (1,000 resamples of all metrics, by class too), and the report with its
figures.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from ingest_input import generate

from quickdraw_core.diagnosis.curves import read_curves
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.inference.predict import predict_rows
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.train import train
from quickdraw_core.metrics.judgement import judge
from quickdraw_core.recipes import find_recipe
from quickdraw_core.reporting.guess_table import Guess
from quickdraw_core.reporting.report import Report, write_report
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store

ROWS, PER_CLASS, BATCH = 300_000, 100, 256


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def prepare(work: Path) -> tuple[Path, Path]:
    """The store, and the run folder of a model that has seen a few batches."""
    generate(work / "csv", ROWS, seed=0)
    ingest(IngestConfig(source=work / "csv", store=work / "store", test_per_class=PER_CLASS))
    changes = {"store": work / "store", "run_dir": work / "run", "tracking": {"uri": "none"}}
    changes |= {
        "epochs": 0.02,
        "select": {"per_class": 200},
        "model": {"flip_tta": False},
        "validation": {"every_steps": 5},
    }
    return work / "store", train(find_recipe("laptop").updated(changes)).run_dir


def measure(work: Path, rounds: int) -> None:
    store, run_dir = prepare(work)
    pack = open_pack(Store.open(store))
    rows = pack.test_rows(PER_CLASS)
    models = load_models([str(run_dir)])
    model = models.members[0]
    batches = -(-len(rows) // BATCH)
    image = model.image
    shape = (BATCH, image.channels, image.side_px, image.side_px)
    fixed = torch.randint(0, 256, shape, dtype=torch.uint8)

    def bare() -> None:
        for _ in range(batches):
            model.logits(fixed)

    bare()  # the first round warms caches and compiled code
    predict_rows(models, pack, rows[: 4 * BATCH])
    best_bare, found = float("inf"), None
    for _ in range(rounds):
        best_bare = min(best_bare, seconds_of(bare))
        again = predict_rows(models, pack, rows)
        found = again if found is None or again.seconds < found.seconds else found
    assert found is not None
    begun = time.perf_counter()
    judgement = judge(found.predictions)
    judging = time.perf_counter() - begun
    words = pack.label_map.words
    report = Report(
        model=model.name,
        facts={},
        judgement=judgement,
        predictions=found.predictions,
        rows=rows,
        drawings=pack.drawings,
        guesses=[Guess(int(row), words[:3], words[0]) for row in rows[:64]],
        per_class=PER_CLASS,
        curves=read_curves(run_dir),
        classes_trained=len(words),
        command="",
    )
    reporting = seconds_of(lambda: write_report(report, work / "report"))
    config = {"model": str(run_dir), "store": store, "tracking_uri": "none"}
    whole = seconds_of(lambda: evaluate(EvaluateConfig.parse(config)))
    print(f"{len(rows):,} drawings of {len(pack.label_map)} classes, {model.config.model.name}")
    print("| part | seconds | |")
    print("| --- | ---: | --- |")
    speed = f"{len(rows) / best_bare:,.0f} images/s"
    print(f"| bare network on a fixed batch | {best_bare:.1f} | {speed} |")
    print(
        f"| predict: gather, draw, network, rank | {found.seconds:.1f} | "
        f"{found.seconds / best_bare:.1%} of bare; {found.waited_seconds / found.seconds:.1%} "
        "waiting for data |"
    )
    print(f"| judge: 1,000 resamples of all metrics | {judging:.2f} | |")
    print(f"| report with its figures | {reporting:.1f} | |")
    print(f"| `evaluate`, all of it, the model and the store opened too | {whole:.1f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for input, store and model, kept")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "matplotlib"))
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}")
    if options.work is not None:
        measure(options.work, options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.rounds)


if __name__ == "__main__":
    main()
