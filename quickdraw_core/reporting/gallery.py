"""Which drawings the report shows, and their SVG paths: pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, Int64Array, Stroke
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.metrics.metrics import ConfusedPair

EXAMPLES = 12
PER_PAIR = 6


class Example(NamedTuple):
    """A drawing with its guesses: (word, probability), best first."""

    expected: str
    guesses: Sequence[tuple[str, float]]
    path: str

    @property
    def is_right(self) -> bool:
        """Whether the word is among the guesses."""
        return any(word == self.expected for word, _ in self.guesses)


def example_of(predictions: Predictions, index: int, drawings: DrawingBatch, row: int) -> Example:
    """The example of the prediction at `index`, whose drawing is at `row`."""
    words = predictions.label_map.words
    pairs = zip(predictions.guesses[index], predictions.probabilities[index], strict=True)
    return Example(
        words[predictions.labels[index]],
        [(words[guess], float(probability)) for guess, probability in pairs],
        svg_path(drawings.strokes(row)),
    )


def most_confident_right(predictions: Predictions, at_most: int = EXAMPLES) -> Int64Array:
    """Indices of right first guesses of the highest confidence, of many classes."""
    return _most_confident(predictions, predictions.ranks == 0, at_most)


def most_confident_wrong(predictions: Predictions, at_most: int = EXAMPLES) -> Int64Array:
    """Indices of wrong first guesses of the highest confidence, of many classes."""
    return _most_confident(predictions, predictions.ranks > 0, at_most)


def confused_examples(
    predictions: Predictions, label: int, guess: int, at_most: int = PER_PAIR
) -> Int64Array:
    """Indices of drawings of one word whose first guess is another, most confident first."""
    chosen = np.flatnonzero((predictions.labels == label) & (predictions.guesses[:, 0] == guess))
    return chosen[np.argsort(-predictions.confidences[chosen], kind="stable")][:at_most]


class Mistake(NamedTuple):
    """`times` of the `drawings` drawings of one word, by labels, had another as first guess."""

    label: int
    guess: int
    times: int
    drawings: int


def mistakes_of(pair: ConfusedPair) -> list[Mistake]:
    """The mistakes in both directions of a pair, the more frequent first."""
    both = (
        Mistake(pair.first, pair.second, pair.first_as_second, pair.n_first),
        Mistake(pair.second, pair.first, pair.second_as_first, pair.n_second),
    )
    return sorted((m for m in both if m.times), key=lambda m: -m.times)


def _most_confident(
    predictions: Predictions, mask: npt.NDArray[np.bool_], at_most: int
) -> Int64Array:
    chosen = np.flatnonzero(mask)
    chosen = chosen[np.argsort(-predictions.confidences[chosen], kind="stable")]
    return chosen[round_robin(predictions.labels[chosen], at_most)]


def round_robin(labels: Int64Array, at_most: int) -> Int64Array:
    """Indices of the first of each label, then the second of each, and so on, up to `at_most`;
    sorted. Otherwise one easy class would fill a gallery.
    """
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    turns = np.empty(len(labels), np.int64)
    sizes = np.diff([*starts, len(labels)])
    turns[order] = np.arange(len(labels)) - np.repeat(starts, sizes)
    return np.sort(np.argsort(turns, kind="stable")[:at_most])


def svg_path(strokes: Sequence[Stroke]) -> str:
    """An SVG path of a drawing, centred in the square 0..255; a dot is a line of length 0."""
    xs = [x for stroke in strokes for x in stroke[0]]
    ys = [y for stroke in strokes for y in stroke[1]]
    if not xs:
        return ""
    left, top = (255 - min(xs) - max(xs)) / 2, (255 - min(ys) - max(ys)) / 2
    pieces = []
    for stroke_x, stroke_y in strokes:
        points = [f"{x + left:g} {y + top:g}" for x, y in zip(stroke_x, stroke_y, strict=True)]
        pieces.append("M" + "L".join(points if len(points) > 1 else points * 2))
    return "".join(pieces)
