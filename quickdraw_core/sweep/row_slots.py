"""Slots in which the rows of a sweep run: one row at a time each, with GPUs of its own.

Pure except `Slots`, which hands them out to threads. Only the training processes of a slot are
limited to its GPUs, by their environment; this process sees all of them.
"""

import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from quickdraw_core.errors import ConfigError
from quickdraw_core.launching.gpus import VISIBLE
from quickdraw_core.system.threads import NUM_THREADS


@dataclass(frozen=True)
class Slot:
    """Room for one row. devices: as CUDA_VISIBLE_DEVICES names them; empty: all that this process
    has. threads: of each rank if rows share the processor's cores; None: the default.
    """

    devices: tuple[str, ...] = ()
    threads: int | None = None

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Variables to add for the slot's training processes. own: this process's environment; a
        number of threads that the user has set there stays.
        """
        variables = {}
        if self.devices:
            variables[VISIBLE] = ",".join(self.devices)
        if self.threads is not None and NUM_THREADS not in own:
            variables[NUM_THREADS] = str(self.threads)
        return variables


def make_slots(
    parallel: int | None, ranks: int, devices: Sequence[str], cores: int
) -> tuple[Slot, ...]:
    """Slots for rows of `ranks` processes: `parallel`, or as many as the GPUs allow.

    devices: GPUs that may be used. If they are fewer than `ranks`, rows run on the CPU, by default
    one at a time. Raises `ConfigError` if there are too few GPUs.
    """
    most = len(devices) // ranks
    if not most:
        count = parallel or 1
        threads = max(1, cores // (ranks * count)) if count > 1 else None
        return (Slot((), threads),) * count
    if parallel is not None and parallel > most:
        raise ConfigError(
            f"{parallel} rows at once of {ranks} ranks each need {parallel * ranks} GPUs, found "
            f"{len(devices)}; give --parallel {most} or less"
        )
    return tuple(
        Slot(tuple(devices[first : first + ranks]))
        for first in range(0, (parallel or most) * ranks, ranks)
    )


class Slots:
    """Hands out slots to threads; a thread waits until one is free."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    @contextmanager
    def taken(self) -> Iterator[Slot]:
        """A block with a slot of its own."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)
