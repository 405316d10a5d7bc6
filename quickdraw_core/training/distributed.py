"""The only importer of `torch.distributed`: one process group, and what the loop asks of it."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process among the training processes."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Rank 0 writes: journal, checkpoints, tracking."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the ranks.

        Buffers are left alone in a forward pass: batch norm's running statistics are averaged by
        `average_buffers`, before they are used or saved.
        """
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            network,
            device_ids=device_ids,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )

    def exchanging(self, parallel: nn.Module, now: bool) -> AbstractContextManager[None]:
        """A block whose backward pass averages the gradients over the ranks, or only adds up."""
        if now:
            return nullcontext()
        assert isinstance(parallel, DistributedDataParallel)
        return parallel.no_sync()

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all ranks, in place."""
        distributed.all_reduce(values)
        return values

    def largest(self, value: float) -> float:
        """The largest of the ranks' values."""
        largest = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return largest.item()

    def average_buffers(self, network: nn.Module) -> None:
        """Averages the floating-point buffers (running means and variances) over the ranks."""
        for buffer in network.buffers():
            if buffer.is_floating_point():
                self.sum(buffer).div_(self.world_size)

    def barrier(self) -> None:
        """Waits until every rank is here."""
        distributed.barrier()


@contextmanager
def process_group(device: str, timeout_seconds: int) -> Iterator[Ranks]:
    """Joins the group that torch's launcher describes in the environment: nccl or gloo."""
    local_rank = int(os.environ["LOCAL_RANK"])
    chosen = torch.device(device, local_rank) if device == "cuda" else torch.device("cpu")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout_seconds)
    )
    yield Ranks(distributed.get_rank(), distributed.get_world_size(), chosen)
    # Not after an error: leaving the group makes the others fail, and theirs, only an echo of
    # this one, could come to the launcher first.
    distributed.destroy_process_group()
