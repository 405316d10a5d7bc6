"""A validation: the metrics of all ranks' drawings, and the logit adjustment that suits them.

Where some classes have far more drawings than others, a network gives the rich ones too much.
`logits − tau · ln(share of the class in the training)` takes that back (Menon et al., "Long-tail
learning via logit adjustment", 2021). Each validation tries some values of tau and keeps the one
by which the mean over classes is best; its metrics are those of the adjusted logits.

The adjustment is a constant a class, so it goes into the bias of the last layer, in the weights
that `Checkpoint.weights` gives. Whatever uses them need not know of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from quickdraw_core.loading.prior import log_prior
from quickdraw_core.modeling.flip_tta import mean_of
from quickdraw_core.modeling.ranking import average_precisions, hit_ranks, top_guesses
from quickdraw_core.training.config import AdjustBy, TrainConfig
from quickdraw_core.training.distributed import Ranks

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""What is tried; 0 leaves the logits as they are."""
_DIGITS = 6
"""Decimals by which two means over classes are compared; logits are of float32."""
TAU = "logit_adjustment"
"""Name of the chosen tau among the metrics of a validation."""


class Adjusting(NamedTuple):
    """How tau is chosen. log_prior: float32 [K], see `loading/prior.py`; by: which metric."""

    log_prior: Tensor
    by: AdjustBy

    @classmethod
    def of(
        cls, config: TrainConfig, train_counts: Sequence[int], device: torch.device
    ) -> "Adjusting | None":
        """As configured; None: nothing is adjusted."""
        if config.validation.logit_adjustment is None:
            return None
        prior = torch.from_numpy(log_prior(train_counts, config.select.class_balance))
        return cls(prior.float().to(device), config.validation.logit_adjustment)


@dataclass
class Tally:
    """What one rank's drawings say of the logits less `offsets` (float [K]; None: as they are).

    sums: of loss, drawings whose first guess is right, and those with the right label among
    three. log_losses: −ln p of the right label, if `offsets` were given.
    """

    offsets: Tensor | None = None
    labels: list[Tensor] = field(default_factory=list)
    precisions: list[Tensor] = field(default_factory=list)
    log_losses: list[Tensor] = field(default_factory=list)
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def add(self, looks: Sequence[Tensor], labels: Tensor, loss: float) -> None:
        """Adds a batch. looks: logits float32 [N, K], with flip TTA two; labels: int64 [N]; loss:
        the training's own, their mean.
        """
        if self.offsets is None:
            logits = mean_of(looks)
        else:
            logits = mean_of([look - self.offsets for look in looks])
            self.log_losses.append(
                functional.cross_entropy(logits, labels, reduction="none").double().cpu()
            )
        hits = hit_ranks(top_guesses(logits), labels).cpu()
        self.labels.append(labels.cpu())
        self.precisions.append(average_precisions(hits))
        self.sums += torch.tensor(
            [loss * len(labels), (hits == 0).sum(), (hits >= 0).sum()], dtype=torch.float64
        )

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """Of all ranks' drawings; each rank has its own share of them, or none."""
        largest = max((int(part.max()) for part in self.labels), default=0)
        classes = int(ranks.largest(largest)) + 1
        by_class = torch.zeros(3, classes, dtype=torch.float64)
        for number, labels in enumerate(self.labels):
            by_class[0].index_add_(0, labels, torch.ones(len(labels), dtype=torch.float64))
            by_class[1].index_add_(0, labels, self.precisions[number])
            if self.log_losses:
                by_class[2].index_add_(0, labels, self.log_losses[number])
        totals = ranks.sum(torch.cat([by_class.flatten(), self.sums]).to(ranks.device)).cpu()
        counts, precisions, log_losses = totals[: 3 * classes].view(3, classes)
        drawings, there = counts.sum().clamp(min=1), counts > 0
        loss, first, three = (totals[3 * classes :] / drawings).tolist()
        metrics = {
            "loss": loss,
            "map_at_3": float(precisions.sum() / drawings),
            "map_at_3_class_mean": float((precisions[there] / counts[there]).mean()),
            "top_1": first,
            "top_3": three,
        }
        if self.offsets is not None:
            metrics["log_loss_class_mean"] = float((log_losses[there] / counts[there]).mean())
        return metrics


def tallies(adjusting: Adjusting | None) -> list[Tally]:
    """One for each tau of TAUS; one that adjusts nothing if none is to be chosen."""
    if adjusting is None:
        return [Tally()]
    return [Tally(tau * adjusting.log_prior) for tau in TAUS]


def best_of(each: Sequence[Tally], adjusting: Adjusting | None, ranks: Ranks) -> dict[str, float]:
    """The metrics of the best tally, with its tau; of those that differ by rounding alone the
    smaller tau. Otherwise the number of ranks, which decides how sums are rounded, would choose.

    Every rank must ask, and all get the same.
    """
    metrics = [tally.metrics(ranks) for tally in each]
    if adjusting is None:
        return metrics[0]
    sign = 1 if adjusting.by == "log_loss_class_mean" else -1
    values = [round(sign * each_metrics[adjusting.by], _DIGITS) for each_metrics in metrics]
    best = min(range(len(metrics)), key=lambda number: values[number])
    return metrics[best] | {TAU: TAUS[best]}
