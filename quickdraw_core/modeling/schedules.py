"""Learning-rate schedules, stepped per iteration: one row of `SCHEDULES` a choice.

Each is a pure function of (step, steps in all) → factor of the learning rate, so that resuming
needs the step alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from quickdraw_core.errors import ConfigError, nearest

Factor = Callable[[int, int], float]

REPORT_MILESTONES = (5_000, 12_000, 18_000)
REPORT_GAMMA = 0.5


class Schedule(NamedTuple):
    """A row of the table: factor of the learning rate at (step, steps in all), and why."""

    factor: Factor
    reason: str


def _multistep(step: int, steps: int) -> float:
    return float(REPORT_GAMMA ** sum(step >= milestone for milestone in REPORT_MILESTONES))


def _onecycle(step: int, steps: int, rise: float = 0.2, start: float = 0.04) -> float:
    peak = max(1.0, rise * steps)
    if step < peak:
        return start + (1 - start) * (1 - math.cos(math.pi * step / peak)) / 2
    return (1 + math.cos(math.pi * min(1.0, (step - peak) / max(1.0, steps - peak)))) / 2


SCHEDULES: dict[str, Schedule] = {
    "onecycle": Schedule(_onecycle, "rises for a fifth, then falls to nothing (Smith, 2018)"),
    "multistep": Schedule(_multistep, "halves at 5,000, 12,000 and 18,000, as the report"),
}


def find_schedule(name: str) -> Factor:
    """The factor function of `name`. Raises `ConfigError` for an unknown one."""
    if name not in SCHEDULES:
        raise ConfigError(f"unknown schedule {name!r}: {nearest(name, SCHEDULES)}")
    return SCHEDULES[name].factor
