"""How often each class comes among drawings without labels, found by a model's probabilities.

In: log probabilities [N, K], and the shares of the classes that the model takes for granted. Out:
the shares in which the N drawings are explained best, by expectation maximisation: the mean of the
corrected probabilities is the next guess of the shares. (Saerens, Latinne and Decaestecker,
"Adjusting the outputs of a classifier to new a priori probabilities: a simple procedure", Neural
Computation 14, 2002.) A class counts as if one drawing more were known to be of it, so that no
share falls to 0. Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from quickdraw_core.challenge.score_spool import Scores
from quickdraw_core.drawing import Float64Array
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.loading.prior import log_prior
from quickdraw_core.modeling.losses import LOSSES

_MAX_ROUNDS = 50
_SETTLED = 1e-3
"""Sum of the changes of all shares in a round, below which the search ends."""


@dataclass(frozen=True)
class ClassPrior:
    """Shares of the classes, float64 [K] each, all above 0. assumed: which the probabilities take
    for granted; found: those of the drawings. rounds: of the search; 0: there was none.
    """

    assumed: Float64Array
    found: Float64Array
    rounds: int = 0

    def corrected(self, scores: Scores, temperature: float) -> Float64Array:
        """The probabilities with `found` in the place of `assumed`: float64 [N, K].

        scores: natural log probabilities, float32 [N, K], divided by the temperature first.
        """
        logits = scores / np.float64(temperature) + np.log(self.found / self.assumed)
        values = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
        probabilities: Float64Array = values / values.sum(1, keepdims=True)
        return probabilities


def assumed_prior(models: Ensemble) -> Float64Array:
    """The shares of the classes that models take for granted: float64 [K].

    A network that is trained as usual takes those of its training. A loss that allows for the
    sizes of classes takes `loss.tau` of their logarithms away, a logit adjustment its own tau.
    """
    shares = np.zeros(len(models.label_map))
    for member in models.members:
        checkpoint, config = member.checkpoint, member.config
        tau = config.loss.tau if LOSSES[config.loss.name].has_tau else 0.0
        logs = log_prior(checkpoint.train_counts, config.select.class_balance)
        own = np.exp((1 - tau - checkpoint.logit_adjustment) * logs)
        shares += own / own.sum()
    return shares / len(models.members)


def find_prior(
    pieces: Iterable[Scores],
    assumed: Float64Array,
    temperature: float,
    report: Callable[[], None] | None = None,
) -> ClassPrior:
    """The shares of the classes among some drawings.

    pieces: natural log probabilities, float32 [n, K] each; iterated again each round, so they may
    be read from a file. assumed: float64 [K]. report: called after each round.
    """
    prior, classes = ClassPrior(assumed, assumed), len(assumed)
    for rounds in range(1, _MAX_ROUNDS + 1):
        totals, rows = np.ones(classes), classes
        for piece in pieces:
            totals += prior.corrected(piece, temperature).sum(0)
            rows += len(piece)
        found = totals / rows
        change = np.abs(found - prior.found).sum()
        prior = ClassPrior(assumed, found, rounds)
        if report is not None:
            report()
        if change < _SETTLED:
            break
    return prior
