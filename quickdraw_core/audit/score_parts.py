"""What each fold's model says of the drawings of its fold, in parts on the disk.

The pack is cut into blocks of `BLOCK_ROWS` drawings. Of each block every fold has one part, a
Parquet file of `inference.predictions`, so that neither the predicting nor the reading has more
than a block in memory, and whoever was stopped goes on with the first part that is missing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import EvaluationError, InputError
from quickdraw_core.inference.ensemble import PREDICTING_CODE, Ensemble
from quickdraw_core.inference.predict import predict_rows
from quickdraw_core.inference.predictions import Predictions, joined
from quickdraw_core.progress import Bar
from quickdraw_core.store.holdout import fold_of
from quickdraw_core.store.pack import Pack
from quickdraw_core.system.code_version import code_version

BLOCK_ROWS = 1 << 17
SCORES_NAME = "scores"
_BATCH = 256


class Block(NamedTuple):
    """Predictions of the drawings of a block. rows: of the pack, int64 [N], ascending."""

    rows: Int64Array
    predictions: Predictions


def block_starts(pack: Pack) -> range:
    """The first row of each block."""
    return range(0, len(pack), BLOCK_ROWS)


def rows_of(pack: Pack, first: int, fold: int, folds: int) -> Int64Array:
    """The rows of a fold in the block that begins at row `first`: int64 [n], ascending."""
    of_block = fold_of(pack.key_ids[first : first + BLOCK_ROWS], folds)
    return np.flatnonzero(of_block == fold) + first


def rows_of_fold(pack: Pack, fold: int, folds: int) -> int:
    """How many drawings of the pack are in a fold."""
    return sum(len(rows_of(pack, first, fold, folds)) for first in block_starts(pack))


def score_fold(
    models: Ensemble, pack: Pack, fold: int, folds: int, run_dir: Path, bar: Bar
) -> None:
    """Writes the parts of a fold that are not there yet into its run folder.

    Raises `EvaluationError` if the model gives NaN, `WriteError` if a part cannot be written.
    """
    facts = _facts(models, pack, folds)
    for first in block_starts(pack):
        path = _part_path(run_dir, first)
        rows = rows_of(pack, first, fold, folds)
        if _read(path, pack, rows, facts) is not None:
            bar.advance(len(rows))
            continue
        predict_rows(models, pack, rows, _BATCH, bar.advance).predictions.write(path, facts)


def blocks(pack: Pack, run_dirs: Sequence[Path]) -> Iterator[Block]:
    """All drawings of the pack, block by block, out of the parts of all folds.

    Raises `EvaluationError` if a part was changed or deleted since it was written.
    """
    for first in block_starts(pack):
        parts, rows = [], []
        for fold, run_dir in enumerate(run_dirs):
            of_fold = rows_of(pack, first, fold, len(run_dirs))
            part = _read(_part_path(run_dir, first), pack, of_fold, {})
            if part is None:
                raise EvaluationError(
                    f"{_part_path(run_dir, first)} was changed or deleted while it was read; "
                    "give the same command again"
                )
            parts.append(part)
            rows.append(of_fold)
        every = np.concatenate(rows)
        order = np.argsort(every)
        yield Block(every[order], joined(parts).where(order))


def _part_path(run_dir: Path, first: int) -> Path:
    return run_dir / SCORES_NAME / f"rows-{first:09d}.parquet"


def _facts(models: Ensemble, pack: Pack, folds: int) -> dict[str, str]:
    """By what a part is known to be the one that would be written now."""
    return {
        "model_digest": models.digest,
        "store_fingerprint": pack.fingerprint,
        "folds": str(folds),
        "code": code_version(*PREDICTING_CODE),
    }


def _read(path: Path, pack: Pack, rows: Int64Array, facts: dict[str, str]) -> Predictions | None:
    """The predictions of a part, if it is there with these rows and facts."""
    if not path.is_file():
        return None
    try:
        predictions, recorded = Predictions.read(path, pack.label_map)
    except InputError:
        return None
    if any(recorded.get(name) != value for name, value in facts.items()):
        return None
    same = np.array_equal(predictions.key_ids, pack.key_ids[rows])
    return predictions if same else None
