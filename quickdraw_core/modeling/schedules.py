"""Learning-rate schedules, stepped per iteration: one row of `SCHEDULES` a choice.

Each is a pure function of the step (0 first) → factor of the learning rate, so that resuming
needs the step alone. With `warmup_steps` = w the factor rises in a line, (step + 1) / w before
step w, times what the schedule says: `cosine` falls over the steps that are left then, and
`multistep` and `step` count from the beginning of the training, warm-up included. `onecycle`
has a rise of its own, a fifth of all steps long: w, if given, is its length.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from quickdraw_core.config import NamedConfig, row_of
from quickdraw_core.errors import ConfigError

Factor = Callable[[int], float]


class Schedule(NamedTuple):
    """A row of the table: factor of the learning rate at (step, steps of all, options), why."""

    factor: "Callable[[int, int, ScheduleConfig], float]"
    reason: str
    own_rise: bool = False


def _constant(step: int, steps: int, options: "ScheduleConfig") -> float:
    return 1.0


def _multistep(step: int, steps: int, options: "ScheduleConfig") -> float:
    return float(options.gamma ** sum(step >= milestone for milestone in options.milestones))


def _step(step: int, steps: int, options: "ScheduleConfig") -> float:
    return float(options.gamma ** (step // options.step_size))


def _cosine(step: int, steps: int, options: "ScheduleConfig") -> float:
    left = max(1, steps - options.warmup_steps)
    return _fall(max(0, step - options.warmup_steps) / left)


def _onecycle(
    step: int, steps: int, options: "ScheduleConfig", share: float = 0.2, start: float = 0.04
) -> float:
    peak = max(1.0, options.warmup_steps or share * steps)
    if step < peak:
        return 1 - (1 - start) * _fall(step / peak)
    return _fall((step - peak) / max(1.0, steps - peak))


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


class ScheduleConfig(NamedConfig):
    """The schedule of the learning rate over the steps of a training."""

    name: Annotated[str, row_of(SCHEDULES)] = Field(
        "onecycle", description="row of SCHEDULES, stepped per iteration"
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear rise before the schedule")
    milestones: tuple[int, ...] = Field(
        (5_000, 12_000, 18_000), description="steps at which multistep lowers the learning rate"
    )
    gamma: float = Field(
        0.5, gt=0, le=1, description="factor of each lowering by multistep and step"
    )
    step_size: int = Field(5_000, ge=1, description="steps between two lowerings by step")

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        rising = all(a < b for a, b in pairwise((0, *self.milestones)))
        if not rising:
            raise ConfigError(
                f"schedule.milestones must rise from above 0, found {self.milestones}"
            )
        return self


def build_schedule(schedule: ScheduleConfig, steps: int) -> Factor:
    """The factor of the learning rate, 0 to 1, as a function of the step (0 first).

    steps: of the training in all. Raises `ConfigError` if there are none, or fewer than those
    of the warm-up.
    """
    if steps < 1:
        raise ConfigError(f"a schedule needs 1 step or more, found steps={steps}")
    warmup_steps = schedule.warmup_steps
    if warmup_steps > steps:
        raise ConfigError(
            f"warm-up must be within the training: set schedule.warmup_steps of 0 to {steps}, "
            f"found {warmup_steps}"
        )
    row = SCHEDULES[schedule.name]

    def factor(step: int) -> float:
        if step < warmup_steps and not row.own_rise:
            return (step + 1) / warmup_steps * row.factor(step, steps, schedule)
        return row.factor(step, steps, schedule)

    return factor
