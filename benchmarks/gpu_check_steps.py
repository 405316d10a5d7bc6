"""The steps of `gpu_check.py`: what each does on a GPU, and what it finds."""

import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from gpu_check_speed import draw, step_bare, train_with_loader
from gpu_check_work import Check, Found, journal, last_score, quickdraw, run_command, training

from quickdraw_core.render.encodings import render
from quickdraw_core.training.hardware import Arithmetic


def train_and_resume(check: Check) -> Found:
    """Trains the demo's model on one device, kills it with `kill -9`, and has it go on."""
    steps = check.some(600, 60)
    command = training(
        check, check.run, 1, **{"max_steps": steps, "checkpoints.every_steps": steps // 6}
    )
    begun, log = time.perf_counter(), check.folder / "killed.txt"
    # In the step's own group, with which it ends. The ranks end with this one.
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    checkpoints = check.run / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("step-*.pt")):
        time.sleep(0.02)
    first_checkpoint = time.perf_counter() - begun
    if process.poll() is not None:
        raise RuntimeError(f"it ended before it was killed: {log.read_text('utf-8')[-600:]}")
    process.kill()
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
    if not check.run.exists():  # the first step was left out
        train_and_resume(check)
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
