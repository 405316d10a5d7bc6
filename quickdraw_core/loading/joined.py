"""Two packs that a training learns from as from one: its store's, and that of a second store
(`select.also`), such as one of pseudo-labels.

Rows 0..N-1 are those of the first pack, the M after them those of the second. A row is looked up
in the pack that has it; the labels alone are copied, 2 bytes a drawing in each rank.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from quickdraw_core.drawing import Int64Array, UInt16Array
from quickdraw_core.errors import ConfigError, first_few
from quickdraw_core.labels import LabelMap
from quickdraw_core.loading.config import SelectConfig
from quickdraw_core.stage import Opened
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location
from quickdraw_core.store.manifest import MANIFEST_NAME, Manifest
from quickdraw_core.store.pack import Pack, opened_pack
from quickdraw_core.store.store import Store, open_store

_ROWS_AT_ONCE = 1 << 20
_SHOWN = 3


@dataclass(frozen=True)
class JoinedPack:
    """Two packs. What is said of both is in the labels of the first."""

    first: Pack
    second: Pack

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def fingerprint(self) -> str:
        """Of the first store."""
        return self.first.fingerprint

    @property
    def label_map(self) -> LabelMap:
        """Of the first store."""
        return self.first.label_map

    @cached_property
    def labels(self) -> UInt16Array:
        """Of all rows: uint16 [N + M]."""
        index = self.label_map.index
        translated = np.array([index[word] for word in self.second.label_map.words], np.uint16)
        return np.concatenate([self.first.labels, translated[self.second.labels]])

    def counts(self, rows: Int64Array) -> Int64Array:
        """How many of some rows, int64 [n], have each label: int64 [K]."""
        counts = np.zeros(len(self.label_map), np.int64)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = self.labels[rows[start : start + _ROWS_AT_ONCE]]
            counts += np.bincount(some, minlength=len(counts))
        return counts


TrainPack = Pack | JoinedPack
"""What a training learns from and is validated on."""


def first_pack(pack: TrainPack) -> Pack:
    """The pack of the store that a training is on."""
    return pack.first if isinstance(pack, JoinedPack) else pack


def opened_train_pack(store: Store, select: SelectConfig, opened: Opened) -> TrainPack:
    """The pack of a store, and of the second one if there is one; each is built if it is missing.

    Raises what `opened_pack` and `open_also` do.
    """
    also = open_also(select, store, opened)
    pack = opened_pack(store, opened)
    return pack if also is None else JoinedPack(pack, opened_pack(also, opened))


def open_also(select: SelectConfig, store: Store, opened: Opened) -> Store | None:
    """The store `select.also`; None if there is none. store: that it is added to.

    Raises `StoreError` if it cannot be opened, `ConfigError` if it has words that `store` lacks,
    or is not the one of `select.also_fingerprint`.
    """
    if select.also is None:
        return None
    also = open_store(select.also, opened)
    fingerprint = also.manifest.fingerprint
    if select.also_fingerprint not in (None, fingerprint):
        raise ConfigError(
            f"{select.also} is not the store that select.also_fingerprint names: its fingerprint "
            f"is {fingerprint}; give that store, or leave select.also_fingerprint out"
        )
    unknown = [word for word in also.label_map.words if word not in store.label_map.index]
    if unknown:
        raise ConfigError(
            f"{len(unknown):,} of {len(also.label_map):,} words of {select.also} (select.also) "
            f"are not among those of {store.path}: {first_few(unknown, _SHOWN)}; ingest it again "
            "with --classes, without them"
        )
    return also


def also_fingerprint(select: SelectConfig) -> str | None:
    """The fingerprint of the store `select.also`: as recorded, else as it is now; None if there is
    no such store. Raises `StoreError` if it cannot be read.
    """
    if select.also is None or select.also_fingerprint is not None:
        return select.also_fingerprint
    store = select.also.absolute()
    return _fingerprint(store, storage_of(store).version(MANIFEST_NAME))


@lru_cache(maxsize=64)
def _fingerprint(store: Location, version: Hashable) -> str:
    """version: of the manifest now, so that another one is read again."""
    return Manifest.read(store).fingerprint
