"""How long a user waits for each command on small data.

    python benchmarks/bench_start.py [--before CHECKOUT] [--runs 5] [--only ingest,train]

Each command is a process of its own, on generated doodles, without a Prefect server and with
compiled code cached; the median of some runs counts. Beside it stands a process that only imports
the third-party modules which the command imports. `--before` measures the commands of another
checkout as well, in turn with this one's, each in a folder of its own.

A training's times are those of its journal: from the command to the end of its first step, and
from its last step to the end of the command, the best model in MLflow and all.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from quickdraw_core.tracking.journal import JOURNAL_NAME, follow

CHECKOUT = Path(__file__).resolve().parents[1]
REPORTING = """
import atexit, json, os, sys

def report():
    names = [name for name, module in list(sys.modules.items())
             if "site-packages" in (getattr(module, "__file__", None) or "")]
    with open(os.environ["MODULES"], "w") as file:
        json.dump(names, file)

if sys.orig_argv[1:3] == ["-m", "quickdraw_core.cli"]:
    atexit.register(report)
"""
"""`sitecustomize`, which each interpreter runs at its start: lists what a command imported."""
IMPORTING = """
import contextlib, importlib, json, sys

for name in json.load(open(sys.argv[1])):
    with contextlib.suppress(Exception):  # modules that others make as they go
        importlib.import_module(name)
"""


@dataclass(frozen=True)
class Side:
    """A checkout, and the folder that its commands work in."""

    checkout: Path
    folder: Path

    def command(self, *words: object, report: Path | None = None) -> float:
        """Runs a command; returns its seconds. report: where the modules are listed that it
        imported. Raises `RuntimeError` with what it printed where it fails.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT", "MLFLOW", "QUICKDRAW"))
        }
        environment |= {"PREFECT_HOME": str(self.folder / ".prefect")}
        path = [str(self.checkout)]
        if report is not None:
            path.insert(0, str(self.folder / "site"))
            environment |= {"MODULES": str(report)}
        environment |= {"PYTHONPATH": os.pathsep.join(path)}
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "quickdraw_core.cli", *map(str, words)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(f"quickdraw {' '.join(map(str, words))}: {done.stderr[-2000:]}")
        return seconds

    def set_up(self, csv: Path, jobs: set[str]) -> None:
        """Makes what the measured commands work on, which also compiles their code."""
        for name in ("one", "few", "many"):
            shutil.copytree(csv / name, self.folder / name)
        (self.folder / "site").mkdir()
        (self.folder / "site" / "sitecustomize.py").write_text(REPORTING)
        if "ingest" in jobs:
            self.command("ingest", "one", "--store", "first")
        if "train" in jobs:
            self.command("ingest", "few", "--store", "small")
            self.command("show", "small", "--class", "sun")
        if jobs & {"show", "inspect", "evaluate", "pipeline"}:
            self.command(*PIPELINE)


PIPELINE = ("pipeline", "many", "--store", "store", "--recipe", "demo", "--run-dir", "run")
PIPELINE += ("--set", "train.epochs=1", "--set", "train.image.side_px=24")
TRAIN = ("train", "--store", "small", "--recipe", "demo", "--nproc", "2", "--set", "epochs=1")
TRAIN += ("--set", "global_batch_size=128", "--set", "tracking.log_every_steps=1")


def ingest(side: Side, turn: str, report: Path | None) -> list[float]:
    words = ("ingest", "one", "--store", f"store-{turn}")
    return [side.command(*words, report=report), side.command(*words)]


def show(side: Side, turn: str, report: Path | None) -> list[float]:
    return [side.command("show", "store", "--class", "sun", report=report)]


def inspect(side: Side, turn: str, report: Path | None) -> list[float]:
    return [side.command("inspect", "run", report=report)]


def train(side: Side, turn: str, report: Path | None) -> list[float]:
    run_dir = f"run-{turn}"
    begun = time.time()
    side.command(*TRAIN, "--run-dir", run_dir, report=report)
    ended = time.time()
    records, _ = follow(side.folder / run_dir / JOURNAL_NAME, 0)
    steps = [r["time_ms"] / 1_000 for r in records if "train/loss" in r.get("metrics", ())]
    return [steps[0] - begun, ended - steps[-1]]


