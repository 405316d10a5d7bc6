"""Predictions of all folds → suspects and estimates, in two passes, block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quickdraw_core.audit.confident import (
    NOBODY,
    Floats,
    Thresholds,
    confident_joint,
    confident_labels,
    estimated_wrong,
)
from quickdraw_core.audit.score_parts import Block
from quickdraw_core.audit.suspects import NONE, Reason, Suspects, joined
from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.inference.predictions import Predictions

LITTLE_INK = 255.0
"""Strokes that are shorter in all than the square's side: dots, or less than one straight line."""
UNSURE_SHARE = 0.5
"""Of its threshold: a first guess below it says that a drawing is like no word."""


@dataclass(frozen=True)
class Judged:
    """What the predictions say. suspects: of wrong word and like no word.

    thresholds: float64 [K]. counts: drawings of each given word, int64 [K]. wrong: how many of
    them are estimated to be of another word, float64 [K]. joint: int64 [K, K]. right: share of
    judged drawings whose first guess is the given word.
    """

    suspects: Suspects
    thresholds: Floats
    counts: Int64Array
    wrong: Floats
    joint: Int64Array
    right: float


def judge(
    blocks: Callable[[], Iterator[Block]],
    drawings: DrawingBatch,
    judged: npt.NDArray[np.bool_],
) -> Judged:
    """Reads the predictions twice. judged: which classes are, bool [K]; the drawings of the others
    count for nothing.
    """
    classes = len(judged)
    sums, right = Thresholds(classes), 0
    for block in blocks():
        sums.add(block.predictions)
        is_judged = judged[block.predictions.labels]
        right += int((block.predictions.ranks[is_judged] == 0).sum())
    thresholds = sums.values(judged)
    joint = np.zeros((classes, classes), np.int64)
    suspects = []
    for block in blocks():
        confident = confident_labels(block.predictions, thresholds)
        is_judged = judged[block.predictions.labels]
        labels = block.predictions.labels
        joint += confident_joint(labels[is_judged], confident[is_judged], classes)
        suspects.append(_wrong_words(block, confident, is_judged))
        suspects.append(_like_no_word(block, confident, is_judged, thresholds, drawings))
    counts = np.where(judged, sums.counts, 0)
    total = max(1, int(counts.sum()))
    wrong = estimated_wrong(joint, counts)
    return Judged(joined(suspects), thresholds, counts, wrong, joint, right / total)


def _wrong_words(
    block: Block, confident: Int64Array, is_judged: npt.NDArray[np.bool_]
) -> Suspects:
    """Drawings that are confidently of another word, and whose first guess is not their own. The
    score is the normalized margin, (1 + p_other - p_own) / 2.
    """
    predictions = block.predictions
    chosen = is_judged & (confident != NOBODY) & (confident != predictions.labels)
    index = np.flatnonzero(chosen & (predictions.ranks > 0))
    guesses, other = predictions.guesses[index], confident[index]
    is_other = guesses == other[:, None]
    p_other = (predictions.probabilities[index] * is_other).sum(1)
    own = _own(predictions)[index]
    suspects = _suspects(block, index, Reason.WRONG_WORD, (1 + p_other - own) / 2, other)
    return suspects.where(p_other > own)


def _like_no_word(
    block: Block,
    confident: Int64Array,
    is_judged: npt.NDArray[np.bool_],
    thresholds: Floats,
    drawings: DrawingBatch,
) -> Suspects:
    """Scribbles and other odd ones: the first guess is far below its threshold, and the own word
    is no guess at all; or hardly any ink, and another first guess. The score is 1 - p_first.
    """
    predictions = block.predictions
    first = predictions.guesses[:, 0]
    p_first = predictions.probabilities[:, 0]
    is_unsure = p_first < UNSURE_SHARE * np.minimum(thresholds[first], 1)
    is_no_guess = predictions.ranks >= predictions.guesses.shape[1]
    is_empty = ink_lengths(drawings, block.rows) < LITTLE_INK
    like_nothing = (confident == NOBODY) & is_unsure & is_no_guess
    chosen = is_judged & (predictions.ranks > 0) & (like_nothing | is_empty)
    index = np.flatnonzero(chosen)
    none = np.full(len(index), NONE)
    return _suspects(block, index, Reason.LIKE_NO_WORD, 1 - p_first[index], none)


def _own(predictions: Predictions) -> npt.NDArray[np.float32]:
    return np.exp(predictions.label_log_probabilities)


def _suspects(
    block: Block,
    index: Int64Array,
    reason: Reason,
    scores: npt.NDArray[Any],
    others: Int64Array,
) -> Suspects:
    return Suspects(
        rows=block.rows[index],
        reasons=np.full(len(index), reason, np.int64),
        scores=scores.astype(np.float32),
        own=_own(block.predictions)[index],
        others=others.astype(np.int64),
        other_rows=np.full(len(index), NONE),
    )


def ink_lengths(drawings: DrawingBatch, rows: Int64Array) -> Floats:
    """The length of all strokes of drawings, in 255ths of the square's side: float64 [N].

    rows: int64 [N], ascending, close together: what lies between them is read as well.
    """
    if not len(rows):
        return np.zeros(0)
    first, end = int(rows[0]), int(rows[-1]) + 1
    points = slice(int(drawings.point_offsets[first]), int(drawings.point_offsets[end]))
    strokes = slice(int(drawings.stroke_offsets[first]), int(drawings.stroke_offsets[end]))
    x, y = (column[points].astype(np.float32) for column in (drawings.x, drawings.y))
    steps = np.zeros(len(x))
    steps[1:] = np.hypot(np.diff(x), np.diff(y))
    lengths = drawings.stroke_lengths[strokes].astype(np.int64)
    begins = np.cumsum(lengths) - lengths
    steps[begins[lengths > 0]] = 0  # the pen is in the air
    sums = np.concatenate([[0], np.cumsum(steps)])
    offsets = drawings.point_offsets[first : end + 1] - points.start
    of_each: Floats = (sums[offsets[1:]] - sums[offsets[:-1]])[rows - first]
    return of_each
