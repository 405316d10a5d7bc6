"""What a rank notes of an error: its class, by which the launcher knows what to do."""

import pytest
import torch

from quickdraw_core.errors import DivergedError, OutOfMemoryError, TrainingError, WriteError
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.meter import Meter, peak_memory_megabytes
from quickdraw_core.training.rank import typed_errors

HOSTS = {"hosts": {"nodes": 2, "rendezvous": "host:29500"}, "hardware": {"ranks": 1}}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemoryError),
        (RuntimeError("[unbound_buffer.cc:81] Timed out waiting 2000ms"), TrainingError),
        (DivergedError("the loss is nan"), DivergedError),
        (WriteError("cannot write the file out of memory"), WriteError),
        (RuntimeError("something else"), RuntimeError),
    ],
)
def test_an_error_has_a_class_of_its_own(raised: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, typed_errors(TrainConfig.parse(HOSTS)):
        raise raised
    assert type(caught.value) is kind
    assert str(caught.value).startswith(str(raised))


def test_on_a_single_host_no_other_one_is_waited_for() -> None:
    with pytest.raises(RuntimeError, match=r"^Timed out"), typed_errors(TrainConfig.parse({})):
        raise RuntimeError("Timed out waiting")


def test_memory_is_that_of_the_rank_that_took_most() -> None:
    class Others(Ranks):
        def largest(self, value: float) -> float:
            return max(value, 1e9)

    device = torch.device("cpu")
    assert 0 < peak_memory_megabytes(device) < 1e9
    assert Meter(Others(0, 2, device), 64).memory_megabytes() == 1e9
