"""What the steps of `gpu_check.py` share: doodles, commands, and what a training wrote."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.loading.gather import gather
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store

WORDS = 24
Found = dict[str, Any]
"""What a step found: figures by name."""


@dataclass(frozen=True)
class Check:
    """What a step works with. folder: shared by all steps. device: `cuda` or `cpu`. quick: with so
    little work that its figures say nothing.
    """

    folder: Path
    device: str
    quick: bool

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def some(self, usual: int, quick: int) -> int:
        """An amount of work."""
        return quick if self.quick else usual

    def wait(self) -> None:
        """Until the device has computed all that it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def rate(self, work: Callable[[], object], amount: int, seconds: float) -> float:
        """Amount a second of work that is repeated for so long, after two rounds to warm up."""
        work(), work(), self.wait()
        begun, rounds = time.perf_counter(), 0
        while time.perf_counter() - begun < (0.2 if self.quick else seconds):
            work()
            self.wait()
            rounds += 1
        return amount * rounds / (time.perf_counter() - begun)

    def drawings(self, number: int, first: int = 0) -> DrawingBatch:
        """So many of the store's drawings."""
        pack = open_pack(Store.open(self.store))
        rows = np.arange(first, first + number)
        return gather(pack, rows, np.empty(number, np.int64), np.empty(number, np.uint64))


def quickdraw(*words: object) -> list[str]:
    """A command of this package, by this interpreter."""
    return [sys.executable, "-m", "quickdraw_core.cli", *map(str, words)]


def run_command(command: list[str], **options: Any) -> str:
    """Its output. Raises `RuntimeError` with the last lines of it if it fails."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    if done.returncode:
        raise RuntimeError("\n".join(done.stdout.strip().splitlines()[-6:]))
    return done.stdout


def training(check: Check, run: Path, ranks: int, **values: object) -> list[str]:
    """The command of a training on the doodles, with these options beside its device."""
    options = {"hardware.device": check.device, **values}
    sets = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    command = ["train", "--store", check.store, "--recipe", "demo", "--run-dir", run]
    return quickdraw(*command, "--nproc", ranks, "--tracking-uri", "none", *sets)


def journal(run: Path) -> list[dict[str, float]]:
    """The metrics of a run's journal, with their step, as they were written."""
    path = run / "journal.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # a last line of a training that was killed
            continue
        if "metrics" in record:
            records.append({"step": record["step"], **record["metrics"]})
    return records


def last_score(run: Path) -> float:
    """MAP@3 of a run's last validation."""
    scores = [r["validation/map_at_3"] for r in journal(run) if "validation/map_at_3" in r]
    if not scores:
        raise RuntimeError(f"no validation in {run}")
    return scores[-1]


def prepare(check: Check) -> None:
    """Draws the doodles that all steps work with."""
    rows = check.some(1_000, 60)
    generate_csvs(check.folder / "csv", default_words(WORDS), rows, seed=0)
    options = {"source": check.folder / "csv", "store": check.store, "workers": os.cpu_count()}
    ingest(IngestConfig.parse(options))
