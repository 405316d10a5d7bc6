"""Which drawings the report shows, and how they become pictures: pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, Int64Array, Stroke
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.metrics.metrics import ConfusedPair

EXAMPLES = 12
PER_PAIR = 6


class Card(NamedTuple):
    """A drawing with what was guessed. guesses: (word, probability), best first."""

    expected: str
    guesses: Sequence[tuple[str, float]]
    path: str

    @property
    def place(self) -> int | None:
        """Of the right word among the guesses, from 1; None: all missed."""
        words = [word for word, _ in self.guesses]
        return words.index(self.expected) + 1 if self.expected in words else None


def card(predictions: Predictions, index: int, drawings: DrawingBatch, row: int) -> Card:
    """Of the prediction at `index`, whose drawing stands at `row`."""
    words = predictions.label_map.words
    pairs = zip(predictions.guesses[index], predictions.probabilities[index], strict=True)
    return Card(
        words[predictions.labels[index]],
        [(words[guess], float(probability)) for guess, probability in pairs],
        svg_path(drawings.strokes(row)),
    )


def best(predictions: Predictions, at_most: int = EXAMPLES) -> Int64Array:
    """Indices of those guessed right at once with the highest confidence, of many classes."""
    return _most_confident(predictions, predictions.ranks == 0, at_most)


def worst(predictions: Predictions, at_most: int = EXAMPLES) -> Int64Array:
    """Indices of those whose first guess is wrong, of the highest confidence, of many classes."""
    return _most_confident(predictions, predictions.ranks > 0, at_most)


def taken_for(
    predictions: Predictions, label: int, guess: int, at_most: int = PER_PAIR
) -> Int64Array:
    """Indices of drawings of one word whose first guess is another, most confident first."""
    found = (predictions.labels == label) & (predictions.guesses[:, 0] == guess)
    chosen = np.flatnonzero(found)
    return chosen[np.argsort(-predictions.confidences[chosen], kind="stable")][:at_most]


class Side(NamedTuple):
    """Of `drawings` drawings of one word, by labels, `often` had another as their first guess."""

    label: int
    guess: int
    often: int
    drawings: int


def sides(pair: ConfusedPair) -> list[Side]:
    """Both sides of a pair, the more frequent mistake first, or the one that there is."""
    both = (
        Side(pair.first, pair.second, pair.first_as_second, pair.n_first),
        Side(pair.second, pair.first, pair.second_as_first, pair.n_second),
    )
    return sorted((side for side in both if side.often), key=lambda side: -side.often)


def _most_confident(
    predictions: Predictions, mask: npt.NDArray[np.bool_], at_most: int
) -> Int64Array:
    chosen = np.flatnonzero(mask)
    chosen = chosen[np.argsort(-predictions.confidences[chosen], kind="stable")]
    return chosen[spread(predictions.labels[chosen], at_most)]


def spread(labels: Int64Array, at_most: int) -> Int64Array:
    """Places of the first of each label, then of the second of each, and so on, ascending:
    int64 [at most `at_most`]. One easy class would fill a gallery otherwise.
    """
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    turns = np.empty(len(labels), np.int64)
    sizes = np.diff([*starts, len(labels)])
    turns[order] = np.arange(len(labels)) - np.repeat(starts, sizes)
    return np.sort(np.argsort(turns, kind="stable")[:at_most])


def svg_path(strokes: Sequence[Stroke]) -> str:
    """An SVG path of a drawing, centred in the square 0..255; a dot is a line of no length."""
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
