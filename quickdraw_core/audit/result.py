"""What an audit returns."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.storage.location import Location

WEAK = 0.6
"""Share of drawings guessed right below which the models say little about labels."""


@dataclass(frozen=True)
class AuditResult:
    """Where page, mask and table of suspects are, and what they say.

    drawings: that were scored. suspects: reason → drawings. masked: train drawings in the mask.
    wrong: how many drawings are estimated to be of another word. fold_scores: MAP@3 of each fold's
    model on the validation drawings of the other folds. right: share of drawings whose first guess
    by the model that had not seen them is their word. too_few: words that were not judged → train
    drawings that a fold had of them at least. skipped: an earlier audit had done all of it.
    """

    page: Path
    mask: Path
    table: Path
    drawings: int
    suspects: dict[str, int]
    masked: int
    wrong: float
    fold_scores: tuple[float, ...]
    right: float
    too_few: dict[str, int]
    skipped: bool = False

    @property
    def weakness(self) -> str:
        """Why the result is not to be trusted, and what to do; empty if it is."""
        if self.right >= WEAK:
            return ""
        return (
            f"the models guess only {self.right:.0%} of the drawings right, so most suspects are "
            "theirs, not the store's; train longer (--set epochs=N) or on more drawings "
            "(--per-class)"
        )


def command_without(mask: Path, store: Location) -> str:
    """What trains without the drawings of a mask, as a shell takes it."""
    words = ["quickdraw", "train", "--store", str(store), "--set", f"select.exclude={mask}"]
    return shlex.join(words)
