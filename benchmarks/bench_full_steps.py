"""The steps of `bench_full.py`: each a command as a user gives it, and the files it writes.

In: a `Chain`, which says how many drawings of how many classes, and the folder. Out: a `Record` a
step; a training is recorded in parts, cut at the times of its journal.
"""

import csv
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingest_input import FULL_ROWS, generate, plan_classes
from process_usage import MappedFiles, Usage, measure

from quickdraw_core.labels import challenge_words
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.pack import packs_in
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow

RANKS, MORE_RANKS = 2, 4
BYTES_A_DRAWING = {"csv": 490, "store": 110, "pack": 135, "run": 8}
"""About what a drawing takes on the disk; the CSVs are deleted once they are ingested."""
ONCE_BYTES = 1 << 30
"""Checkpoints, predictions, reports: whatever the number of drawings."""
_PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Chain:
    """What is measured: all that decides it, but for the machine.

    drawings: of all classes. per_class: held-out drawings of a class to judge on. predicted: rows
    of the test file.
    """

    drawings: int
    classes: int = 340
    per_class: int = 100
    steps: int = 300
    predicted: int = 112_199
    recipe: str = "laptop340"
    seed: int = 0

    @property
    def words(self) -> list[str]:
        """The classes: evenly spread over the challenge's."""
        words = challenge_words()
        return [words[n * len(words) // self.classes] for n in range(self.classes)]

    @property
    def rows_of_all(self) -> int:
        """Rows of a set of all of the challenge's classes of which these have `drawings`."""
        words, parts = set(self.words), plan_classes(FULL_ROWS, self.seed)
        rows = sum(part.last - part.first for part in parts if part.word in words)
        return round(self.drawings * FULL_ROWS / rows)

    @property
    def smallest_class(self) -> int:
        """Drawings of the class that has the fewest."""
        words = set(self.words)
        parts = plan_classes(self.rows_of_all, self.seed)
        return min(part.last - part.first for part in parts if part.word in words)

    @property
    def disk_bytes(self) -> int:
        """About the most that the folder holds at one time."""
        size = BYTES_A_DRAWING
        before = size["csv"] + size["store"]
        after = size["store"] + size["pack"] + size["run"] * 2
        return self.drawings * max(before, after) + ONCE_BYTES


@dataclass(frozen=True)
class Record:
    """What a step or a part of it took: seconds and bytes."""

    wall_seconds: float
    cpu_seconds: float
    anonymous_bytes: int
    file_bytes: int
    samples: int
    sampling_seconds: float

    @classmethod
    def of(cls, usage: Usage) -> "Record":
        return cls(
            round(usage.wall_seconds, 3),
            round(usage.cpu_seconds, 3),
            usage.anonymous_bytes,
            usage.file_bytes,
            len(usage.samples),
            round(usage.sampling_seconds, 3),
        )


Found = dict[str, Any]
"""What a step adds to the record of a size, as JSON: "rows" by name, and other figures."""


@dataclass(frozen=True)
class Step:
    """A step. run: does it in a folder. leaves: what it writes there, which is deleted before it
    runs, so that a step that was killed is measured from its beginning. obsolete: what no later
    step needs.
    """

    run: Callable[[Chain, Path], Found]
    leaves: tuple[str, ...] = ()
    obsolete: tuple[str, ...] = ()


def command_line(*words: object) -> list[str]:
    """`quickdraw …` of this checkout."""
    return [sys.executable, "-m", "quickdraw_core.cli", *map(str, words)]


def environment() -> dict[str, str]:
    """This one's, without what would have a command work on something of the user's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    return kept | {"PYTHONPATH": str(_PROJECT)}


def run(name: str, folder: Path, *words: object, look: MappedFiles | None = None) -> Usage:
    """Runs and measures `quickdraw …`; what it says goes to a file of the step's name."""
    return measure(command_line(*words), folder, environment(), folder / f"{name}.log", look)


def one_row(name: str, usage: Usage) -> Found:
    """The record of a step that is one row of the table."""
    return {"rows": {name: asdict(Record.of(usage))}}


def generated(chain: Chain, folder: Path) -> Found:
    """Not `quickdraw generate`, which draws recognisable doodles and takes hours for so many."""
    script = _PROJECT / "benchmarks" / "ingest_input.py"
    command = [sys.executable, script, "csv", "--rows", str(chain.rows_of_all)]
    command += ["--seed", str(chain.seed), "--words", *chain.words]
    usage = measure(command, folder, environment(), folder / "generate.log")
    return one_row("generate", usage) | {"csv_bytes": size_of(folder / "csv")}


def ingested(chain: Chain, folder: Path) -> Found:
    held_out = f"test_per_class={chain.per_class}"
    usage = run("ingest", folder, "ingest", "csv", "--store", "store", "--set", held_out)
    kept = Manifest.read(folder / "store").rows_kept
    return one_row("ingest", usage) | {"drawings": kept, "store_bytes": size_of(folder / "store")}


def verified(chain: Chain, folder: Path) -> Found:
    return one_row("verify", run("verify", folder, "verify", "store"))


def described(chain: Chain, folder: Path) -> Found:
    return one_row("describe", run("describe", folder, "describe", "store"))


def packed(chain: Chain, folder: Path) -> Found:
    """The first command that needs the pack builds it."""
    words = ("show", "store", "--class", chain.words[0], "--out", "grid.png")
    usage = run("pack", folder, *words)
    return one_row("pack (by `show`)", usage) | {"pack_bytes": size_of(pack_in(folder))}


def verified_packed(chain: Chain, folder: Path) -> Found:
    name = "verify, with the pack"
    return one_row(name, run("verify-packed", folder, "verify", "store"))


def trained(chain: Chain, folder: Path) -> Found:
    usage, mapped = _train(chain, folder, "train", "run", RANKS, {})
    records, _ = follow(folder / "run" / JOURNAL_NAME, 0)
    rows = {name: asdict(Record.of(part)) for name, part in training_parts(usage, records)}
    return {"rows": rows, "shared": {str(RANKS): mapped}, "run_bytes": size_of(folder / "run")}


def trained_on_more(chain: Chain, folder: Path) -> Found:
    """Shows what more ranks share; validated on little, since that was measured."""
    changes = {"micro_batch_size": 32, "validation.per_class": 1}
    usage, mapped = _train(chain, folder, "train-4", "run-4", MORE_RANKS, changes)
    return one_row(f"train on {MORE_RANKS} ranks", usage) | {"shared": {str(MORE_RANKS): mapped}}


def _train(
    chain: Chain, folder: Path, name: str, run_dir: str, ranks: int, changes: Mapping[str, int]
) -> tuple[Usage, list[dict[str, int]]]:
    """Trains on so many ranks; and what each process had of the pack, at most."""
    values = {"max_steps": chain.steps, "validation.every_steps": chain.steps}
    values |= {"validation.per_class": chain.per_class, "tracking.log_every_steps": 1, **changes}
    words = ["train", "--store", "store", "--recipe", chain.recipe, "--nproc", str(ranks)]
    words += ["--run-dir", run_dir, "--tracking-uri", "none"]
    for key, value in values.items():
        words += ["--set", f"{key}={value}"]
    mapped = MappedFiles(pack_in(folder))
    usage = run(name, folder, *words, look=mapped)
    return usage, [asdict(process) for process in mapped.processes]


def training_parts(usage: Usage, records: list[dict[str, Any]]) -> Iterator[tuple[str, Usage]]:
    """A training, cut at the ends of its first and last step and of its validation."""
    ends: dict[str, list[float]] = {"train/loss": [], "validation/loss": []}
    steps = 0
    for record in records:
        for name, times in ends.items():
            if name in record.get("metrics", {}):
                times.append(record["time_ms"] / 1_000)
                steps = max(steps, record["step"])
    (first, *_, last), validated = ends["train/loss"], ends["validation/loss"][-1]
    begun = usage.samples[0].time
    yield "train: to the end of step 1", usage.between(begun, first)
    yield f"train: steps 2 to {steps}", usage.between(first, last)
    yield "train: validation", usage.between(last, validated)
    yield f"train on {RANKS} ranks, all of it", usage


def evaluated(chain: Chain, folder: Path) -> Found:
    words = ("evaluate", "run", "--store", "store", "--per-class", chain.per_class)
    words += ("--tracking-uri", "none")
    name = f"evaluate {chain.classes * chain.per_class:,} drawings"
    return one_row(name, run("evaluate", folder, *words))


def predicted(chain: Chain, folder: Path) -> Found:
    write_test_file(folder / "test.csv", folder / "test-csv", chain.predicted, chain.seed + 1)
    words = ("predict", "run", "test.csv", "--out", "submission.csv", "--tracking-uri", "none")
    return one_row(f"predict {chain.predicted:,} rows", run("predict", folder, *words))


def write_test_file(path: Path, folder: Path, rows: int, seed: int) -> None:
    """Writes a file of Kaggle's `test_simplified.csv`'s form, of rows of the generated input."""
    shutil.rmtree(folder, ignore_errors=True)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("key_id", "countrycode", "drawing"))
        for source in generate(folder, rows, seed):
            with source.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    writer.writerow((row["key_id"], row["countrycode"], row["drawing"]))
    shutil.rmtree(folder)


def pack_in(folder: Path) -> Path:
    """The pack of the store in a folder."""
    (pack,) = packs_in(folder / "store" / "pack")
    return pack


def size_of(path: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


STEPS: Mapping[str, Step] = {
    "generate": Step(generated, ("csv",)),
    "ingest": Step(ingested, ("store",), obsolete=("csv",)),
    "verify": Step(verified),
    "describe": Step(described),
    "pack": Step(packed, ("store/pack", "grid.png")),
    "verify-packed": Step(verified_packed),
    "train": Step(trained, ("run",)),
    "train-4": Step(trained_on_more, ("run-4",), obsolete=("run-4",)),
    "evaluate": Step(evaluated, ("run/evaluation",)),
    "predict": Step(predicted, ("test.csv", "test-csv", "submission.csv")),
}
"""In the order in which they run."""
