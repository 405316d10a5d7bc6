"""From logits to ranked guesses, and what a guess is worth.

MAP@3 as the challenge defines it: with one right word a drawing, the average precision at 3 is
1, 1/2 or 1/3 if the word stands first, second or third, else 0.
"""

import torch
from torch import Tensor

from quickdraw_core.labels import GUESSES


def top_guesses(logits: Tensor) -> Tensor:
    """The three best labels of each row, best first: int64 [N, 3] of float [N, K].

    Equal scores are ranked by label, lowest first, so that the result is the same everywhere
    (`topk` leaves ties open). Fewer than three classes give fewer guesses.
    """
    order = torch.sort(logits, dim=1, descending=True, stable=True).indices
    return order[:, :GUESSES]


def hit_ranks(guesses: Tensor, labels: Tensor) -> Tensor:
    """Place of the right label among the guesses: int64 [N], 0 first, -1 if it is not."""
    hits = guesses == labels[:, None]
    return torch.where(hits.any(1), hits.to(torch.int64).argmax(1), -1)


def average_precisions(ranks: Tensor) -> Tensor:
    """Average precision at 3 of each drawing, float64 [N]; their mean is MAP@3."""
    return torch.where(ranks >= 0, 1.0 / (ranks + 1).double(), 0.0)
