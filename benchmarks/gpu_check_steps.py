"""The steps of `gpu_check.py`: what each does on a GPU, and what it finds."""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from quickdraw_core.assignments import merged
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.loading.gather import gather
from quickdraw_core.modeling.losses import build_loss
from quickdraw_core.modeling.models import build_model
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.recipes import find_recipe
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.render.on_device import draw_on_device
from quickdraw_core.render.placement import centred
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import Arithmetic

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


def train_and_resume(check: Check) -> Found:
    """Trains the demo's model on one device, kills it with `kill -9`, and has it go on."""
    steps = check.some(600, 60)
    command = training(
        check, check.run, 1, **{"max_steps": steps, "checkpoints.every_steps": steps // 6}
    )
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    checkpoints = check.run / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("step-*.pt")):
        time.sleep(0.02)
    first_checkpoint = time.perf_counter() - begun
    if process.poll() is not None:
        said = process.stdout.read().decode() if process.stdout else ""
        raise RuntimeError(f"it ended before it was killed: {said[-600:]}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    said = run_command(command)
    goes_on = [line for line in said.splitlines() if "going on from step" in line]
    if not goes_on:
        raise RuntimeError(f"it did not go on from a checkpoint: {said[-600:]}")
    score = last_score(check.run)
    if not check.quick and score < 0.8:
        raise RuntimeError(f"validation MAP@3 {score:.3f} after {steps} steps; 0.8 is expected")
    return {
        "steps": steps,
        "seconds to the first checkpoint": round(first_checkpoint, 1),
        "went on": goes_on[0].strip(),
        "validation MAP@3": round(score, 4),
    }


def train_on_all(check: Check) -> Found:
    """The same on all devices of this machine at once, which exchange gradients (nccl on GPUs)."""
    ranks = torch.cuda.device_count() if check.device == "cuda" else 2
    if ranks < 2:
        return {"left out": "one GPU"}
    run, steps = check.folder / "run-all", check.some(200, 30)
    options = {"max_steps": steps, "global_batch_size": 64 * ranks, "micro_batch_size": 64}
    run_command(training(check, run, ranks, **options))
    rates = [r["train/images_per_second"] for r in journal(run) if "train/loss" in r]
    return {
        "ranks": ranks,
        "validation MAP@3": round(last_score(run), 4),
        "images/s": round(statistics.median(rates)),
    }


DRAWN_AT_ONCE = 2_000


def draw(check: Check) -> Found:
    """Drawing on the device against the compiled code of the processor, on 20,000 drawings."""
    device, found = torch.device(check.device), Found()
    parts = [
        (part, centred(part))
        for first in range(0, check.some(20_000, 200), DRAWN_AT_ONCE)
        for part in [check.drawings(check.some(DRAWN_AT_ONCE, 200), first)]
    ]
    for side_px in (28, 64, 128, 224):
        image, largest, total = ImageConfig(encoding="gray", side_px=side_px), 0, 0.0
        for batch, points in parts:
            drawn = draw_on_device(batch, points, image, device).cpu().numpy().astype(np.int16)
            difference = np.abs(drawn - render(batch, image, points))
            largest, total = max(largest, int(difference.max())), total + float(difference.mean())
        if largest > 1:
            raise RuntimeError(f"{side_px} px: pixels differ by {largest} of 255; 1 is expected")
        batch, points = parts[0]
        on_device = partial(draw_on_device, batch, points, image, device)
        on_processor = partial(render, batch, image, points)
        found[f"{side_px} px"] = {
            "drawings": sum(len(part) for part, _ in parts),
            "largest difference": largest,
            "mean difference": float(f"{total / len(parts):.2g}"),
            "images/s on the device": round(check.rate(on_device, len(batch), 1.0)),
            "images/s on one thread": round(check.rate(on_processor, len(batch), 1.0)),
        }
    return found


NETWORKS: Mapping[str, dict[str, Any]] = {
    "small_cnn, 32 px": {"model": "small_cnn"},
    "resnet18, 64 px": {"model": "resnet18", "image": {"side_px": 64}},
    "resnet34, 64 px (recipe full)": {"model": "resnet34", "image": {"side_px": 64}},
    "stroke_transformer": {"model": "stroke_transformer", "image": {"encoding": "points"}},
}
ARITHMETIC: Mapping[str, Arithmetic] = {
    "fp32": Arithmetic(bf16=False, channels_last=False, compiled=False),
    "bf16": Arithmetic(bf16=True, channels_last=False, compiled=False),
    "bf16, channels last": Arithmetic(bf16=True, channels_last=True, compiled=False),
    "bf16, channels last, compiled": Arithmetic(bf16=True, channels_last=True, compiled=True),
}


def network_config(check: Check, name: str) -> TrainConfig:
    """The configuration of a row of `NETWORKS`, with batches that suit the device."""
    size = check.some(256, 8)
    options = merged({"global_batch_size": size, "micro_batch_size": size}, NETWORKS[name])
    return find_recipe("demo").updated(merged(options, {"hardware": {"ranks": 1}}))


def step_bare(check: Check) -> Found:
    """Images a second of the bare step, on one fixed batch, by network and arithmetic."""
    found = Found()
    for name in NETWORKS:
        for kind, arithmetic in ARITHMETIC.items():
            if arithmetic.compiled and check.device == "cpu":
                continue
            try:
                rate = bare_rate(check, network_config(check, name), arithmetic)
            except Exception as error:  # noqa: BLE001 the other rows still count
                found.setdefault(name, {})[kind] = f"{type(error).__name__}: {error}"[:200]
            else:
                found.setdefault(name, {})[kind] = round(rate)
    if all(isinstance(value, str) for row in found.values() for value in row.values()):
        raise RuntimeError(f"no network could be trained: {found}")
    return found


def bare_rate(check: Check, config: TrainConfig, arithmetic: Arithmetic) -> float:
    """Images a second of forward, backward and optimiser."""
    device = torch.device(check.device)
    network = build_model(config.model, config.image, 345)
    arithmetic.place(network, device)
    network.train()
    forward = torch.compile(network) if arithmetic.compiled else network
    optimizer, loss_of = build_optimizer(config.optimizer, network), build_loss(config.loss)
    image, size = config.image, config.micro_batch_size
    drawn = torch.randint(
        0, 256, (size, image.channels, image.side_px, image.side_px), dtype=torch.uint8
    )
    labels = (torch.arange(size) % 345).to(device)
    images = arithmetic.input(drawn, device)

    def step() -> None:
        with arithmetic.autocast(device):
            logits = forward(images)
        loss_of(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return check.rate(step, size, 2.0)


def train_with_loader(check: Check) -> Found:
    """Images a second of real trainings, drawn by the processor and on the device, and the share
    of the time that they wait for data. Compare with the bare step.
    """
    found = Found()
    for name in ("small_cnn, 32 px", "resnet18, 64 px"):
        for draws in ("cpu", "device"):
            run = check.folder / f"run-{len(found)}"
            values = network_config(check, name)
            run_command(
                training(
                    check,
                    run,
                    1,
                    **{
                        "model": values.model.name,
                        "image.side_px": values.image.side_px,
                        "image.draw_on": draws,
                        "global_batch_size": values.global_batch_size,
                        "micro_batch_size": values.micro_batch_size,
                        "max_steps": check.some(300, 12),
                        "validation.every_steps": 10**6,
                        "tracking.log_every_steps": check.some(10, 2),
                    },
                )
            )
            points = [r for r in journal(run) if "train/loss" in r]
            points = points[len(points) // 3 :]
            found[f"{name}, drawn on the {draws}"] = {
                "images/s": round(statistics.median(r["train/images_per_second"] for r in points)),
                "waits for data": round(
                    statistics.median(r["train/data_wait_share"] for r in points), 4
                ),
            }
    return found


def run_out_of_memory(check: Check) -> Found:
    """Leaves a training too little memory for its micro-batch: it goes on with half of it."""
    options = {
        "image.side_px": 160,
        "model.precision": "fp32",
        "global_batch_size": 256,
        "micro_batch_size": 256,
        "max_steps": 2,
        "hardware.compile": "false",
    }
    gigabyte, tried = 1 << 30, list[str]()
    for left in (8.0, 5.6, 4.0, 2.8, 2.0, 1.4, 1.0)[check.some(0, 3) :]:
        run = check.folder / f"run-memory-{left}"
        with memory_left(check.device, int(left * gigabyte)) as process_options:
            try:
                said = run_command(training(check, run, 1, **options), **process_options)
            except RuntimeError as error:
                raise RuntimeError(f"with {left} GB: {error}") from error
        tried.append(f"{left} GB")
        split = json.loads((run / "run.json").read_text("utf-8")).get("micro_split", 1)
        if split > 1:
            line = next((x for x in said.splitlines() if "out of memory with" in x), "")
            return {"memory left": tried[-1], "micro-batch cut into": split, "said": line.strip()}
    raise RuntimeError(f"256 drawings of 160 px fit into each of {', '.join(tried)}")


@contextmanager
def memory_left(device: str, number: int) -> Iterator[Mapping[str, Any]]:
    """So many bytes are left to processes that are started in the block with these options."""
    if device == "cpu":
        yield {
            "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_DATA, (number, number)),
        }
        return
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - number), dtype=torch.uint8, device="cuda")
    try:
        yield {}
    finally:
        del held
        torch.cuda.empty_cache()


def evaluate_and_export(check: Check) -> Found:
    """Evaluates and exports the first step's model; compares its logits with the processor's."""
    from quickdraw_core.inference.ensemble import load_models

    common = ("--store", check.store, "--tracking-uri", "none")
    evaluation, bundle = check.folder / "evaluation.json", check.folder / "bundle"
    run_command(
        quickdraw(
            *("evaluate", check.run, *common, "--json", evaluation),
            *("--report-dir", check.folder / "report"),
            *("--per-class", check.some(100, 10)),
        )
    )
    run_command(quickdraw("export", check.run, "--out", bundle, "--tracking-uri", "none"))
    batch = check.drawings(check.some(2_000, 100))
    model = load_models([str(check.run)]).members[0]
    images = torch.from_numpy(render(batch, model.image))
    here, network = model.logits(images), model.network
    processor = Arithmetic(bf16=False, channels_last=False, compiled=False)
    network.to("cpu", memory_format=torch.contiguous_format)
    with torch.inference_mode():
        there = network(processor.input(images, torch.device("cpu"))).float()
    equal = float((here.argmax(1) == there.argmax(1)).float().mean())
    difference = float((here - there).abs().max())
    if equal < 0.999:
        raise RuntimeError(f"only {equal:.2%} of the first guesses are the processor's")
    scores = json.loads(evaluation.read_text("utf-8"))
    return {
        "test MAP@3": map_at_3(scores),
        "computed on": str(model.device),
        "largest difference of logits": float(f"{difference:.2g}"),
        "equal first guesses": round(equal, 5),
        "bundle": sorted(path.name for path in bundle.iterdir()),
    }


def map_at_3(scores: Any) -> float | None:
    """MAP@3 in an evaluation's JSON."""
    found = scores.get("metrics", scores).get("map_at_3")
    value = found.get("value") if isinstance(found, dict) else found
    return None if value is None else round(float(value), 4)


def prepare(check: Check) -> None:
    """Draws the doodles that all steps work with."""
    rows = check.some(1_000, 60)
    generate_csvs(check.folder / "csv", default_words(WORDS), rows, seed=0)
    options = {"source": check.folder / "csv", "store": check.store, "workers": os.cpu_count()}
    ingest(IngestConfig.parse(options))


class Step(NamedTuple):
    """A step: what it does, and how long it may take, in seconds."""

    run: Callable[[Check], Found]
    seconds: int


STEPS: Mapping[str, Step] = {
    "train, kill, resume": Step(train_and_resume, 110),
    "train on all": Step(train_on_all, 60),
    "draw": Step(draw, 45),
    "bare step": Step(step_bare, 120),
    "train with loader": Step(train_with_loader, 120),
    "out of memory": Step(run_out_of_memory, 60),
    "evaluate and export": Step(evaluate_and_export, 60),
}
