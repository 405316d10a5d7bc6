"""What happened between two points of the training curves."""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from quickdraw_core.errors import DivergedError
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.step import StepResult

_MEGABYTE = 1e6


class Meter:
    """Collects steps and, once in a while, gives their means over all ranks.

    Losses stay on the device until then: to look at each one would have the device wait for the
    host at every step.
    """

    def __init__(self, ranks: Ranks, images_a_step: int) -> None:
        self._ranks, self._images_a_step = ranks, images_a_step
        self._begin()

    def _begin(self) -> None:
        self._losses: list[Tensor] = []
        self._rates: list[tuple[int, float]] = []
        self._waited_seconds = 0.0
        self._begun, self._paused_seconds = time.perf_counter(), 0.0

    def add(self, step: int, learning_rate: float, stepped: StepResult) -> None:
        """Adds a step (its number from 1) and what it returned."""
        self._losses.append(stepped.loss)
        self._rates.append((step, learning_rate))
        self._waited_seconds += stepped.waited_seconds

    def close(self) -> dict[str, float]:
        """Loss, learning rate, images a second (all ranks) and share of time spent waiting for
        data, since the last call. Every rank must call it.

        Raises `DivergedError` on all ranks if a loss was not finite, naming the first.
        """
        device = self._ranks.device
        waited = torch.tensor([self._waited_seconds], device=device)
        sums = self._ranks.sum(torch.cat([torch.stack(self._losses), waited]).double())
        *losses, waited_seconds = (sums / self._ranks.world_size).tolist()
        seconds = time.perf_counter() - self._begun - self._paused_seconds
        for (step, rate), loss in zip(self._rates, losses, strict=True):
            require_finite("loss", loss, step, rate)
        numbers = {
            "loss": math.fsum(losses) / len(losses),
            "learning_rate": self._rates[-1][1],
            "images_per_second": len(losses) * self._images_a_step / seconds,
            "data_wait_share": waited_seconds / seconds,
        }
        self._begin()
        return numbers

    def memory_megabytes(self) -> float:
        """The most memory that any rank has taken so far. Every rank must call it."""
        return self._ranks.largest(peak_memory_megabytes(self._ranks.device))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block, such as a validation, whose time does not count as training."""
        begun = time.perf_counter()
        yield
        self._paused_seconds += time.perf_counter() - begun


def peak_memory_megabytes(device: torch.device) -> float:
    """The most that this process has had of the GPU's memory; on a CPU, of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / _MEGABYTE
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MEGABYTE


def require_finite(what: str, value: float, step: int, learning_rate: float) -> None:
    """Raises `DivergedError` for infinity and NaN."""
    if not math.isfinite(value):
        raise DivergedError(
            f"the {what} is {value} at step {step}, learning rate {learning_rate:.2g}: "
            "training diverged; lower it (--set optimizer.learning_rate=…) or clip the gradient "
            "(--set optimizer.clip_norm=1); the last good checkpoint is kept"
        )
