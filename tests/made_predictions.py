"""Predictions of given scores, without a model."""

import numpy as np
import numpy.typing as npt
import torch

from quickdraw_core.inference.predictions import Predictions, ranked
from quickdraw_core.labels import LabelMap

UNSAID = 2
"""Whether the game's own model knew a drawing was not recorded: no subset is judged."""


def words(count: int) -> LabelMap:
    return LabelMap(tuple(f"word {k:03}" for k in range(count)))


def predictions_of(
    logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], recognized: int = 1
) -> Predictions:
    log_probabilities = torch.from_numpy(logits).log_softmax(1)
    return Predictions(
        words(logits.shape[1]),
        key_ids=np.arange(len(labels), dtype=np.uint64),
        labels=labels,
        recognized=np.full(len(labels), recognized, np.uint8),
        **ranked(log_probabilities, torch.from_numpy(labels)),
    )


def sure_predictions(
    labels: npt.NDArray[np.int64], sure: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> Predictions:
    """With these confidences, [N], where the first guess is right, [N]; of more than 3 classes."""
    n, classes = len(labels), int(labels.max()) + 1
    first = np.where(right, labels, (labels + 1) % classes)
    others = [np.where(right, (labels + 1) % classes, labels), (labels + 2) % classes]
    rest = (1 - sure) / 2 - 1e-6
    return Predictions(
        words(classes),
        key_ids=np.arange(n, dtype=np.uint64),
        labels=labels,
        recognized=np.full(n, UNSAID, np.uint8),
        guesses=np.stack([first, *others], 1),
        probabilities=np.stack([sure, rest, rest], 1).astype(np.float32),
        ranks=np.where(right, 0, 1),
        label_log_probabilities=np.log(np.where(right, sure, rest)).astype(np.float32),
    )
