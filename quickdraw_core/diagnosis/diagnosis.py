"""What is wrong with a training, told from its curves: findings with evidence and advice.

In: curves, and in how many classes there are. Out: findings, none where all is well. Pure.

The original report asks why a loss does not fall, and knows three answers: a slow fall (learning
rate too small), jitter without progress (too large, or batches that are), a loss that falls
together with the accuracy (a wrong loss function); and one failed training, whose loss was
negative (the logarithm forgotten). Here they are rules, with what else curves can tell.

Thresholds were set on 92 trainings of generated doodles (4 classes of 150 and 10 of 250; `net`
and `small_cnn`, 24 px, 96 to 640 steps; sgd, adamw and muon at learning rates of 1e-7 to 10),
and on two of real drawings (35 and 340 classes). What was seen there:

- Lift is the share of the way from guessing's MAP@3 to 1. Runs that learned ended at 0.4 and more;
  a learning rate too small or too large left 0.25 or less.
- A learning rate too small: the loss fell by 0 to 7 % from its first fifth to its last, and the
  validation loss jumped by 0.26 % of itself at most (`_Seen.jitter`). Too large: the loss did not
  fall, or shot up first, and the validation loss jumped by 0.6 % to many times its value. In
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

import numpy as np
import numpy.typing as npt

from quickdraw_core.diagnosis.curves import Curve, Curves
from quickdraw_core.errors import DIVERGED

Floats = npt.NDArray[np.float64]

_LEAST_POINTS, _LEAST_VALIDATIONS, _LEAST_STEPS = 10, 5, 100
_NEGATIVE = -1e-3
"""Below this a loss is negative, not rounded; −1/K of the mistake is −0.003 for 340 classes."""
_LOW_LIFT = 0.25
_FALL = 0.1
"""Share of the loss by which it must have fallen for there to be progress."""
_JITTER, _STORM = 0.004, 0.3
"""Jumps of the validation loss, as a share of it: where nothing is learned, a learning rate is
too small below the first and too large above it; above the second whatever the train loss does.
"""
_WILD, _WILD_RIGHT = 1.0, 0.035
"""Jumps of the validation loss and of MAP@3 that are too large also where something is learned."""
_OVERSHOT = 3.0
"""How many times its later value a loss stands at where it shot up."""
_BELOW = 0.7
"""Share of guessing's MAP@3, so low that 30 drawings are seldom there by chance."""
_FIRST_BELOW = 0.5
"""The same of top-1."""
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
    """What there is to find."""

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


def diagnose(curves: Curves, classes: int, failure: str | None = None) -> Findings:
    """What is wrong with a training; nothing where all is well, or too little is known.

    classes: among how many the model chooses. failure: the error that ended the run, if one did.
    """
    seen = _Seen.of(curves, classes)
    causes = (
        _diverged(curves, seen, failure)
        or _log_forgotten(seen)
        or _wrong_loss(seen)
        or _too_large(seen)
        or _too_small(seen)
    )
    courses = causes or _over_fitting(seen) or _not_finished(seen)
    return (*courses, *_starved(curves))


