"""What a dataset card says in numbers: a store's manifest, and its drawings by word and split.

The manifest has everything but the splits, which are a function of each `key_id`. Only that
column is read: 8 of some 106 bytes a drawing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.columns import numbers_of
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.manifest import FileRecord, Manifest
from quickdraw_core.system.prefetch import on_threads

SOURCE = "https://github.com/googlecreativelab/quickdraw-dataset"
LICENCE = "https://creativecommons.org/licenses/by/4.0/"


@dataclass(frozen=True)
class SplitCounts:
    """Drawings in each split."""

    train: int = 0
    validation: int = 0
    test: int = 0

    def __add__(self, other: "SplitCounts") -> "SplitCounts":
        return SplitCounts(
            self.train + other.train, self.validation + other.validation, self.test + other.test
        )

    @property
    def rows(self) -> int:
        """All drawings."""
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class CardContent:
    """What a card describes. splits: by word, in the order of the words; the word is None for
    drawings of a test file.
    """

    manifest: Manifest
    splits: Mapping[str | None, SplitCounts]

    @property
    def total(self) -> SplitCounts:
        """Of all words."""
        return sum(self.splits.values(), SplitCounts())

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the label map, without spaces replaced; empty for a test file's drawings."""
        label_map = self.manifest.label_map
        return tuple(label_map.words) if label_map is not None else ()

    @property
    def title(self) -> str:
        """Which drawings these are, in a line."""
        count = len(self.words)
        of = f" of {count} word{'' if count == 1 else 's'}" if count else " without words"
        return f"Quick, Draw! drawings{of}"


def card_content(
    manifest: Manifest, storage: Storage, paths: Mapping[str, str] | None = None
) -> CardContent:
    """The content of a store's card.

    paths: where the storage has a file of the manifest now, if that is not its path in the store.
    Raises what `Storage.read_table` does.
    """
    words = [*(manifest.label_map.words if manifest.label_map is not None else [None])]
    splits: dict[str | None, SplitCounts] = dict.fromkeys(words, SplitCounts())

    def count(file: FileRecord) -> SplitCounts:
        table = storage.read_table((paths or {}).get(file.path, file.path), ["key_id"], False)
        sides = np.bincount(manifest.holdout.split(numbers_of(table["key_id"])), minlength=3)
        return SplitCounts(*(int(sides[split]) for split in Split))

    counts: Iterable[SplitCounts] = on_threads(count, manifest.files, storage.threads)
    for file, counted in zip(manifest.files, counts, strict=True):
        splits[file.word] = splits.get(file.word, SplitCounts()) + counted
    return CardContent(manifest, splits)
