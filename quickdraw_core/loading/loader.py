"""Batches ready to train on, drawn ahead of the model by a thread.

The stream is cut into global batches of G samples: step `s` of an epoch takes positions
`[s·G, (s+1)·G)` of the epoch's order. A global batch is cut into fixed micro-batches that the
ranks share out, so the samples of a step, and which of them stand in one micro-batch, do not
depend on the number of ranks. `(epoch, step)` is the whole state.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.augment import AugmentConfig, augment
from quickdraw_core.loading.order import permute
from quickdraw_core.loading.prefetch import prefetched
from quickdraw_core.render.encodings import render
from quickdraw_core.render.placement import Points, centred
from quickdraw_core.store.pack import Pack


class Batch(NamedTuple):
    """A micro-batch: images uint8 [N, C, S, S], labels int64 [N], key_ids uint64 [N]."""

    images_nchw: torch.Tensor
    labels_n: torch.Tensor
    key_ids_n: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """How a global batch is cut. Checked once, for all ranks alike."""

    global_batch_size: int
    micro_batch_size: int
    world_size: int

    def __post_init__(self) -> None:
        if self.global_batch_size % self.micro_batch_size:
            raise ConfigError(
                f"global_batch_size {self.global_batch_size} is no multiple of "
                f"micro_batch_size {self.micro_batch_size}; choose one that is"
            )
        if self.micro_batches % self.world_size:
            raise ConfigError(
                f"{self.micro_batches} micro-batches a step cannot be shared out evenly to "
                f"{self.world_size} ranks; choose a smaller micro_batch_size"
            )

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a global batch."""
        return self.global_batch_size // self.micro_batch_size

    @property
    def micro_batches_a_rank(self) -> int:
        """Micro-batches that each rank computes in a step."""
        return self.micro_batches // self.world_size


class Loader:
    """Micro-batches of one rank from step `start_step` to `end_step`, in order, without end
    of epoch: step `s` belongs to epoch `s // steps_an_epoch`. Iterating again starts over.
    """

    def __init__(
        self,
        pack: Pack,
        rows: Int64Array,
        shape: Shape,
        rank: int,
        encoding: str,
        side_px: int,
        seed: int,
        augment_config: AugmentConfig | None = None,
        start_step: int = 0,
        end_step: int = 1 << 62,
        prefetch: int = 4,
    ) -> None:
        """rows: int64 [n], the train rows of the pack; the rest says how they are drawn."""
        if len(rows) < shape.global_batch_size:
            raise ConfigError(
                f"{len(rows)} drawings to train on do not fill one global batch of "
                f"{shape.global_batch_size}; choose a smaller global_batch_size"
            )
        self.pack, self.rows, self.shape, self.rank = pack, rows, shape, rank
        self.encoding, self.side_px, self.seed = encoding, side_px, seed
        self.augment_config = augment_config
        self.start_step, self.end_step, self.prefetch = start_step, end_step, prefetch

    @property
    def steps_an_epoch(self) -> int:
        """Whole global batches in an epoch; the rest of the order is left to other epochs."""
        return len(self.rows) // self.shape.global_batch_size

    def positions(self, step: int, part: int) -> tuple[int, Int64Array]:
        """Epoch and positions (int64 [micro_batch_size]) of this rank's `part` of a step."""
        epoch, step_in_epoch = divmod(step, self.steps_an_epoch)
        number = self.rank * self.shape.micro_batches_a_rank + part
        first = step_in_epoch * self.shape.global_batch_size + number * self.shape.micro_batch_size
        return epoch, np.arange(first, first + self.shape.micro_batch_size)

    def make(self, step: int, part: int) -> Batch:
        """Draws one micro-batch; a pure function of its arguments and the loader's settings."""
        epoch, positions = self.positions(step, part)
        rows = self.rows[permute(positions, len(self.rows), self.seed, epoch)]
        config = self.augment_config
        if config is None:
            return make_batch(self.pack, rows, self.encoding, self.side_px)

        def place(drawings: DrawingBatch) -> Points:
            return augment(drawings, config, self.seed, epoch, positions)

        return make_batch(self.pack, rows, self.encoding, self.side_px, place)

    def __iter__(self) -> Iterator[Batch]:
        batches = (
            self.make(step, part)
            for step in range(self.start_step, self.end_step)
            for part in range(self.shape.micro_batches_a_rank)
        )
        return prefetched(batches, self.prefetch)


def drawn_rows(
    pack: Pack, rows: Int64Array, encoding: str, side_px: int, batch_size: int, prefetch: int = 4
) -> Iterator[Batch]:
    """Batches of the given rows (int64 [n]) in their order, unchanged: for judging a model."""
    batches = (
        make_batch(pack, rows[first : first + batch_size], encoding, side_px)
        for first in range(0, len(rows), batch_size)
    )
    return prefetched(batches, prefetch)


def make_batch(
    pack: Pack,
    rows: Int64Array,
    encoding: str,
    side_px: int,
    place: Callable[[DrawingBatch], Points] = centred,
) -> Batch:
    """Gathers and draws the given rows of the pack; `place` says where their points stand."""
    drawings = pack.drawings.take(rows)
    images = render(drawings, encoding, side_px, place(drawings))
    return Batch(
        torch.from_numpy(images),
        torch.from_numpy(pack.labels[rows].astype(np.int64)),
        torch.from_numpy(pack.key_ids[rows]),
    )
