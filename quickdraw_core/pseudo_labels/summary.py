"""Pseudo-labels in a few lines, for the terminal."""

import shlex

import numpy as np

from quickdraw_core.errors import first_few
from quickdraw_core.pseudo_labels.pseudo_label import PseudoLabels


def pseudo_label_facts(made: PseudoLabels, at_least: float) -> dict[str, str]:
    """How many drawings were kept, of which words, and what to do with them."""
    counts, found = made.counts[made.counts > 0], made.prior.found
    facts = {
        "pseudo-labels": f"{made.kept:,} of {made.rows:,} drawings in {made.folder}",
        "sure": f"{at_least:g} or more, {made.probability:.3f} on average",
        "words": f"{len(counts):,} of {len(made.words):,}, with {counts.min():,} to "
        f"{counts.max():,} drawings, median {np.median(counts):,.0f}",
    }
    without = [word for word, count in zip(made.words, made.counts, strict=True) if not count]
    if without:
        facts["without"] = f"{len(without):,} words: {first_few(without)}"
    if made.prior.rounds:
        top = np.argsort(-found, kind="stable")[:3]
        facts["class shares"] = f"{found.min():.2%} to {found.max():.2%}, most: " + ", ".join(
            f"{made.words[label]} {found[label]:.2%}" for label in top
        )
    if made.unreadable:
        facts["unreadable"] = f"{made.unreadable:,} drawings, left out"
    words = ["quickdraw", "ingest", str(made.folder), "--store", f"{made.folder}-store"]
    words += ["--set", "test_per_class=0", "--set", "validation_share=0"]
    return facts | {"next": shlex.join(words)}
