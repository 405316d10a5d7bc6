"""Which of a pack's drawings are trained on, and which of a second one's (`select.also`)."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import Int64Array, UInt64Array
from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.labels import LabelMap, spaced
from quickdraw_core.loading.config import FoldConfig, SelectConfig
from quickdraw_core.loading.exclude import is_in, read_excluded
from quickdraw_core.loading.joined import JoinedPack, TrainPack, first_pack
from quickdraw_core.store.holdout import Split, fold_of
from quickdraw_core.store.pack import Pack, class_starts

_IDS_AT_ONCE = 1 << 20
"""Ids hashed or looked up at once: of all drawings that would take gigabytes."""


def find_label(label_map: LabelMap, word: str) -> int:
    """The label of a word, underscores allowed. Raises `ConfigError` for an unknown one."""
    label = label_map.index.get(word, label_map.index.get(spaced(word)))
    if label is None:
        raise ConfigError(f"unknown class {word!r}: {nearest(spaced(word), label_map.words)}")
    return label


def select_rows(
    pack: Pack, split: Split, select: SelectConfig, beside: Pack | None = None
) -> Int64Array:
    """Rows of one side of the holdout that `select` lets through, ascending: int64 [n].

    beside: a pack that is learnt from as well, of which the drawings to exclude may be. Raises
    `ConfigError` for an unknown word, a file of drawings to exclude that cannot be used, and if
    nothing is left.
    """
    rows = _candidates(pack, split, select)
    if select.exclude is not None and split == Split.TRAIN:
        rows = _without_excluded(pack, rows, select, beside)
    if select.per_class is not None:
        rows = _at_most(pack, rows, select.per_class)
    if len(rows) == 0:
        raise ConfigError(
            f"no {split.name.lower()} drawing of {len(pack)} in the pack is left by "
            f"{_described(select)}; ask for less"
        )
    return rows


def train_rows(pack: TrainPack, select: SelectConfig) -> Int64Array:
    """Rows that a training learns from, by label: int64 [n].

    Of a second pack its train drawings, chosen by the same options, without those that the first
    store holds too, whichever side of the holdout they are on there: so nothing that is held out
    is learned, and nothing twice. Raises `ConfigError` as `select_rows` does, and if none of the
    second pack is left.
    """
    if not isinstance(pack, JoinedPack):
        return select_rows(pack, Split.TRAIN, select)
    first, second = pack.first, pack.second
    added, _ = _added(pack, select)
    if select.exclude is not None:
        added = added[_where(second, added, _not_among(read_excluded(select)))]
    if select.per_class is not None:
        added = _at_most(second, added, select.per_class)
    if len(added) == 0:
        raise ConfigError(
            f"no train drawing of the {len(second):,} of {select.also} (select.also) is left by "
            f"{_described(select)}, and without those that the store has too; leave select.also "
            "out, or ask for less"
        )
    rows = np.concatenate([select_rows(first, Split.TRAIN, select, second), added + len(first)])
    by_label: Int64Array = rows[np.argsort(pack.labels[rows], kind="stable")]
    return by_label


def selection_notes(pack: TrainPack, select: SelectConfig) -> list[str]:
    """What a training leaves out otherwise than asked for: drawings of a second store that its own
    store has too, and some of those to exclude that it would not have taken anyway.

    Raises `ConfigError` if a file cannot be used.
    """
    notes = [exclusion_note(pack, select)]
    if isinstance(pack, JoinedPack):
        added, left_out = _added(pack, select)
        if left_out:
            notes.append(
                f"{left_out:,} of {left_out + len(added):,} train drawings of {select.also} left "
                "out: the store to train on has them too"
            )
    return [note for note in notes if note is not None]


def exclusion_note(pack: TrainPack, select: SelectConfig) -> str | None:
    """How many drawings of the file `select.exclude` a training leaves out, if it is not all of
    them. Raises `ConfigError` if the file cannot be used.
    """
    if select.exclude is None:
        return None
    excluded, first = read_excluded(select), first_pack(pack)
    left_out = _count(first, _candidates(first, Split.TRAIN, select), excluded)
    if isinstance(pack, JoinedPack):
        left_out += _count(pack.second, _added(pack, select)[0], excluded)
    if left_out == len(excluded):
        return None
    return (
        f"{left_out:,} of {len(excluded):,} drawings in {select.exclude} left out; the others are "
        "held out, not chosen otherwise, or not in the store"
    )


def _added(pack: JoinedPack, select: SelectConfig) -> tuple[Int64Array, int]:
    """Rows of the second pack that none of the options but `exclude` and `per_class` leaves out,
    int64 [n], without those of drawings that the first has; and how many these are.
    """
    first, second = pack.first, pack.second
    if select.classes is not None:
        labels = {find_label(first.label_map, word) for word in select.classes}
        words = {first.label_map.words[label] for label in labels}
        known = tuple(word for word in second.label_map.words if word in words)
        select = select.model_copy(update={"classes": known})
    rows = _candidates(second, Split.TRAIN, select)
    ids = np.unique(second.key_ids[rows])
    shared = [np.empty(0, np.uint64)]
    for start in range(0, len(first), _IDS_AT_ONCE):
        some = first.key_ids[start : start + _IDS_AT_ONCE]
        shared.append(some[is_in(some, ids)])
    kept = rows[_where(second, rows, _not_among(np.unique(np.concatenate(shared))))]
    return kept, len(rows) - len(kept)


def _not_among(ascending: UInt64Array) -> Callable[[UInt64Array], npt.NDArray[np.bool_]]:
    return lambda ids: ~is_in(ids, ascending)


def _candidates(pack: Pack, split: Split, select: SelectConfig) -> Int64Array:
    """Rows that none of the options but `exclude` and `per_class` leaves out: int64 [n]."""
    chosen = pack.splits == split
    if select.recognized_only:
        chosen &= pack.recognized == 1
    if select.classes is not None:
        wanted = np.zeros(len(pack.label_map), bool)
        wanted[[find_label(pack.label_map, word) for word in select.classes]] = True
        chosen &= wanted[pack.labels]
    rows: Int64Array = np.flatnonzero(chosen)
    return rows if select.fold is None else _without_fold(pack, rows, select.fold)


def _without_fold(pack: Pack, rows: Int64Array, fold: FoldConfig) -> Int64Array:
    return rows[_where(pack, rows, lambda ids: fold_of(ids, fold.of) != fold.left_out)]


def _without_excluded(
    pack: Pack, rows: Int64Array, select: SelectConfig, beside: Pack | None
) -> Int64Array:
    """Raises `ConfigError` if none of the drawings to exclude is there: it is another store's."""
    excluded = read_excluded(select)
    kept = rows[_where(pack, rows, _not_among(excluded))]
    # Some that are there, but held out, or not chosen otherwise, are no mistake.
    packs = [pack, *([] if beside is None else [beside])]
    is_foreign = len(kept) == len(rows) and not any(
        _count(one, np.arange(len(one)), excluded) for one in packs
    )
    if len(excluded) and is_foreign:
        raise ConfigError(
            f"none of the {len(excluded):,} drawings in {select.exclude} is among the "
            f"{len(pack):,} of the store; give the file of an audit of this store"
        )
    return kept


