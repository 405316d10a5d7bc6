"""Drawings of a word from a store, for "how others drew that word".

The store may come later, or be replaced by a newer one, as a nightly ingest does: it is looked at
anew each time.
"""

import random
from threading import Lock

import numpy as np

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import StoreError, nearest
from quickdraw_core.labels import is_same_word
from quickdraw_core.serving.web.answers import Refused, unavailable
from quickdraw_core.stage import Opened
from quickdraw_core.storage.location import Location
from quickdraw_core.store.store import Store, open_store

KEPT = 128
"""Drawings of a word that are kept in memory: some 50 kB."""
MAX_DRAWINGS = 32
"""Drawings of an answer at most."""
NOT_THERE = (
    "there are no drawings to show yet: the store that the server was started with is not there, "
    "or cannot be read; they come once it can be"
)
NOT_THERE_SECONDS = 60
"""After which a client may ask again."""

Drawing = list[tuple[list[int], list[int]]]
_COLUMNS = ["recognized", "x", "y", "stroke_lengths"]


class WordDrawings:
    """Reads a few drawings of each word once it is asked for."""

    def __init__(self, store: Location) -> None:
        self._location, self._opened = store, Opened()
        self._store: Store | None = None
        self._kept: dict[str, DrawingBatch] = {}
        self._lock = Lock()

    def some(self, word: str, count: int) -> list[Drawing]:
        """Up to `count` drawings of a word by chance, recognised ones if the store says so.

        word: with spaces or underscores. Raises `Refused`: 404 for a word that the store lacks,
        503 if there is no store that can be read.
        """
        try:
            with self._lock:
                kept = self._drawings(word)
        except (StoreError, OSError) as error:
            raise unavailable(NOT_THERE, NOT_THERE_SECONDS) from error
        return [
            kept.strokes(index) for index in random.sample(range(len(kept)), min(count, len(kept)))
        ]

    def _drawings(self, word: str) -> DrawingBatch:
        store = open_store(self._location, self._opened)
        if store is not self._store:  # another one, or another manifest
            self._store, self._kept = store, {}
        known = store.label_map.words
        name = next((each for each in known if is_same_word(each, word)), None)
        if name is None:
            raise Refused(404, f"the store has no drawings of {word!r}; {nearest(word, known)}")
        if name not in self._kept:
            self._kept[name] = _read(store, name)
        return self._kept[name]


def _read(store: Store, word: str) -> DrawingBatch:
    files = (f for f in store.manifest.files if f.word == word and f.rows)
    file = next(files, None)
    if file is None:
        raise Refused(404, f"the store has no drawings of {word!r}")
    table = store.storage.read_table(file.path, _COLUMNS).combine_chunks()
    batch = DrawingBatch.from_columns(
        *(table.column(name).chunk(0) for name in ("x", "y", "stroke_lengths"))
    )
    rows = np.flatnonzero(table.column("recognized").to_numpy(zero_copy_only=False) != False)  # noqa: E712
    step = max(1, len(rows) // KEPT)
    return batch.take(rows[::step][:KEPT])
