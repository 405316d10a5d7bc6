"""The work of an audit, from the trainings of its folds to the page.

Out, in its folder: `audit.html`, `mask.parquet` (what `select.exclude` takes), `suspects.parquet`
(all suspects, held-out ones as well), and `fold-0/` … with the trainings and what they scored.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.audit.folds import fold_folder
from quickdraw_core.audit.judge import Judged, judge
from quickdraw_core.audit.near_duplicates import near_duplicates
from quickdraw_core.audit.page import Page, write_page
from quickdraw_core.audit.result import AuditResult
from quickdraw_core.audit.score_parts import SCORES_NAME, blocks, rows_of_fold, score_fold
from quickdraw_core.audit.suspects import Reason, Suspects, joined, write_mask, write_suspects
from quickdraw_core.cluster.environment import launcher_job
from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.launching.room import pack_needs
from quickdraw_core.launching.train import needs_of, train
from quickdraw_core.outputs import OUTPUTS_NAME, note_outputs
from quickdraw_core.progress import progress, report_to, reporter_of
from quickdraw_core.stage import Opened
from quickdraw_core.storage.begun_by import note_begun
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.pack import Pack, opened_pack
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.disk import Need, require_room, size_of_files
from quickdraw_core.system.locks import require_free_folder
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

PAGE_NAME = "audit.html"
MASK_NAME = "mask.parquet"
TABLE_NAME = "suspects.parquet"
LEAST_TRAINED = 20
"""Train drawings of a class that each fold's model needs to judge it."""
_SCORE_BYTES = 48
"""Of a drawing in a part, at most."""


def run_audit(
    config: AuditConfig,
    folds: Sequence[TrainConfig],
    folder: Path,
    digest: str,
    opened: Opened,
) -> AuditResult:
    """Does what is missing; the caller holds the folder's lock. folds: the training of each;
    digest: of all that decides the result.
    """
    (folder / OUTPUTS_NAME).unlink(missing_ok=True)
    if config.fresh:
        _clear(folder)
        note_begun(LocalStorage(folder), launcher_job(os.environ))
    store = open_store(config.store, opened)
    require_room(_needs(folds, folder, store, opened.branch()))
    pack = opened_pack(store, opened)
    scores, trained = [], []
    for fold, training in enumerate(folds):
        score, counts = _fold(training, fold, len(folds), pack, opened.branch())
        scores.append(score)
        trained.append(counts)
    least = np.min(trained, 0)
    is_judged = least >= LEAST_TRAINED
    if is_judged.sum() < 2:
        raise ConfigError(
            f"{is_judged.sum()} of {len(is_judged)} words have {LEAST_TRAINED} train drawings or "
            "more in each fold's training, and two are needed; ingest more rows a class, or give "
            "fewer --folds"
        )
    run_dirs = [fold_folder(folder, fold) for fold in range(len(folds))]
    judged = judge(partial(blocks, pack, run_dirs), pack.drawings, is_judged)
    with progress("near-duplicates", len(pack), "drawings") as bar:
        repeated = near_duplicates(pack, judged.suspects.rows, bar)
    suspects = joined([judged.suspects, repeated])
    too_few = {pack.label_map.words[k]: int(least[k]) for k in np.flatnonzero(~is_judged)}
    return _written(folder, digest, pack, suspects, judged, config, tuple(scores), too_few)


def _needs(folds: Sequence[TrainConfig], folder: Path, store: Store, opened: Opened) -> list[Need]:
    """What is still to be written: the pack, what each training keeps, and what is not scored."""
    needs = pack_needs(store)
    for number, training in enumerate(folds):
        needs += [
            replace(
                need,
                what=f"fold {number + 1}'s {need.what}",
                option=need.option.replace("--run-dir", "--out"),
            )
            for need in needs_of(training, store, opened)
            if need not in needs
        ]
    scored = sum(size_of_files(path / SCORES_NAME) for path in folder.glob("fold-*"))
    scores = max(0, _SCORE_BYTES * store.manifest.rows_kept - scored)
    return [*needs, Need("scores", scores, folder, "--out")]


def _fold(
    training: TrainConfig, fold: int, folds: int, pack: Pack, opened: Opened
) -> tuple[float, Int64Array]:
    """Trains a fold and scores it. Returns MAP@3 of its model on the validation drawings of the
    other folds, and the train drawings of each class that it learned from, int64 [K].
    """
    with report_to(reporter_of(f"fold {fold + 1} of {folds}")):
        result = train(training, opened=opened)  # tried again with the whole stage
        models = load_models([str(result.run_dir)], opened=opened)
        total = rows_of_fold(pack, fold, folds)
        with progress("score", total, "drawings") as bar:
            score_fold(models, pack, fold, folds, result.run_dir, bar)
    return result.metrics["map_at_3"], models.train_counts


def _written(
    folder: Path,
    digest: str,
    pack: Pack,
    suspects: Suspects,
    judged: Judged,
    config: AuditConfig,
    fold_scores: tuple[float, ...],
    too_few: dict[str, int],
) -> AuditResult:
    write_suspects(folder / TABLE_NAME, suspects, pack)
    masked = write_mask(folder / MASK_NAME, suspects, pack)
    counts = np.bincount(suspects.reasons, minlength=len(Reason))
    result = AuditResult(
        page=folder / PAGE_NAME,
        mask=folder / MASK_NAME,
        table=folder / TABLE_NAME,
        drawings=len(pack),
        suspects={reason.text: int(counts[reason]) for reason in Reason},
        masked=masked,
        wrong=float(judged.wrong.sum()),
        fold_scores=fold_scores,
        right=judged.right,
        too_few=too_few,
    )
    write_page(Page(result, judged, suspects, pack, config), result.page)
    note_outputs(folder, digest, [result.page, result.mask, result.table], result)
    return result


def _clear(folder: Path) -> None:
    """Removes what an earlier audit left: its page and files, and its trainings."""
    for name in (PAGE_NAME, MASK_NAME, TABLE_NAME):
        (folder / name).unlink(missing_ok=True)
    for run_dir in folder.glob("fold-*"):
        if RunFolder.is_there(run_dir):
            require_free_folder(run_dir)
            shutil.rmtree(run_dir)
