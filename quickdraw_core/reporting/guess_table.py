"""The table of guesses: each drawing's three guesses and its word."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.labels import underscored

FAILED = "Guess failed!"


class Guess(NamedTuple):
    """One drawing's guesses, best first, its word, and its row in the pack."""

    row: int
    guesses: tuple[str, ...]
    expected: str

    @property
    def is_right(self) -> bool:
        """Whether the word is among the guesses."""
        return self.expected in self.guesses


def sampled_guesses(
    predictions: Predictions, rows: Int64Array, count: int, seed: int
) -> list[Guess]:
    """At most `count` of the predicted drawings, at random. rows: of the pack, int64 [N]."""
    words = predictions.label_map.words
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [
        Guess(
            int(rows[i]),
            tuple(words[guess] for guess in predictions.guesses[i]),
            words[predictions.labels[i]],
        )
        for i in chosen
    ]


def guess_lines(table: Sequence[Guess]) -> list[str]:
    """The table as text: a line per drawing, a second one if all three missed; then the total."""
    width = max((len(w) for g in table for w in (*g.guesses, g.expected)), default=0)

    def cell(word: str) -> str:
        return f"[{underscored(word):>{width}}]"

    lines = []
    for guess in table:
        guesses = " ".join(cell(word) for word in guess.guesses)
        lines.append(f"Guess: {guesses}  Expected {cell(guess.expected)}")
        if not guess.is_right:
            lines.append(FAILED)
    right = sum(guess.is_right for guess in table)
    share = right / len(table) if table else 0.0
    lines.append(f"Total: {len(table)} test drawings, {right} right, accuracy {share:.0%}")
    return lines
