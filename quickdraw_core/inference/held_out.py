"""The held-out drawings of a store, and which models may be judged on them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import CheckpointError, EvaluationError, StoreError, first_few
from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.labels import require_same_labels
from quickdraw_core.stage import Opened
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack, opened_pack
from quickdraw_core.store.store import Store, open_store


def require_same_store(config: HeldOutConfig, models: Ensemble, store: Store) -> None:
    """Refuses models of other words or, unless `other_store` is set, of another store: they may
    have been trained on drawings that are held out here. Raises `CheckpointError`.
    """
    for model in models.members:
        require_same_labels(
            model.label_map,
            f"the model {model.name}",
            store.label_map,
            f"the store {config.store}",
            CheckpointError,
        )
        trained_on, here = model.checkpoint.store_fingerprint, store.manifest.fingerprint
        if trained_on != here and not config.other_store:
            raise CheckpointError(
                f"the model {model.name} was trained on store {trained_on[:12]}, but "
                f"{config.store} is {here[:12]}: drawings held out here may have been trained on; "
                "give its own store, or --other-store if you know that they were not"
            )


def on_store(models: Ensemble, fingerprint: str) -> Ensemble:
    """The same models, with `other_store` set for those trained on another store than this."""
    return Ensemble(
        tuple(
            m
            if m.checkpoint.store_fingerprint == fingerprint
            else replace(m, other_store=fingerprint)
            for m in models.members
        )
    )


class HeldOut(NamedTuple):
    """The drawings to judge on. rows: int64 [N] of the pack, ascending. short: word → drawings, of
    words with fewer than asked for. strokes: int64 [N], how many of their first strokes are there;
    None: all (`partial.py`).
    """

    pack: Pack
    rows: Int64Array
    short: dict[str, int]
    strokes: Int64Array | None = None


def find_held_out(
    config: HeldOutConfig, store: Store, opened: Opened, split: Split = Split.TEST
) -> HeldOut:
    """The drawings of a store to judge on, of one side of the holdout. Raises `StoreError` if a
    class has too few, `EvaluationError` if the store was replaced since it was opened.
    """
    if open_store(config.store, opened).manifest.fingerprint != store.manifest.fingerprint:
        raise EvaluationError(
            f"the store {config.store} was replaced before anything was judged on it; run the "
            "same command again"
        )
    pack = opened_pack(store, opened)
    rows = pack.first_rows(split, config.per_class)
    if not len(rows):
        side = split.name.lower()
        raise StoreError(f"{config.store} holds no {side} drawing; ingest more rows a class")
    counts = np.bincount(pack.labels[rows], minlength=len(pack.label_map))
    counted = zip(pack.label_map.words, map(int, counts), strict=True)
    short = {word: n for word, n in counted if n < config.per_class}
    if short and not config.allow_short:
        named = first_few([f"{word} ({n})" for word, n in short.items()])
        raise StoreError(
            f"{len(short)} of {len(pack.label_map)} classes of {config.store} hold fewer than "
            f"{config.per_class} held-out drawings: {named}; judge them on what they have "
            "with --allow-short, or give a smaller --per-class"
        )
    return HeldOut(pack, rows, short)
