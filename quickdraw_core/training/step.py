"""One training step, and one validation: the two pieces that the loop is made of."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from quickdraw_core.loading.loader import Batch
from quickdraw_core.loading.order import stream_key
from quickdraw_core.modeling.flip_tta import looks_of, mean_of
from quickdraw_core.modeling.loss_functions import LossFunction, distillation
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.hardware import Arithmetic
from quickdraw_core.training.validation import Adjusting, best_of, tallies

VALIDATION_BATCH = 256


class Teachers(NamedTuple):
    """Trained networks to learn from, and the weight of their guesses in the loss, 0..1."""

    networks: list[Callable[[Tensor], Tensor]]
    share: float


class StepResult(NamedTuple):
    """What a step says of itself: mean loss of this rank, on its device; seconds without data."""

    loss: Tensor
    waited_seconds: float


class Trainer:
    """Network, optimiser and loss of one rank, stepped over micro-batches."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        loss: LossFunction,
        ranks: Ranks,
        arithmetic: Arithmetic,
        seed: int,
        clip_norm: float | None = None,
        ema_decay: float | None = None,
        micro_split: int = 1,
        teachers: Teachers | None = None,
    ) -> None:
        """micro_split: into how many pieces a micro-batch is cut if it does not fit into
        memory; the gradient is the same but for batch norm, which sees smaller groups. teachers:
        on the device.
        """
        self.network, self.optimizer, self.loss = network, optimizer, loss
        self.ranks, self.arithmetic, self.seed = ranks, arithmetic, seed
        self.clip_norm, self.micro_split, self.teachers = clip_norm, micro_split, teachers
        self.average = (
            AveragedModel(network, multi_avg_fn=_running_average(ema_decay), use_buffers=True)
            if ema_decay is not None
            else None
        )
        self.parallel = ranks.wrap(network)
        self.forward = arithmetic.forward_of(self.parallel)
        self._are_buckets_settled = ranks.world_size == 1

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated: the running average if one is kept."""
        return self.network if self.average is None else self.average.module

    def step(
        self, step: int, batches: Iterator[Batch], parts: int, learning_rate: float
    ) -> StepResult:
        """One optimiser step over this rank's `parts` micro-batches."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        total, waited = torch.zeros((), device=self.ranks.device), 0.0
        for part in range(parts):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            if not self._are_buckets_settled:
                self._settle_buckets(batch)
            # Keyed by the micro-batch, not by the rank: dropout too is the same on any world
            # size, and after a resume.
            number = self.ranks.rank * parts + part
            self._seed(int(stream_key(self.seed, step, number)) >> 1)
            total += self._backward(batch, parts, is_last=part == parts - 1)
        if self.clip_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return StepResult(total, waited)

    def _settle_buckets(self, batch: Batch) -> None:
        """Has the ranks exchange gradients once for nothing, before the first step of a process.

        After its first exchange DDP sorts the gradients into other buckets, in the order in which
        they came. Where a gradient stands decides in which order three or more ranks add it up,
        hence its rounding: a run that goes on would differ in its first step.
        """
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        images = self.arithmetic.input(batch.images_nchw[:2], self.ranks.device)
        with self.arithmetic.autocast(self.ranks.device):
            logits = self.parallel(images)
        logits.float().sum().backward()
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self._are_buckets_settled = True

    def _seed(self, seed: int) -> None:
        # Without a GPU, torch.manual_seed notes the call stack for each kind of device that it
        # may yet have to seed: 2 ms a step.
        if self.ranks.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def weights_norm(self) -> float:
        """Norm of all weights together: not finite if any of them is not."""
        return float(get_total_norm(list(self.network.parameters())))

    def synchronize(self) -> None:
        """Brings what differs between the ranks, running statistics alone, to their mean.

        To be called by every rank before the network is judged or saved: a run that goes on from
        a checkpoint has the same statistics everywhere.
        """
        self.ranks.average_buffers(self.network)
        if self.average is not None:
            self.ranks.average_buffers(self.average.module)

    def _backward(self, batch: Batch, parts: int, is_last: bool) -> Tensor:
        """Adds a micro-batch's gradient; the ranks exchange theirs in the last one's backward.

        Returns its share of the step's loss.
        """
        device = self.ranks.device
        images = self.arithmetic.input(batch.images_nchw, device)
        labels = batch.labels_n.to(device, non_blocking=True)
        total = torch.zeros((), device=device)
        pieces = list(
            zip(images.chunk(self.micro_split), labels.chunk(self.micro_split), strict=True)
        )
        for number, (some_images, some_labels) in enumerate(pieces):
            exchanging = is_last and number == len(pieces) - 1
            with self.ranks.exchanging(self.parallel, exchanging):
                # First, while there are no activations to be kept for the backward pass.
                guesses = self._guesses(some_images)
                with self.arithmetic.autocast(device):
                    logits = self.forward(some_images)
                share = len(some_labels) / len(labels) / parts
                loss = self._loss(logits.float(), some_labels, guesses) * share
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _guesses(self, images: Tensor) -> list[Tensor]:
        """The logits of each teacher, without a gradient: float [N, K] each."""
        networks = [] if self.teachers is None else self.teachers.networks
        with torch.no_grad(), self.arithmetic.autocast(images.device):
            return [teacher(images) for teacher in networks]

    def _loss(self, logits: Tensor, labels: Tensor, guesses: list[Tensor]) -> Tensor:
        """That of the words, and with teachers that of their guesses: see `distill.py`."""
        of_words = self.loss(logits, labels)
        if self.teachers is None:
            return of_words
        share = self.teachers.share
        return (1 - share) * of_words + share * distillation(logits, guesses)

    def validate(
        self,
        network: nn.Module,
        batches: Iterator[Batch],
        adjusting: Adjusting | None = None,
    ) -> dict[str, float]:
        """Loss, MAP@3, its mean over classes, top-1, top-3 over the `batches` of all ranks. With
        `adjusting`, all but the loss are of the adjusted logits, and the chosen tau is among them.
        """
        network.eval()
        each = tallies(adjusting)
        with torch.inference_mode():
            for batch in batches:
                labels = batch.labels_n.to(self.ranks.device, non_blocking=True)
                images = self.arithmetic.input(batch.images_nchw, self.ranks.device)
                with self.arithmetic.autocast(self.ranks.device):
                    looks = [look.float() for look in looks_of(network, images)]
                loss = float(self.loss(mean_of(looks), labels))
                for tally in each:
                    tally.add(looks, labels, loss)
        network.train()
        return best_of(each, adjusting, self.ranks)


Tensors = tuple[Tensor, ...] | list[Tensor]


def _running_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An exponential average that forgets its first values sooner than its last.

    The decay rises to its value with the number of steps, as in TensorFlow's
    `ExponentialMovingAverage`: else the first weights, which are random, would stay in for long.
    """

    def update(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, share)
        else:  # counters
            torch._foreach_copy_(averaged, current)

    return update
