"""Which classes a confusion matrix shows, and in which order: pure."""

import numpy as np
import numpy.typing as npt

from quickdraw_core.metrics.metrics import confused_pairs

Counts = npt.NDArray[np.int64]


def most_confused(counts: Counts, at_most: int) -> list[int]:
    """Labels of the classes of the most confused pairs, int64 [K, K] → at most so many.

    By pairs and not by each class's own mistakes: a class whose drawings are taken for something
    else each time would show an empty row.
    """
    chosen: list[int] = []
    for pair in confused_pairs(counts, counts.size):
        new = [label for label in (pair.first, pair.second) if label not in chosen]
        if len(chosen) + len(new) <= at_most:
            chosen += new
        if len(chosen) == at_most:
            break
    return chosen


def in_order(counts: Counts, labels: list[int]) -> list[int]:
    """The same labels, such that those that are taken for each other stand together.

    Strongest pair first, each label is tied to its neighbour as long as both still have a free
    side; then the chains follow one another, the strongest first.
    """
    index = {label: place for place, label in enumerate(labels)}
    chains: list[list[int]] = [[label] for label in labels]
    of = list(range(len(labels)))
    some = counts[np.ix_(labels, labels)]
    for pair in confused_pairs(some, some.size):
        a, b = of[pair.first], of[pair.second]
        first, second = labels[pair.first], labels[pair.second]
        if a == b or not {first} & _ends(chains[a]) or not {second} & _ends(chains[b]):
            continue
        left = chains[a] if chains[a][-1] == first else chains[a][::-1]
        right = chains[b] if chains[b][0] == second else chains[b][::-1]
        chains[a], chains[b] = left + right, []
        for label in right:
            of[index[label]] = a
    return [label for chain in chains for label in chain]


def _ends(chain: list[int]) -> set[int]:
    return {chain[0], chain[-1]} if chain else set()
