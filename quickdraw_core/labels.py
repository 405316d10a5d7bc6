"""Words and label ids: `label = index in sorted(words)`, by code point.

The map and its SHA-256 travel with the store, the pack, the checkpoint and the MLflow run, so
that two artefacts of different classes can never be mixed without an error.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from quickdraw_core.errors import InputError, QuickdrawError, StoreError

GUESSES = 3
"""Words that the challenge takes for a drawing, best first."""


def underscored(word: str) -> str:
    """The stored form of a word, as the challenge asks for it: `hot_dog` for `hot dog`."""
    return word.replace(" ", "_")


def spaced(word: str) -> str:
    """The word of a stored form. No word of the challenge holds an underscore of its own."""
    return word.replace("_", " ")


def is_same_word(left: str, right: str) -> bool:
    """Whether two spellings are of one word: spaces or underscores, an accent apart or not."""
    return unicodedata.normalize("NFC", spaced(left)) == unicodedata.normalize(
        "NFC", spaced(right)
    )


@dataclass(frozen=True)
class LabelMap:
    """An immutable, sorted list of words; a word's label is its index."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.words:
            raise InputError("a label map needs at least one word, found none")
        if list(self.words) != sorted(set(self.words)):
            raise InputError("the words of a label map must be sorted and distinct")

    @classmethod
    def of(cls, words: Iterable[str]) -> "LabelMap":
        """Makes the map of `words`, in any order, duplicates dropped, underscores allowed."""
        return cls(tuple(sorted({spaced(word) for word in words})))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LabelMap":
        """Reads what `to_json` wrote and checks its digest."""
        try:
            label_map = cls(tuple(value["words"]))
            recorded = value["sha256"]
        except (KeyError, TypeError) as error:
            raise StoreError(f"not a label map: {error!r} is missing") from error
        if recorded != label_map.sha256:
            raise StoreError(
                f"a label map does not match its own digest: recorded {recorded[:12]}, "
                f"found {label_map.sha256[:12]}; the file was edited or damaged; make it again"
            )
        return label_map

    def to_json(self) -> dict[str, Any]:
        """`{"words": [...], "sha256": "..."}`."""
        return {"words": list(self.words), "sha256": self.sha256}

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the words, one a line, UTF-8."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    @cached_property
    def index(self) -> dict[str, int]:
        """Label of each word."""
        return {word: label for label, word in enumerate(self.words)}

    def describe(self) -> str:
        """`35 classes (airplane … television, sha256 0123abcd)`."""
        return (
            f"{len(self)} classes ({self.words[0]} … {self.words[-1]}, sha256 {self.sha256[:8]})"
        )


def require_same_labels(
    left: LabelMap, left_name: str, right: LabelMap, right_name: str, error: type[QuickdrawError]
) -> None:
    """Raises `error`, naming both sides and what differs, unless the two maps are equal."""
    if left == right:
        return
    only_left = sorted(set(left.words) - set(right.words))[:3]
    only_right = sorted(set(right.words) - set(left.words))[:3]
    difference = "; ".join(
        f"only in {name}: {', '.join(words)}"
        for name, words in ((left_name, only_left), (right_name, only_right))
        if words
    )
    raise error(
        f"{left_name} has {left.describe()} but {right_name} has {right.describe()}: "
        f"{difference}; use two that were made from the same classes"
    )


def read_classes_file(path: Path) -> list[str]:
    """Words of a class list: one a line, spaces or underscores, blank and `#` lines skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the class list {path}: {error}; give a text file with one word a line"
        ) from error
    words = [spaced(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise InputError(f"the class list {path} holds no word; give one word a line")
    return words


def challenge_words() -> list[str]:
    """The 340 words of the Quick, Draw! Doodle Recognition Challenge, sorted.

    Source: file names of the challenge's `train_simplified` folder (Kaggle, 2018).
    """
    text = files("quickdraw_core").joinpath("challenge_words.txt").read_text(encoding="utf-8")
    return text.splitlines()
