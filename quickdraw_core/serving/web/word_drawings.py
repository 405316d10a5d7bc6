"""Drawings of a word from a store, for "how others drew that word"."""

import random
from threading import Lock

import numpy as np

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import nearest
from quickdraw_core.labels import is_same_word
from quickdraw_core.serving.web.answers import Refused
from quickdraw_core.store.store import Store

KEPT = 128
"""Drawings of a word that are kept in memory: some 50 kB."""
MAX_DRAWINGS = 32
"""Drawings of an answer at most."""

Drawing = list[tuple[list[int], list[int]]]
_COLUMNS = ["recognized", "x", "y", "stroke_lengths"]


class WordDrawings:
    """Reads a few drawings of each word once it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, DrawingBatch] = {}
        self._lock = Lock()

    def some(self, word: str, count: int) -> list[Drawing]:
        """Up to `count` drawings of a word by chance, recognised ones if the store says so.

        word: with spaces or underscores. Raises `Refused` (404) for a word that the store lacks.
        """
        known = self._store.label_map.words
        name = next((each for each in known if is_same_word(each, word)), None)
        if name is None:
            raise Refused(404, f"the store has no drawings of {word!r}; {nearest(word, known)}")
        with self._lock:
            if name not in self._kept:
                self._kept[name] = self._read(name)
        kept = self._kept[name]
        return [
            kept.strokes(index) for index in random.sample(range(len(kept)), min(count, len(kept)))
        ]

    def _read(self, word: str) -> DrawingBatch:
        files = (f for f in self._store.manifest.files if f.word == word and f.rows)
        file = next(files, None)
        if file is None:
            raise Refused(404, f"the store has no drawings of {word!r}")
        table = self._store.storage.read_table(file.path, _COLUMNS).combine_chunks()
        batch = DrawingBatch.from_columns(
            *(table.column(name).chunk(0) for name in ("x", "y", "stroke_lengths"))
        )
        rows = np.flatnonzero(table.column("recognized").to_numpy(zero_copy_only=False) != False)  # noqa: E712
        step = max(1, len(rows) // KEPT)
        return batch.take(rows[::step][:KEPT])
