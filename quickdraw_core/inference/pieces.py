"""Predictions in pieces that other processes compute, on other hosts too.

A piece holds drawings, not where they are, and the models go along as their weights. So whoever
computes needs neither the store nor a run folder nor MLflow. The batches are those of one process
(`predict_rows`, `rendered_pieces`), and no piece depends on how many compute, so neither do the
results.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from quickdraw_core.drawing import DrawingBatch, Int64Array, UInt64Array
from quickdraw_core.errors import EvaluationError
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.predictions import ranked
from quickdraw_core.loading.gather import gather
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack

PIECE_BATCHES = 4
"""Batches of a piece: a second of a small network's work, some hundred kB of drawings."""

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")


class Computing(Protocol):
    """Who computes pieces of work, such as the workers of a Dask cluster (`cluster/`)."""

    def results(
        self, shared: S, function: Callable[[S, P], R], pieces: Iterable[P]
    ) -> Generator[R]:
        """`function(shared, piece)` of each piece, in the order of the pieces.

        shared: sent once to each process that computes. Pieces are taken from the iterable as
        they are needed. A process that is lost costs the pieces that it had: others compute them.
        Raises what the function raises on purpose, and `ClusterError`.
        """


class PortableModels:
    """Models as they are sent to another process: without optimizer state, opened there at first
    use.
    """

    def __init__(self, models: Ensemble) -> None:
        self._members = tuple(_portable(member) for member in models.members)
        self._digest = models.digest
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._models: Ensemble | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_members": self._members, "_digest": self._digest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @property
    def models(self) -> Ensemble:
        """The models, of this process. Raises `EvaluationError` if they are not what was sent."""
        with self._lock:
            if self._models is None:
                opened = Opened()
                members = (TrainedModel(opened=opened, **values) for values in self._members)
                models = Ensemble(tuple(members))
                if models.digest != self._digest:
                    raise EvaluationError(
                        "a model arrived at a worker with other weights than it was sent with; "
                        "give the command again"
                    )
                self._models = models
            return self._models


def _portable(member: TrainedModel) -> dict[str, Any]:
    """The values of `TrainedModel`, but for what it has open. Its weights are copied: a view
    would take all of what it is a view of along.
    """
    trained = member.checkpoint.trained_weights
    weights = {name: value.detach().cpu().clone() for name, value in trained.items()}
    checkpoint = replace(member.checkpoint, states={"model": weights}, provenance={})
    names = ("reference", "config", "path", "average", "tta", "precision")
    return {"checkpoint": checkpoint} | {name: getattr(member, name) for name in names}


class LabelledPiece(NamedTuple):
    """Batches of drawings, and the right labels of each, int64 [N]."""

    batches: tuple[DrawingBatch, ...]
    labels: tuple[Int64Array, ...]


@dataclass(frozen=True)
class Computed:
    """What became of a piece. values: of each batch. seconds: that it took in all;
    drawing_seconds: of them until the images were drawn.
    """

    values: list[Any]
    seconds: float
    drawing_seconds: float

    @property
    def drawing_share(self) -> float:
        """Share of the time in which the models waited for drawings."""
        return self.drawing_seconds / self.seconds if self.seconds else 0.0


def held_out_pieces(pack: Pack, rows: Int64Array, batch_size: int) -> Iterator[LabelledPiece]:
    """The drawings at some rows of the pack, int64 [N], in pieces."""
    firsts = iter(range(0, len(rows), batch_size))
    for some in in_groups(firsts, PIECE_BATCHES):
        batches, labels = [], []
        for first in some:
            chosen = rows[first : first + batch_size]
            labels.append(np.empty(len(chosen), np.int64))
            key_ids: UInt64Array = np.empty(len(chosen), np.uint64)
            batches.append(gather(pack, chosen, labels[-1], key_ids))
        yield LabelledPiece(tuple(batches), tuple(labels))


def rank_piece(models: PortableModels, piece: LabelledPiece) -> Computed:
    """The columns of `Predictions` that the models decide, of each batch (`ranked`)."""
    labels = iter(piece.labels)
    return _computed(
        models.models,
        piece.batches,
        lambda scores: ranked(scores, torch.from_numpy(next(labels))),
    )


def score_piece(models: PortableModels, batches: tuple[DrawingBatch, ...]) -> Computed:
    """Natural log probabilities of each batch: float32 [N, K]."""
    return _computed(models.models, batches, lambda scores: scores.numpy())


def _computed(
    models: Ensemble, batches: Iterable[DrawingBatch], value: Callable[[torch.Tensor], Any]
) -> Computed:
    begun, drawing, values = time.perf_counter(), 0.0, []
    for batch in batches:
        if not len(batch):
            values.append(value(torch.empty(0, len(models.label_map))))
            continue
        since = time.perf_counter()
        images = models.images(batch)
        drawing += time.perf_counter() - since
        values.append(value(models.log_probabilities(images)))
    return Computed(values, time.perf_counter() - begun, drawing)


def in_groups(items: Iterator[P], size: int) -> Iterator[list[P]]:
    """The items in lists of `size`, the last one of fewer."""
    while group := list(islice(items, size)):
        yield group
