"""What a training will take: steps, files, memory and, by a probe, time."""

import math
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.errors import ConfigError
from quickdraw_core.launching.probe import Probe
from quickdraw_core.launching.room import checkpoint_bytes, training_needs
from quickdraw_core.system.disk import Room, rooms_of
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import choose_device
from quickdraw_core.training.plan import Every, Rows, steps_of

_MOST_STEPS = 1 << 40


@dataclass(frozen=True)
class Duration:
    """Seconds, and the interval that holds them with 95 % probability. validating: of them."""

    expected: float
    low: float
    high: float
    validating: float


@dataclass(frozen=True)
class Estimate:
    """A training before it starts.

    run_dir: where it will be. steps: of the whole run; None: what `max_minutes` allows is not
    known without a probe. done: steps that the run folder has. begun: whether it holds the run.
    classes: with drawings to train
    on. validations, checkpoints: that are to come, every so many steps. checkpoint_bytes: as
    the probe wrote it, else computed. rooms: the disks that something is still to go to. device:
    of the ranks. probe, duration: None if nothing was measured.
    """

    run_dir: Path
    config: TrainConfig
    steps: int | None
    done: int
    begun: bool
    steps_an_epoch: int
    train_drawings: int
    validation_drawings: int
    classes: int
    validations: int | None
    checkpoints: int | None
    every: Every | None
    checkpoint_bytes: int
    rooms: tuple[Room, ...]
    device: str
    probe: Probe | None = None
    duration: Duration | None = None


def estimate(
    config: TrainConfig,
    path: Path,
    rows: Rows,
    classes: int,
    probe: Probe | None = None,
    recorded_steps: int | None = None,
    done: int = 0,
) -> Estimate:
    """Of a training in the run folder `path`. classes: of the label map. recorded_steps: of a run
    that is there, done: those that are behind it.

    Raises `ConfigError` if `max_minutes` is too short by the probe.
    """
    steps = recorded_steps or steps_of(config, rows.steps_an_epoch)
    if steps is None and probe is not None:
        steps = steps_within(config, rows, probe)
    every = None if steps is None else Every.of(config, rows.steps_an_epoch, steps)
    duration = None
    if steps is not None and probe is not None:
        duration = duration_of(config, rows, probe, steps, done)
    size = checkpoint_bytes(config, classes) if probe is None else probe.checkpoint_bytes
    written = None if every is None or steps is None else every.checkpoints(steps)
    needs = [] if done and done == steps else training_needs(config, path, classes, size, written)
    to_come = None
    if done and done == steps:
        to_come = (0, 0)
    elif every is not None and steps is not None:
        to_come = (
            every.validations(steps) - every.validations_until(done),
            every.checkpoints(steps) - every.checkpoints_until(done),
        )
    return Estimate(
        run_dir=path,
        config=config,
        steps=steps,
        done=done,
        begun=recorded_steps is not None or done > 0,
        steps_an_epoch=rows.steps_an_epoch,
        train_drawings=len(rows.train),
        validation_drawings=len(rows.validation),
        classes=sum(count > 0 for count in rows.train_counts),
        validations=None if to_come is None else to_come[0],
        checkpoints=None if to_come is None else to_come[1],
        every=every,
        checkpoint_bytes=size,
        rooms=tuple(rooms_of(needs)),
        device=choose_device(config.hardware.device, config.hardware.ranks),
        probe=probe,
        duration=duration,
    )


def duration_of(
    config: TrainConfig, rows: Rows, probe: Probe, steps: int, done: int = 0
) -> Duration:
    """How long a training takes from step `done` to its last: the steps, the validations and
    checkpoints that come with them, and the start. Pure.

    The interval is that of the steps; what else there is was measured once.
    """
    every = Every.of(config, rows.steps_an_epoch, steps)
    validations = every.validations(steps) - every.validations_until(done)
    checkpoints = every.checkpoints(steps) - every.checkpoints_until(done)
    left = steps - done
    validating = validations * len(rows.validation) * probe.drawing_seconds
    others = validating + checkpoints * probe.checkpoint_seconds + probe.start_seconds
    expected, half = others + left * probe.step_mean, probe.half_width(left)
    return Duration(expected, max(others, expected - half), expected + half, validating)


def steps_within(
    config: TrainConfig, rows: Rows, probe: Probe, spent_seconds: float | None = None
) -> int:
    """The most steps that end within `max_minutes` of the training's start, by the upper end of
    the interval. Pure.

    spent_seconds: since the start, with the probe and what came before it, such as packing the
    store; None: the probe's alone.
    Raises `ConfigError` if not a single one does.
    """
    assert config.max_minutes is not None
    spent = probe.seconds if spent_seconds is None else spent_seconds
    seconds = 60 * config.max_minutes - spent

    def fits(steps: int) -> bool:
        return duration_of(config, rows, probe, steps).high <= seconds

    if not fits(1):
        least = spent + duration_of(config, rows, probe, 1).high
        before = spent - probe.seconds
        what = f"the probe took {probe.seconds:.0f} s"
        what += f", what came before it {before:.0f} s" if before >= 1 else ""
        raise ConfigError(
            f"max_minutes={config.max_minutes:g} is too short: {what}, and one step with "
            f"its validation and checkpoint takes {least - spent:.0f} s; give "
            f"{math.ceil(least / 6) / 10:g} or more"
        )
    low, high = 1, 2
    while high < _MOST_STEPS and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
