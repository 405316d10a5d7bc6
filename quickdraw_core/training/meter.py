"""Means over the steps between two points of the training curves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from quickdraw_core.training.distributed import Ranks


class Meter:
    """Sums up steps and, once in a while, gives their means over all ranks."""

    def __init__(self, ranks: Ranks, images_a_step: int) -> None:
        self._ranks, self._images_a_step = ranks, images_a_step
        self._begin()

    def _begin(self) -> None:
        self._sums, self._steps = torch.zeros(2, dtype=torch.float64), 0
        self._begun, self._paused_seconds = time.perf_counter(), 0.0

    def add(self, loss_and_wait: Tensor) -> None:
        """Adds what a step returned: (loss, seconds waited for data), float64 [2]."""
        self._sums += loss_and_wait
        self._steps += 1

    def close(self) -> dict[str, float]:
        """Loss, images a second (all ranks) and share of time spent waiting for data, since the
        last call. Every rank must call it.
        """
        seconds = time.perf_counter() - self._begun - self._paused_seconds
        totals = self._ranks.sum(self._sums.to(self._ranks.device)) / self._ranks.world_size
        loss, waited = totals.tolist()
        numbers = {
            "loss": loss / self._steps,
            "images_per_second": self._steps * self._images_a_step / seconds,
            "data_wait_share": waited / seconds,
        }
        self._begin()
        return numbers

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block, such as a validation, whose time does not count as training."""
        begun = time.perf_counter()
        yield
        self._paused_seconds += time.perf_counter() - begun
