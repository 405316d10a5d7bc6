"""One training step, and one validation: the two pieces that the loop is made of."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from quickdraw_core.loading.loader import Batch, drawn_rows
from quickdraw_core.loading.order import stream_key
from quickdraw_core.modeling.losses import LossFunction
from quickdraw_core.modeling.ranking import average_precisions, hit_ranks, top_guesses
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distributed import Ranks

VALIDATION_BATCH = 256


def to_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, C, S, S] → float32 0..1 on the device, channels last (faster on CPU and GPU)."""
    moved = images.to(device, non_blocking=True)
    return moved.float().div_(255).contiguous(memory_format=torch.channels_last)


class Trainer:
    """Network, optimiser and loss of one rank, stepped over micro-batches."""

    def __init__(
        self, network: nn.Module, optimizer: Optimizer, loss: LossFunction, ranks: Ranks, seed: int
    ) -> None:
        self.network, self.optimizer, self.loss = network, optimizer, loss
        self.ranks, self.seed = ranks, seed
        self.parallel = ranks.wrap(network)

    def step(
        self, step: int, batches: Iterator[Batch], parts: int, learning_rate: float
    ) -> Tensor:
        """One optimiser step over this rank's `parts` micro-batches.

        Returns (mean loss of this rank, seconds that the data was waited for), float64 [2].
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        total, waited = torch.zeros((), device=self.ranks.device), 0.0
        for part in range(parts):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            # Keyed by the micro-batch, not by the rank: dropout too is the same on any world
            # size, and after a resume.
            number = self.ranks.rank * parts + part
            torch.manual_seed(int(stream_key(self.seed, step, number)) >> 1)
            images = to_input(batch.images_nchw, self.ranks.device)
            labels = batch.labels_n.to(self.ranks.device, non_blocking=True)
            loss = self.loss(self.parallel(images), labels) / parts
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.tensor([float(total), waited], dtype=torch.float64)


def validate(
    network: nn.Module, loss: LossFunction, pack: Pack, config: TrainConfig, ranks: Ranks
) -> dict[str, float]:
    """Loss, MAP@3, top-1 and top-3 on the validation drawings, all ranks taking their share."""
    rows = pack.rows(Split.VALIDATION)[ranks.rank :: ranks.world_size]
    totals = torch.zeros(5, dtype=torch.float64, device=ranks.device)
    ranks.average_buffers(network)
    network.eval()
    with torch.inference_mode():
        for batch in drawn_rows(pack, rows, config.encoding, config.side_px, VALIDATION_BATCH):
            logits = network(to_input(batch.images_nchw, ranks.device))
            labels = batch.labels_n.to(ranks.device)
            hits = hit_ranks(top_guesses(logits), labels)
            totals += torch.stack(
                [
                    loss(logits, labels).double() * len(labels),
                    average_precisions(hits).sum(),
                    (hits == 0).sum().double(),
                    (hits >= 0).sum().double(),
                    torch.tensor(float(len(labels)), dtype=torch.float64, device=ranks.device),
                ]
            )
    network.train()
    ranks.sum(totals)
    mean_loss, map_at_3, top_1, top_3 = (totals[:4] / totals[4].clamp(min=1)).tolist()
    return {"loss": mean_loss, "map_at_3": map_at_3, "top_1": top_1, "top_3": top_3}
