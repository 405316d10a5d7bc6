"""Where the rows of a sweep run: each at a time in a slot with GPUs of its own.

Pure but for `Slots`, which hands them out to threads. A slot's GPUs are told to its training
processes alone, by their environment; this process sees all of them throughout.
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
    """Room for one row. devices: as CUDA_VISIBLE_DEVICES names them; none: as this process.

    threads: of each rank, where rows share the processor's cores; None: as many as ever.
    """

    devices: tuple[str, ...] = ()
    threads: int | None = None

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Variables of the slot's training processes, over `own`, those of this process. A user's
        own number of threads stays.
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
    """Slots for rows of `ranks` processes: as many as wished, or as the GPUs allow.

    devices: GPUs that may be used; fewer than `ranks` of them, and rows run on the CPU, one at a
    time unless more are wished. Raises `ConfigError` where the GPUs do not suffice.
    """
    most = len(devices) // ranks
    if not most:
        wished = parallel or 1
        threads = max(1, cores // (ranks * wished)) if wished > 1 else None
        return (Slot((), threads),) * wished
    if parallel is not None and parallel > most:
        raise ConfigError(
            f"{parallel} rows at once of {ranks} ranks each need {parallel * ranks} GPUs, found "
            f"{len(devices)}; give --parallel {most} or less"
        )
    return tuple(
        Slot(tuple(devices[place * ranks : (place + 1) * ranks]))
        for place in range(parallel or most)
    )


class Slots:
    """Slots for the threads that ask for one; who finds none free waits."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    @contextmanager
    def taken(self) -> Iterator[Slot]:
        """A slot that is nobody else's within the block."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)
