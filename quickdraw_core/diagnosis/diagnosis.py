"""What is wrong with a training, by its curves: findings with evidence and advice.

In: curves, and the number of classes. Out: findings, none if all is well. Pure.

The original report asks why a loss does not fall, and knows three answers: a slow fall (learning
rate too small), jitter without progress (too large, or batches that are), a loss that falls
together with the accuracy (a wrong loss function); and one failed training, whose loss was
negative (the logarithm forgotten). Here they are rules, with what else curves can show.

Thresholds were set on 92 trainings of generated doodles (4 classes of 150 and 10 of 250; `net`
and `small_cnn`, 24 px, 96 to 640 steps; sgd, adamw and muon at learning rates of 1e-7 to 10),
and on two of real drawings (35 and 340 classes). They showed:

- Lift is the share of the way from guessing's MAP@3 to 1. Runs that learned ended at 0.4 and more;
  a learning rate too small or too large left 0.25 or less.
- A learning rate too small: the loss fell by 0 to 7 % from its first fifth to its last, and the
  validation loss jumped by 0.26 % of itself at most (`CurveStats.jitter`). Too large: the loss did
  not fall, or shot up first, and the validation loss jumped by 0.6 % to many times its value. In
  healthy runs it jumps too, up to three times its value while they begin, but MAP@3 rises.
- A wrong loss: MAP@3 fell to a fifth to four fifths of that of guessing, or, with a margin turned
  round, top-1 to nearly 0. Over-fitting: the validation loss rose by half of its lowest value and
  more; in runs with label smoothing or on enough drawings by 11 % at most.

Rules count points, not steps, so that it does not matter how long a step is. With few points, or
in runs under 100 steps, nothing is said of what only more of them could show.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import numpy as np

from quickdraw_core.diagnosis.curve_stats import (
    LEAST_POINTS,
    LEAST_VALIDATIONS,
    CurveStats,
    is_steady,
    median_of_last_third,
    smoothed,
)
from quickdraw_core.diagnosis.curves import Curves

_NEGATIVE = -1e-3
"""Below this a loss is negative, not rounded; −1/K of the mistake is −0.003 for 340 classes."""
_LOW_LIFT = 0.25
_FALL = 0.1
"""Share of the loss by which it must have fallen for there to be progress."""
_JITTER, _STORM = 0.004, 0.3
"""Jumps of the validation loss, as a share of it: if nothing is learned, a learning rate is too
small below the first and too large above it; above the second whatever the train loss does.
"""
_OVERSHOT = 3.0
"""How many times its later value a loss stands at if it shot up."""
_LOST = 0.15
"""Fall of MAP@3 from its highest value that is one whatever guessing reaches."""
_RISE = 0.25
"""Rise of the validation loss over its lowest value, or fall of a loss from its first."""
_GAIN, _GAIN_OF_REST = 0.01, 0.1
"""Rise of MAP@3 between the last two fifths of the validations that is one; the second as a share
of what is left to 1.
"""
_STARVED = 0.1
"""Share of the time; healthy runs of real drawings waited for 0.7 % of it."""


class Kind(StrEnum):
    """What can be found."""

    DIVERGED = "diverged"
    LOG_FORGOTTEN = "log forgotten before NLL"
    WRONG_LOSS = "wrong loss function"
    TOO_LARGE = "learning rate too large"
    TOO_SMALL = "learning rate too small"
    NO_LEARNING = "nothing learned"
    OVER_FITTING = "over-fitting"
    NOT_FINISHED = "not finished learning"
    STARVED = "waiting for data"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. evidence: in numbers of the curves; advice: what to set."""

    kind: Kind
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.evidence}. {self.advice}."


Findings = tuple[Finding, ...]


def diagnose(curves: Curves, classes: int, has_diverged: bool = False) -> Findings:
    """What is wrong with a training; nothing if all is well, or too little is known.

    classes: among how many the model chooses. has_diverged: whether the run ended on
    values that were not finite.
    """
    stats = CurveStats.of(curves, classes, has_diverged)
    causes = (finding for rule in _RULES if (finding := rule(stats)) is not None)
    return (*islice(causes, 1), *_starved(stats))