def _count(pack: Pack, rows: Int64Array, key_ids: UInt64Array) -> int:
    """How many of these rows have one of the ids, which are ascending."""
    return int(_where(pack, rows, lambda ids: is_in(ids, key_ids)).sum())


def _where(
    pack: Pack, rows: Int64Array, test: Callable[[UInt64Array], npt.NDArray[np.bool_]]
) -> npt.NDArray[np.bool_]:
    """What `test` says of the ids of these rows: bool [n]."""
    chosen = np.empty(len(rows), bool)
    for first in range(0, len(rows), _IDS_AT_ONCE):
        part = slice(first, first + _IDS_AT_ONCE)
        chosen[part] = test(pack.key_ids[rows[part]])
    return chosen


def _at_most(pack: Pack, rows: Int64Array, per_class: int) -> Int64Array:
    """Of each class the rows with the `per_class` smallest hashes of the holdout rule."""
    starts = class_starts(pack.labels[rows], np.arange(len(pack.label_map) + 1))
    kept = []
    for start, end in pairwise(starts):
        group = rows[start:end]
        if len(group) > per_class:
            hashes = pack.holdout.hashes(pack.key_ids[group])
            group = np.sort(group[np.argsort(hashes, kind="stable")[:per_class]])
        kept.append(group)
    return np.concatenate(kept)


def _described(select: SelectConfig) -> str:
    """The options that leave drawings out, as they are set."""
    options = {
        "recognized_only": select.recognized_only,
        "classes": select.classes and ",".join(select.classes),
        "per_class": select.per_class,
        "exclude": select.exclude,
        "fold": select.fold and f"{select.fold.left_out} of {select.fold.of}",
    }
    return ", ".join(f"{name}={value}" for name, value in options.items() if value) or "the split"