def evaluate(side: Side, turn: str, report: Path | None) -> list[float]:
    words = ("evaluate", "run", "--store", "store", "--report-dir", f"report-{turn}")
    return [side.command(*words, report=report), side.command(*words)]


def pipeline(side: Side, turn: str, report: Path | None) -> list[float]:
    return [side.command(*PIPELINE, report=report)]


@dataclass(frozen=True)
class Row:
    """A time that a job measures. times_imports: the bar as a multiple of the imports' time."""

    name: str
    most_seconds: float
    times_imports: float | None = None

    def most(self, imports: float) -> float:
        """The bar, in seconds."""
        return min(self.most_seconds, (self.times_imports or float("inf")) * imports)


Measure = Callable[[Side, str, Path | None], list[float]]
JOBS: dict[str, tuple[Measure, tuple[Row, ...]]] = {
    "ingest": (
        ingest,
        (
            Row("`ingest` of one CSV of 2,000 rows", 2.0, times_imports=2),
            Row("`ingest`, nothing to do", 1.2),
        ),
    ),
    "show": (show, (Row("`show`, the pack is there", 1.5),)),
    "inspect": (inspect, (Row("`inspect` of a run", 3.0),)),
    "train": (
        train,
        (
            Row("`train`, to the first step, two ranks", 9.0),
            Row("`train`, from the last step to the end", 4.0),
        ),
    ),
    "evaluate": (
        evaluate,
        (
            Row("`evaluate` of 2,400 drawings, with its report", 7.0),
            Row("`evaluate`, predictions kept", 4.0),
        ),
    ),
    "pipeline": (pipeline, (Row("`pipeline`, nothing to do", 3.5),)),
}


def importing(side: Side, measure: Measure, name: str, runs: int) -> float:
    """Seconds of a process that imports what a job's command imports."""
    report = side.folder / f"modules-{name}.json"
    measure(side, "report", report)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        command = [sys.executable, "-c", IMPORTING, str(report)]
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measured(after: Side, before: Side | None, jobs: list[str], runs: int) -> None:
    print("| command | at most | before | after | its imports | |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name in jobs:
        measure, rows = JOBS[name]
        imports = importing(after, measure, name, runs)
        found: dict[Side, list[list[float]]] = {}
        for turn in range(runs):
            for side in filter(None, (before, after)):
                found.setdefault(side, []).append(measure(side, str(turn), None))
        for place, row in enumerate(rows):
            medians = {
                side: statistics.median(times[place] for times in turns)
                for side, turns in found.items()
            }
            most, seconds = row.most(imports), medians[after]
            verdict = "met" if seconds <= most else f"missed by {seconds - most:.1f} s"
            was = f"{medians[before]:.1f} s" if before else ""
            print(
                f"| {row.name} | {most:.1f} s | {was} | {seconds:.1f} s | {imports:.1f} s | "
                f"{verdict} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="checkout to measure as well")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(JOBS), help="jobs, with commas between")
    parser.add_argument("--work", type=Path, help="an empty folder to work in, kept")
    options = parser.parse_args()
    jobs = options.only.split(",")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "dask"))
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, "
          f"{os.cpu_count()} cores, median of {options.runs}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        work = options.work or Path(name)
        sides = [Side(CHECKOUT, work / "after")]
        if options.before is not None:
            sides.append(Side(options.before.resolve(), work / "before"))
        for side in sides:
            side.folder.mkdir(parents=True)
        for folder, classes, rows in (("one", 1, 2_000), ("few", 4, 500), ("many", 24, 500)):
            sides[0].command("generate", work / folder, "--classes", classes, "--rows", rows)
        for side in sides:
            side.set_up(work, {*jobs})
        measured(sides[0], sides[1] if len(sides) > 1 else None, jobs, options.runs)


if __name__ == "__main__":
    main()
