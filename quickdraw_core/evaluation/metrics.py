"""What a ranking of guesses is worth: pure functions from ranks to numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
MISSED = -1


class Scores(NamedTuple):
    """Means over n drawings. MAP@3: 1, 1/2 or 1/3 where the right word is guessed first, second
    or third, else 0. top_1 and top_3: share of drawings with the word first, or among the three.
    """

    map_at_3: float
    top_1: float
    top_3: float
    n: int


class ClassScores(NamedTuple):
    """The scores of one class's drawings, and the word most often guessed instead of it."""

    word: str
    scores: Scores
    mistaken_for: str | None


def score(ranks: Int64Array) -> Scores:
    """Scores of drawings by the place of the right word, int64 [n]: 0 first, -1 not guessed."""
    n = len(ranks)
    if not n:
        return Scores(0.0, 0.0, 0.0, 0)
    precision = np.where(ranks == MISSED, 0.0, 1.0 / (np.maximum(ranks, 0) + 1))
    return Scores(
        float(precision.mean()), float((ranks == 0).mean()), float((ranks != MISSED).mean()), n
    )


def score_by_class(
    words: Sequence[str], labels: Int64Array, ranks: Int64Array, first_guesses: Int64Array
) -> list[ClassScores]:
    """Scores of each class, in the order of `words`; labels and first_guesses: int64 [n]."""
    table = []
    for label, word in enumerate(words):
        mine = labels == label
        wrong = first_guesses[mine & (first_guesses != label)]
        counts = np.bincount(wrong, minlength=len(words))
        mistaken_for = words[int(counts.argmax())] if len(wrong) else None
        table.append(ClassScores(word, score(ranks[mine]), mistaken_for))
    return table


def class_mean(table: Sequence[ClassScores]) -> float:
    """Mean over classes of MAP@3, for stores whose classes are judged on unequal numbers."""
    judged = [row.scores.map_at_3 for row in table if row.scores.n]
    return float(np.mean(judged)) if judged else 0.0