@dataclass(frozen=True)
class _Seen:
    """Finite points of the curves that decide, and what guessing would reach."""

    train: Curve
    judged: Curve
    """The validation loss."""
    map_at_3: Curve
    top_1: Curve
    classes: int
    learning_rate: float
    epochs: float

    @classmethod
    def of(cls, curves: Curves, classes: int) -> "_Seen":
        rates, epochs = _finite(curves, "train/learning_rate"), _finite(curves, "train/epoch")
        return cls(
            _finite(curves, "train/loss"),
            _finite(curves, "validation/loss"),
            _finite(curves, "validation/map_at_3"),
            _finite(curves, "validation/top_1"),
            classes,
            float(rates.values.max()) if len(rates) else math.nan,
            float(epochs.values[-1]) if len(epochs) else math.nan,
        )

    @property
    def guessing(self) -> float:
        """MAP@3 of three guesses by chance: the first, second or third is right, 1/K each."""
        return sum(1 / place for place in range(1, min(3, self.classes) + 1)) / max(
            self.classes, 1
        )

    @property
    def enough(self) -> bool:
        """Whether there is enough of it to judge the learning rate and the loss by."""
        return (
            len(self.train) >= _LEAST_POINTS
            and min(len(self.judged), len(self.map_at_3)) >= _LEAST_VALIDATIONS
            and int(self.train.steps[-1]) >= _LEAST_STEPS
            and self.classes > 3  # else the three guesses leave little to be missed
        )

    @property
    def reached(self) -> float:
        """MAP@3 over the last third of the validations."""
        return _median_of_last_third(self.map_at_3.values)

    @property
    def lift(self) -> float:
        """Share of the way from guessing to all right."""
        return (self.reached - self.guessing) / (1 - self.guessing)

    @property
    def fifths(self) -> Floats:
        """Median train loss of each fifth of the points, [5]."""
        return np.array([np.median(part) for part in np.array_split(self.train.values, 5)])

    @property
    def jitter(self) -> float:
        """How much the validation loss jumps, as a share of itself."""
        return self._share(_jumps(self.judged.values))

    @property
    def unsettled(self) -> bool:
        """Whether validation loss and MAP@3 still jump after the first third of the training."""
        loss, right = (c.values[len(c) // 3 :] for c in (self.judged, self.map_at_3))
        return self._share(_jumps(loss)) > _WILD and _jumps(right) > _WILD_RIGHT

    def _share(self, distance: float) -> float:
        # A loss that is nearly 0 moves by little, whatever its share.
        level = max(abs(float(np.median(self.judged.values))), abs(float(self.fifths[0])) / 10)
        return distance / level if level else math.inf


def _jumps(values: Floats) -> float:
    """Mean distance of a point from the middle of its two neighbours.

    The drawings of a validation are always the same, so that this is no chance of theirs. A
    steady fall has none, nor has the drift of batch norm's statistics.
    """
    return float(np.abs(np.diff(values, n=2)).mean()) / 2 if len(values) > 2 else 0.0


def _diverged(curves: Curves, seen: _Seen, failure: str | None) -> Findings:
    losses = [curves[name] for name in ("train/loss", "validation/loss") if name in curves]
    bad = [int(c.steps[i]) for c in losses for i in np.flatnonzero(~np.isfinite(c.values))[:1]]
    if bad:
        evidence = f"the loss is not finite from step {min(bad):,} on"
    elif failure is not None and DIVERGED in failure:
        evidence = "the run ended on a loss or weights that were not finite"
    else:
        return ()
    if len(seen.train):
        evidence += f"; the lowest train loss before that was {seen.train.values.min():.4g}"
    lower = _option("learning_rate", seen.learning_rate / 10)
    return (
        Finding(
            Kind.DIVERGED,
            evidence,
            f"Lower the learning rate ({lower}) or clip the gradient (--set clip_norm=1)",
        ),
    )


def _log_forgotten(seen: _Seen) -> Findings:
    if seen.enough and _sinks(seen):
        return ()  # the sign is wrong, of whatever loss
    for name, curve in (("train", seen.train), ("validation", seen.judged)):
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
            return (Finding(Kind.LOG_FORGOTTEN, evidence, advice),)
    return ()


def _wrong_loss(seen: _Seen) -> Findings:
    if not seen.enough:
        return ()
    train, judged, right = seen.train.values, seen.judged.values, seen.map_at_3.values
    # A loss that shot up before it fell is no evidence: it only came back.
    honest = train[0] <= 10 * seen.classes and judged.max() <= _OVERSHOT * abs(train[0])
    if not honest:
        return ()
    peak = int(np.argmax(right))
    at_peak = np.searchsorted(seen.train.steps, seen.map_at_3.steps[peak])
    before = float(np.median(train[: max(1, min(int(at_peak), 3))])), float(judged[0])
    after = float(seen.fifths[-1]), _median_of_last_third(judged)
    falls = all(b - a > _RISE * abs(b) for b, a in zip(before, after, strict=True))
    below = _sinks(seen)
    lost = right[peak] - seen.reached > _LOST and judged[min(peak, len(judged) - 1)] > after[1]
    if not (falls and (below or lost)):
        return ()
    ones = seen.top_1.values
    first = f" and top-1 to {_median_of_last_third(ones):.3f}" if len(ones) else ""
    evidence = (
        f"the train loss fell from {before[0]:.4g} to {after[0]:.4g} and the validation loss "
        f"with it, but MAP@3 went from {right[peak]:.3f} to {seen.reached:.3f}{first}; guessing "
        f"reaches {seen.guessing:.3f}"
    )
    advice = (
        "The loss rewards wrong answers: look at its sign and at what it is fed, or use a row "
        "of the table (--set loss=cross_entropy)"
    )
    return (Finding(Kind.WRONG_LOSS, evidence, advice),)


def _sinks(seen: _Seen) -> bool:
    """Whether the guesses became worse than by chance: that has to be learned."""
    if seen.reached < _BELOW * seen.guessing:
        return True
    # A margin that is turned round leaves the right class second: MAP@3 does not see it.
    first = seen.top_1.values
    return bool(len(first)) and _median_of_last_third(first) < _FIRST_BELOW / seen.classes


def _too_large(seen: _Seen) -> Findings:
    if not seen.enough or seen.jitter < _JITTER:
        return ()
    train, judged, fifths = seen.train.values, seen.judged.values, seen.fifths
    begin, end = min(float(train[0]), float(fifths[1])), float(fifths[-1])
    stands = begin - end < _FALL * abs(begin)
    came_back = train.max() > _OVERSHOT * end and end > (1 - _FALL) * fifths[-2]
    fruitless = seen.lift < _LOW_LIFT and (stands or came_back or seen.jitter > _STORM)
    if not (fruitless or seen.unsettled):
        return ()
    evidence = (
        f"the train loss went from {train[0]:.4g} to {end:.4g}, the validation loss jumps "
        f"between {judged.min():.4g} and {judged.max():.4g}; MAP@3 is {seen.reached:.3f}, "
        f"guessing reaches {seen.guessing:.3f}"
    )
    advice = (
        f"Lower the learning rate ({_option('learning_rate', seen.learning_rate / 10)}); if it "
        "still jumps, clip the gradient (--set clip_norm=1) or change global_batch_size"
    )
    return (Finding(Kind.TOO_LARGE, evidence, advice),)


def _too_small(seen: _Seen) -> Findings:
    if not seen.enough or seen.lift >= _LOW_LIFT:
        return ()
    fifths, values = seen.fifths, seen.train.values
    begin, end = float(fifths[0]), float(fifths[-1])
    if abs(begin - end) >= _FALL * abs(begin):
        return ()
    if seen.jitter >= _JITTER:
        return ()
    steps = int(seen.train.steps[-1])
    rate = _option("learning_rate", seen.learning_rate * 10)
    course = f"from {begin:.6g} to {end:.6g} in {steps:,} steps"
    # A fall beyond the scatter of the points (three standard errors of a fifth's mean, about).
    scatter = float(np.abs(np.diff(values)).mean()) / math.sqrt(len(values) / 5)
    if begin - end > 3 * scatter or _steady(seen.judged.values):
        evidence = (
            f"the train loss went {course}, the validation loss from "
            f"{seen.judged.values[0]:.6g} to {seen.judged.values[-1]:.6g}, slowly and steadily; "
            f"MAP@3 is {seen.reached:.3f}, guessing reaches {seen.guessing:.3f}"
        )
        return (Finding(Kind.TOO_SMALL, evidence, f"Raise the learning rate ({rate})"),)
    level = math.log(seen.classes)
    known = f" (ln {seen.classes} = {level:.4g} is guessing)" if abs(end / level - 1) < 0.1 else ""
    evidence = f"the train loss stayed where it was, {course}{known}; MAP@3 is {seen.reached:.3f}"
    advice = (
        f"Raise the learning rate ({rate}); if that changes nothing, look at the labels, the "
        "loss and weight_decay"
    )
    return (Finding(Kind.NO_LEARNING, evidence, advice),)


def _over_fitting(seen: _Seen) -> Findings:
    if len(seen.train) < _LEAST_POINTS or len(seen.judged) < _LEAST_VALIDATIONS:
        return ()
    judged = _smooth(seen.judged.values)
    lowest = int(np.argmin(judged))
    low, last = float(judged[lowest]), _median_of_last_third(judged)
    rise = last - low
    if lowest >= 0.75 * len(judged) or rise < _RISE * low or rise < 0.05 * judged[0]:
        return ()
    since = seen.train.steps >= seen.judged.steps[lowest]
    if since.sum() < 3:
        return ()
    parts = np.array_split(seen.train.values[since], 3)
    begin, end = float(np.median(parts[0])), float(np.median(parts[-1]))
    if begin - end < _FALL * abs(begin):
        return ()
    evidence = (
        f"the validation loss rose from {low:.4g} at step {int(seen.judged.steps[lowest]):,} to "
        f"{last:.4g} while the train loss fell from {begin:.4g} to {end:.4g}"
    )
    advice = (
        "Train on more drawings, keep augmentation on, smooth the labels "
        "(--set label_smoothing=0.1), or stop sooner (--set patience=3)"
    )
    return (Finding(Kind.OVER_FITTING, evidence, advice),)


def _not_finished(seen: _Seen) -> Findings:
    right, judged = seen.map_at_3.values, seen.judged.values
    if min(len(right), len(judged)) < _LEAST_VALIDATIONS or not len(seen.train):
        return ()
    width = max(2, len(right) // 5)
    late, sooner = slice(-width, None), slice(-2 * width, -width)
    before, after = float(right[sooner].mean()), float(right[late].mean())
    fallen = judged[sooner].mean() - judged[late].mean()
    if judged[-1] > judged.min() or fallen < 0.05 * abs(judged[-1]):
        return ()
    if after - before < max(_GAIN, _GAIN_OF_REST * (1 - after)):
        return ()
    steps = seen.map_at_3.steps
    evidence = (
        f"MAP@3 still rose at the end, from {before:.3f} (steps {steps[sooner][0]:,} to "
        f"{steps[sooner][-1]:,}) to {after:.3f} (steps {steps[late][0]:,} to "
        f"{steps[late][-1]:,}), and the validation loss fell to {judged[-1]:.4g}"
    )
    advice = f"Train for longer ({_option('epochs', 2 * seen.epochs)})"
    return (Finding(Kind.NOT_FINISHED, evidence, advice),)


def _starved(curves: Curves) -> Findings:
    shares = _finite(curves, "train/data_wait_share")
    if len(shares) < _LEAST_POINTS:
        return ()
    share = float(np.median(shares.values))
    if share < _STARVED:
        return ()
    advice = (
        "Draw with more threads (--set loader_threads=4), further ahead (--set "
        "prefetch_batches=16), or on the GPU (--set draw_on=device)"
    )
    evidence = f"{share:.0%} of the training time (median) went by waiting for drawings"
    return (Finding(Kind.STARVED, evidence, advice),)


def _finite(curves: Curves, name: str) -> Curve:
    curve = curves.get(name)
    if curve is None:
        return Curve(np.empty(0, np.int64), np.empty(0))
    there = np.isfinite(curve.values)
    return Curve(curve.steps[there], curve.values[there])


def _median_of_last_third(values: Floats) -> float:
    return float(np.median(values[-max(1, len(values) // 3) :]))


def _steady(values: Floats) -> bool:
    """Whether a curve goes down nearly all the time."""
    return bool(values[-1] < values[0]) and float((np.diff(values) > 0).mean()) <= 0.2


def _smooth(values: Floats) -> Floats:
    """Running median of three: one jump is no trend."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)  # type: ignore[no-any-return]


def _option(name: str, value: float) -> str:
    return f"--set {name}={value:.2g}" if math.isfinite(value) else f"--set {name}=…"