def _diverged(stats: CurveStats) -> Finding | None:
    broken = [np.flatnonzero(~np.isfinite(loss.values)) for loss in stats.losses]
    steps = [int(c.steps[i[0]]) for c, i in zip(stats.losses, broken, strict=True) if len(i)]
    if steps:
        evidence = f"the loss is not finite from step {min(steps):,} on"
    elif stats.has_diverged:
        evidence = "the run ended on a loss or weights that were not finite"
    else:
        return None
    if len(stats.train):
        evidence += f"; the lowest train loss before that was {stats.train.values.min():.4g}"
    lower = _option("optimizer.learning_rate", stats.learning_rate / 10)
    advice = (
        f"Lower the learning rate ({lower}) or clip the gradient (--set optimizer.clip_norm=1)"
    )
    return Finding(Kind.DIVERGED, evidence, advice)


def _log_forgotten(stats: CurveStats) -> Finding | None:
    if stats.enough and stats.is_worse_than_guessing:
        return None  # the sign is wrong, of whatever loss
    for name, curve in (("train", stats.train), ("validation", stats.validation)):
        below = np.flatnonzero(curve.values < _NEGATIVE)
        if len(below):
            evidence = (
                f"the {name} loss is negative from step {int(curve.steps[below[0]]):,} on and "
                f"went down to {curve.values.min():.4g}, which no loss of a probability's "
                "logarithm can"
            )
            advice = (
                "Take the logarithm of the softmax before the negative log likelihood "
                "(--set loss=cross_entropy does both); do not turn the sign of the loss round"
            )
            return Finding(Kind.LOG_FORGOTTEN, evidence, advice)
    return None


def _wrong_loss(stats: CurveStats) -> Finding | None:
    if not stats.enough:
        return None
    train, validation, right = stats.train.values, stats.validation.values, stats.map_at_3.values
    # A loss that shot up before it fell is no evidence: it only came back.
    if train[0] > 10 * stats.classes or validation.max() > _OVERSHOT * abs(train[0]):
        return None
    peak = int(np.argmax(right))
    at_peak = np.searchsorted(stats.train.steps, stats.map_at_3.steps[peak])
    before = float(np.median(train[: max(1, min(int(at_peak), 3))])), float(validation[0])
    after = float(stats.fifths[-1]), median_of_last_third(validation)
    falls = all(b - a > _RISE * abs(b) for b, a in zip(before, after, strict=True))
    at_best = validation[min(peak, len(validation) - 1)]
    lost = right[peak] - stats.reached > _LOST and at_best > after[1]
    if not (falls and (stats.is_worse_than_guessing or lost)):
        return None
    ones = stats.top_1.values
    first = f" and top-1 to {median_of_last_third(ones):.3f}" if len(ones) else ""
    evidence = (
        f"the train loss fell from {before[0]:.4g} to {after[0]:.4g} and the validation loss "
        f"with it, but MAP@3 went from {right[peak]:.3f} to {stats.reached:.3f}{first}; guessing "
        f"reaches {stats.guessing:.3f}"
    )
    advice = (
        "The loss rewards wrong answers: look at its sign and at what it is fed, or use a row "
        "of the table (--set loss=cross_entropy)"
    )
    return Finding(Kind.WRONG_LOSS, evidence, advice)


def _too_large(stats: CurveStats) -> Finding | None:
    if not stats.enough or stats.jitter < _JITTER:
        return None
    train, validation, fifths = stats.train.values, stats.validation.values, stats.fifths
    begin, end = min(float(train[0]), float(fifths[1])), float(fifths[-1])
    stands = begin - end < _FALL * abs(begin)
    came_back = train.max() > _OVERSHOT * end and end > (1 - _FALL) * fifths[-2]
    fruitless = stats.lift < _LOW_LIFT and (stands or came_back or stats.jitter > _STORM)
    if not (fruitless or stats.is_unsettled):
        return None
    evidence = (
        f"the train loss went from {train[0]:.4g} to {end:.4g}, the validation loss jumps "
        f"between {validation.min():.4g} and {validation.max():.4g}; MAP@3 is "
        f"{stats.reached:.3f}, guessing reaches {stats.guessing:.3f}"
    )
    lower = _option("optimizer.learning_rate", stats.learning_rate / 10)
    advice = (
        f"Lower the learning rate ({lower}); if it still jumps, clip the gradient (--set "
        "optimizer.clip_norm=1) or change global_batch_size"
    )
    return Finding(Kind.TOO_LARGE, evidence, advice)


