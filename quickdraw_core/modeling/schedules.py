"""Learning-rate schedules, stepped per iteration: one row of `SCHEDULES` a choice.

Each is a pure function of the step (0 first) → factor of the learning rate, so that resuming
needs the step alone. With `warmup_steps` = w the factor rises in a line, (step + 1) / w before
step w, times what the schedule says: `cosine` falls over the steps that are left then, and
`multistep` and `step` count from the beginning of the training, warm-up included. `onecycle`
has a rise of its own, a fifth of all steps long: w, if given, is its length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quickdraw_core.errors import ConfigError, nearest

Factor = Callable[[int], float]

REPORT_MILESTONES = (5_000, 12_000, 18_000)
REPORT_GAMMA = 0.5


@dataclass(frozen=True)
class ScheduleOptions:
    """What a schedule goes by: `steps` in all, and the options of `build_schedule`."""

    steps: int
    warmup_steps: int = 0
    milestones: tuple[int, ...] = REPORT_MILESTONES
    gamma: float = REPORT_GAMMA
    step_size: int = REPORT_MILESTONES[0]

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"a schedule needs 1 step or more, found steps={self.steps}")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ConfigError(
                f"warm-up must be within the training: set warmup_steps of 0 to {self.steps}, "
                f"found {self.warmup_steps}"
            )
        rising = all(a < b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        if not rising:
            raise ConfigError(f"milestones must rise from above 0, found {self.milestones}")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"gamma must be above 0 and at most 1, found {self.gamma}")
        if self.step_size < 1:
            raise ConfigError(f"step_size must be 1 or more, found {self.step_size}")


class Schedule(NamedTuple):
    """A row of the table: factor of the learning rate at (step, options), and why."""

    factor: Callable[[int, ScheduleOptions], float]
    reason: str
    own_rise: bool = False


def _constant(step: int, options: ScheduleOptions) -> float:
    return 1.0


def _multistep(step: int, options: ScheduleOptions) -> float:
    return float(options.gamma ** sum(step >= milestone for milestone in options.milestones))


def _step(step: int, options: ScheduleOptions) -> float:
    return float(options.gamma ** (step // options.step_size))


def _cosine(step: int, options: ScheduleOptions) -> float:
    left = max(1, options.steps - options.warmup_steps)
    return _fall(max(0, step - options.warmup_steps) / left)


def _onecycle(
    step: int, options: ScheduleOptions, share: float = 0.2, start: float = 0.04
) -> float:
    peak = max(1.0, options.warmup_steps or share * options.steps)
    if step < peak:
        return 1 - (1 - start) * _fall(step / peak)
    return _fall((step - peak) / max(1.0, options.steps - peak))


def _fall(share: float) -> float:
    """Half a cosine: 1 at 0, 0 at 1 and after."""
    return (1 + math.cos(math.pi * min(1.0, share))) / 2


SCHEDULES: dict[str, Schedule] = {
    "onecycle": Schedule(
        _onecycle, "rises for a fifth, then falls to nothing (Smith, 2018)", True
    ),
    "multistep": Schedule(_multistep, "halves at 5,000, 12,000 and 18,000, as the report"),
    "step": Schedule(_step, "times gamma every so many steps, the report's other"),
    "cosine": Schedule(_cosine, "falls to nothing along half a cosine (Loshchilov, Hutter, 2016)"),
    "constant": Schedule(_constant, "the learning rate as it is"),
}


def build_schedule(
    name: str,
    steps: int,
    *,
    warmup_steps: int = 0,
    milestones: Sequence[int] = REPORT_MILESTONES,
    gamma: float = REPORT_GAMMA,
    step_size: int = REPORT_MILESTONES[0],
) -> Factor:
    """The factor of the learning rate, 0 to 1, as a function of the step (0 first).

    steps: of the training in all. milestones, gamma: of `multistep`; step_size, gamma: of `step`;
    both in steps. Raises `ConfigError` for an unknown name and options out of range.
    """
    row = _find(name)
    options = ScheduleOptions(steps, warmup_steps, tuple(milestones), gamma, step_size)

    def factor(step: int) -> float:
        if step < warmup_steps and not row.own_rise:
            return (step + 1) / warmup_steps * row.factor(step, options)
        return row.factor(step, options)

    return factor


def _find(name: str) -> Schedule:
    if name not in SCHEDULES:
        raise ConfigError(f"unknown schedule {name!r}: {nearest(name, SCHEDULES)}")
    return SCHEDULES[name]
