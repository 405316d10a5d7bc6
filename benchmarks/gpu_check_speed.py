"""The steps of `gpu_check.py` that measure: drawing, the bare step, a training's loader."""

import statistics
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_check_work import Check, Found, journal, run_command, training

from quickdraw_core.assignments import merged
from quickdraw_core.modeling.losses import build_loss
from quickdraw_core.modeling.models import build_model
from quickdraw_core.modeling.optimizers import build_optimizer
from quickdraw_core.recipes import find_recipe
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.render.on_device import draw_on_device
from quickdraw_core.render.placement import centred
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import Arithmetic

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
    "sketch_fusion, 32 px": {"model": "sketch_fusion"},
    "resnet18, 64 px": {"model": "resnet18", "image": {"side_px": 64}},
    "resnet34, 64 px": {"model": "resnet34", "image": {"side_px": 64}},
    "recipe full": {"model": "sketch_fusion_resnet34", "image": {"side_px": 64}},
    "recipe challenge": {"model": "resnext50_32x4d", "image": {"side_px": 128}},
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
    forward = arithmetic.forward_of(network)
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
