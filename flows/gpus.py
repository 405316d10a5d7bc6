"""GPU slots of the Prefect server: how many GPUs of a whole site are free.

They are a global concurrency limit, named `gpu`: runs queue there, and it is seen in the UI. Its
slots are leased, so that those of a run that was killed come back by themselves. Which GPUs a run
then uses is its host's to say (`quickdraw_core/launching/gpus.py`): a lease that ran out while the
server was away gives nobody a GPU that is in use.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

LIMIT = "gpu"
LEASE_SECONDS = 60


@contextmanager
def gpu_slots(ranks: int, device: str = "auto") -> Iterator[None]:
    """A block that holds a slot for each of `ranks`, once so many are free; none for work of the
    CPU. A limit that was never made admits everybody.
    """
    from quickdraw_core.training.hardware import choose_device  # which loads torch

    if choose_device(device, ranks) != "cuda":
        yield
        return
    with slots_taken(ranks):
        yield


@contextmanager
def slots_taken(count: int) -> Iterator[None]:
    """A block that holds `count` slots of the limit. That a lease cannot be renewed while the
    server is away never ends the work within.
    """
    with concurrency(
        LIMIT,
        occupy=count,
        lease_duration=LEASE_SECONDS,
        strict=False,
        raise_on_lease_renewal_failure=False,
    ):
        yield
