"""Batches ready to train on, drawn ahead of the model by a pool of threads.

The stream is cut into global batches of G samples: step `s` of an epoch takes positions
`[s·G, (s+1)·G)` of the epoch's order. A global batch is cut into fixed micro-batches that the
ranks share out, so the samples of a step, and which of them stand in one micro-batch, do not
depend on the number of ranks. `(epoch, step)` is the whole state.

A batch's memory is its own: it stays valid as long as the consumer keeps it. If training is
on CUDA the tensors are pinned. They come from torch's own cache of pinned memory, which gives
a block out again only when the last copy that was started from it has ended on the device; a
ring of our own would have to ask the device for that, or risk overwriting a batch on its way.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.augment import Placed, augment
from quickdraw_core.loading.balance import SampleOrder
from quickdraw_core.loading.config import AugmentConfig, BatchShape
from quickdraw_core.loading.gather import gather
from quickdraw_core.loading.joined import TrainPack
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.render.on_device import draw_on_device
from quickdraw_core.render.placement import centred
from quickdraw_core.system.prefetch import prefetched


class Batch(NamedTuple):
    """A micro-batch: images uint8 [N, C, S, S], labels int64 [N], key_ids uint64 [N]."""

    images_nchw: torch.Tensor
    labels_n: torch.Tensor
    key_ids_n: torch.Tensor


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Feed:
    """How batches come to the model: what changes speed, and no result.

    threads: that draw; 0: the one that asks for a batch. prefetch: batches made ahead of the one
    in use; fewer than `threads` leave some idle. device: where training runs; on CUDA the batches
    are pinned, or drawn on it if `ImageConfig.draw_on` says so (`render/on_device.py`).
    """

    threads: int = 1
    prefetch: int = 4
    device: torch.device = _CPU

    def __post_init__(self) -> None:
        for name, least in {"threads": 0, "prefetch": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(
                    f"the loader's {name} must be {least} or more: {getattr(self, name)}"
                )


class Loader:
    """Micro-batches of one rank from step `start_step` to `end_step`, in order, without end
    of epoch: step `s` belongs to epoch `s // steps_an_epoch`. Iterating again starts over.
    """

    def __init__(
        self,
        pack: TrainPack,
        rows: Int64Array,
        shape: BatchShape,
        rank: int,
        image: ImageConfig,
        seed: int,
        augment_config: AugmentConfig | None = None,
        start_step: int = 0,
        end_step: int = 1 << 62,
        class_balance: float = 0.0,
        feed: Feed = Feed(),
    ) -> None:
        """rows: int64 [n], the pack's drawings to train on (`train_rows`); image and
        augment_config: how they are drawn; class_balance: as in `SelectConfig`.
        """
        if len(rows) < shape.global_batch_size:
            raise ConfigError(
                f"{len(rows)} drawings to train on do not fill one global batch of "
                f"{shape.global_batch_size}; choose a smaller global_batch_size"
            )
        self.pack, self.rows, self.shape, self.rank = pack, rows, shape, rank
        self.image, self.seed = image, seed
        self.augment_config, self.feed = augment_config, feed
        self.order = SampleOrder(rows, pack.labels, seed, class_balance)
        self.start_step, self.end_step = start_step, end_step
        self._handed_out = 0

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
        rows = self.order.rows_at(epoch, positions)
        config = self.augment_config
        if config is None:
            return make_batch(self.pack, rows, self.image, self.feed)

        def place(drawings: DrawingBatch) -> Placed:
            return augment(drawings, config, self.seed, epoch, positions)

        return make_batch(self.pack, rows, self.image, self.feed, place)

    def __iter__(self) -> Iterator[Batch]:
        self._handed_out = 0
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        parts = self.shape.micro_batches_a_rank
        numbers = range(self.start_step * parts, self.end_step * parts)

        def make(number: int) -> Batch:
            return self.make(*divmod(number, parts))

        with closing(prefetched(make, numbers, self.feed.threads, self.feed.prefetch)) as made:
            for batch in made:
                self._handed_out += 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the last iteration is: `{"epoch": e, "step": steps of that epoch done}`.

        It counts what was handed out, not what was made ahead; a step of which some micro-batches
        are missing is not done. It is the same on every rank, and says the same to any number.
        """
        done = self.start_step + self._handed_out // self.shape.micro_batches_a_rank
        epoch, step = divmod(done, self.steps_an_epoch)
        return {"epoch": epoch, "step": step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Has the next iteration begin at a `state_dict()`. Raises `ConfigError` if it does not
        belong to as many drawings and as large a global batch as this loader's.
        """
        epoch, step = state["epoch"], state["step"]
        if epoch < 0 or not 0 <= step < self.steps_an_epoch:
            raise ConfigError(
                f"the loader cannot start at epoch {epoch}, step {step}: an epoch of "
                f"{len(self.rows)} drawings has {self.steps_an_epoch} steps; resume with the "
                "store and the global_batch_size that the state was made with"
            )
        self.start_step, self._handed_out = epoch * self.steps_an_epoch + step, 0


def drawn_rows(
    pack: TrainPack, rows: Int64Array, image: ImageConfig, batch_size: int, feed: Feed = Feed()
) -> Generator[Batch]:
    """Batches of the given rows (int64 [n]) in their order, unchanged: for judging a model."""

    def make(first: int) -> Batch:
        return make_batch(pack, rows[first : first + batch_size], image, feed)

    return prefetched(make, range(0, len(rows), batch_size), feed.threads, feed.prefetch)


def _unchanged(drawings: DrawingBatch) -> Placed:
    return Placed(drawings, centred(drawings))


def make_batch(
    pack: TrainPack,
    rows: Int64Array,
    image: ImageConfig,
    feed: Feed,
    place: Callable[[DrawingBatch], Placed] = _unchanged,
) -> Batch:
    """Gathers and draws the given rows of the pack; `place` says where their points stand."""
    if feed.device.index is not None and feed.device.type == "cuda":
        torch.cuda.set_device(feed.device)  # a new thread would open another one of the GPUs
    labels = _empty((len(rows),), torch.int64, feed)
    key_ids = torch.empty(len(rows), dtype=torch.uint64)
    placed = place(gather(pack, rows, labels.numpy(), key_ids.numpy()))
    return Batch(_drawn(placed, image, feed), labels, key_ids)


def _drawn(placed: Placed, image: ImageConfig, feed: Feed) -> torch.Tensor:
    drawings, points = placed
    if image.draw_on == "device":
        return draw_on_device(drawings, points, image, feed.device)
    shape = (len(drawings), image.channels, image.side_px, image.side_px)
    images = _empty(shape, torch.uint8, feed)
    render(drawings, image, points, out=images.numpy())
    return images


def _empty(shape: tuple[int, ...], dtype: torch.dtype, feed: Feed) -> torch.Tensor:
    """Memory that the training device can copy from while the model computes."""
    return torch.empty(shape, dtype=dtype, pin_memory=feed.device.type == "cuda")