def _too_small(stats: CurveStats) -> Finding | None:
    if not stats.enough or stats.lift >= _LOW_LIFT or stats.jitter >= _JITTER:
        return None
    train, validation = stats.train.values, stats.validation.values
    begin, end = float(stats.fifths[0]), float(stats.fifths[-1])
    if abs(begin - end) >= _FALL * abs(begin):
        return None
    rate = _option("optimizer.learning_rate", stats.learning_rate * 10)
    change = f"from {begin:.6g} to {end:.6g} in {int(stats.train.steps[-1]):,} steps"
    # A fall beyond the scatter of the points (three standard errors of a fifth's mean, about).
    scatter = float(np.abs(np.diff(train)).mean()) / math.sqrt(len(train) / 5)
    if begin - end > 3 * scatter or is_steady(validation):
        evidence = (
            f"the train loss went {change}, the validation loss from {validation[0]:.6g} to "
            f"{validation[-1]:.6g}, slowly and steadily; MAP@3 is {stats.reached:.3f}, guessing "
            f"reaches {stats.guessing:.3f}"
        )
        return Finding(Kind.TOO_SMALL, evidence, f"Raise the learning rate ({rate})")
    level = math.log(stats.classes)
    is_known = abs(end / level - 1) < 0.1
    known = f" (ln {stats.classes} = {level:.4g} is guessing)" if is_known else ""
    evidence = f"the train loss stayed where it was, {change}{known}; MAP@3 is {stats.reached:.3f}"
    advice = (
        f"Raise the learning rate ({rate}); if that changes nothing, look at the labels, the "
        "loss and optimizer.weight_decay"
    )
    return Finding(Kind.NO_LEARNING, evidence, advice)


def _over_fitting(stats: CurveStats) -> Finding | None:
    if len(stats.train) < LEAST_POINTS or len(stats.validation) < LEAST_VALIDATIONS:
        return None
    validation = smoothed(stats.validation.values)
    lowest = int(np.argmin(validation))
    low, last = float(validation[lowest]), median_of_last_third(validation)
    rise = last - low
    if lowest >= 0.75 * len(validation) or rise < _RISE * low or rise < 0.05 * validation[0]:
        return None
    since = stats.train.steps >= stats.validation.steps[lowest]
    if since.sum() < 3:
        return None
    parts = np.array_split(stats.train.values[since], 3)
    begin, end = float(np.median(parts[0])), float(np.median(parts[-1]))
    if begin - end < _FALL * abs(begin):
        return None
    evidence = (
        f"the validation loss rose from {low:.4g} at step {int(stats.validation.steps[lowest]):,} "
        f"to {last:.4g} while the train loss fell from {begin:.4g} to {end:.4g}"
    )
    advice = (
        "Train on more drawings, keep augmentation on, smooth the labels "
        "(--set loss.label_smoothing=0.1), or stop sooner (--set validation.patience=3)"
    )
    return Finding(Kind.OVER_FITTING, evidence, advice)


def _not_finished(stats: CurveStats) -> Finding | None:
    right, validation = stats.map_at_3.values, stats.validation.values
    if min(len(right), len(validation)) < LEAST_VALIDATIONS or not len(stats.train):
        return None
    width = max(2, len(right) // 5)
    late, sooner = slice(-width, None), slice(-2 * width, -width)
    before, after = float(right[sooner].mean()), float(right[late].mean())
    fallen = validation[sooner].mean() - validation[late].mean()
    if validation[-1] > validation.min() or fallen < 0.05 * abs(validation[-1]):
        return None
    if after - before < max(_GAIN, _GAIN_OF_REST * (1 - after)):
        return None
    steps = stats.map_at_3.steps
    evidence = (
        f"MAP@3 still rose at the end, from {before:.3f} (steps {steps[sooner][0]:,} to "
        f"{steps[sooner][-1]:,}) to {after:.3f} (steps {steps[late][0]:,} to "
        f"{steps[late][-1]:,}), and the validation loss fell to {validation[-1]:.4g}"
    )
    advice = f"Train for longer ({_option('epochs', 2 * stats.epochs)})"
    return Finding(Kind.NOT_FINISHED, evidence, advice)


def _starved(stats: CurveStats) -> Findings:
    if not stats.data_wait_share >= _STARVED:  # NaN: unknown
        return ()
    advice = (
        "Draw with more threads (--set hardware.loader_threads=4), further ahead (--set "
        "hardware.prefetch_batches=16), or on the GPU (--set image.draw_on=device)"
    )
    evidence = (
        f"{stats.data_wait_share:.0%} of the training time (median) went by waiting for drawings"
    )
    return (Finding(Kind.STARVED, evidence, advice),)


_RULES = (
    _diverged,
    _log_forgotten,
    _wrong_loss,
    _too_large,
    _too_small,
    _over_fitting,
    _not_finished,
)
"""The first that applies is the cause. Data that come too slowly are found beside it."""


def _option(name: str, value: float) -> str:
    return f"--set {name}={value:.2g}" if math.isfinite(value) else f"--set {name}=…"
