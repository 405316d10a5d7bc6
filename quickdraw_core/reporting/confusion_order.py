"""Which classes a confusion matrix shows, and in which order: pure."""

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.metrics.metrics import confused_pairs


def most_confused(counts: Int64Array, at_most: int) -> list[int]:
    """Labels of the classes of the most confused pairs, at most so many. counts: int64 [K, K].

    By pairs, not by each class's own mistakes: a class that is confused with a different one each
    time would have an empty row.
    """
    chosen: list[int] = []
    for pair in confused_pairs(counts, counts.size):
        new = [label for label in (pair.first, pair.second) if label not in chosen]
        if len(chosen) + len(new) <= at_most:
            chosen += new
        if len(chosen) == at_most:
            break
    return chosen


def in_order(counts: Int64Array, labels: list[int]) -> list[int]:
    """The same labels, ordered such that confused ones are neighbours.

    Strongest pair first, two labels are joined if both are still an end of their chain. The
    chains follow one another, the strongest first.
    """
    index = {label: position for position, label in enumerate(labels)}
    chains: list[list[int]] = [[label] for label in labels]
    chain_of = list(range(len(labels)))
    some = counts[np.ix_(labels, labels)]
    for pair in confused_pairs(some, some.size):
        a, b = chain_of[pair.first], chain_of[pair.second]
        first, second = labels[pair.first], labels[pair.second]
        if a == b or not {first} & _ends(chains[a]) or not {second} & _ends(chains[b]):
            continue
        left = chains[a] if chains[a][-1] == first else chains[a][::-1]
        right = chains[b] if chains[b][0] == second else chains[b][::-1]
        chains[a], chains[b] = left + right, []
        for label in right:
            chain_of[index[label]] = a
    return [label for chain in chains for label in chain]


def _ends(chain: list[int]) -> set[int]:
    return {chain[0], chain[-1]} if chain else set()
