"""Drawings without labels → Kaggle's CSVs of those whose word models are sure of.

In: a CSV of drawings, such as Kaggle's test file, and models. Out: `FOLDER/<word>.csv` for each
word that has any, in the form of `train_simplified`, each drawing with its own key_id and country;
and `FOLDER/pseudo-labels.json`, what they were made of. All of it appears at once, or nothing.

The file is read twice, in pieces: for the models' scores, which wait in a temporary file, and for
the drawings. So memory does not grow with it.
"""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_core.challenge.output_file import temporary_output
from quickdraw_core.challenge.score_spool import ScoredPiece, ScoreSpool
from quickdraw_core.challenge.scoring import scores_by
from quickdraw_core.challenge.test_file import open_test_file, row_pieces
from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.formats.kaggle import format_drawing
from quickdraw_core.formats.rows import Rows
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.pieces import Computing
from quickdraw_core.progress import progress
from quickdraw_core.pseudo_labels.class_prior import ClassPrior, assumed_prior, find_prior
from quickdraw_core.pseudo_labels.config import PseudoLabelConfig
from quickdraw_core.reading.row_index import index_rows, require_whole
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.system.files import require_writable, write_atomic, write_errors
from quickdraw_core.system.locks import held, lock_of_file

RECORD_NAME = "pseudo-labels.json"
_ROWS_AT_ONCE = 4_096
"""Rows that wait in memory until they are written to their words' files."""


@dataclass(frozen=True)
class PseudoLabels:
    """What was written to a folder.

    rows: of the file; unreadable: of them. counts: drawings of each word, int64 [K]; words: in
    the order of the labels. probability: the mean of those that are kept. prior: shares of the
    classes.
    """

    folder: Path
    words: tuple[str, ...]
    rows: int
    unreadable: int
    counts: Int64Array
    probability: float
    prior: ClassPrior

    @property
    def kept(self) -> int:
        """Drawings that were given a word."""
        return int(self.counts.sum())


@dataclass
class _Kept:
    """What is counted while drawings are written. probabilities: the sum of the kept ones'."""

    counts: Int64Array
    probabilities: float = 0.0
    waiting: dict[int, list[str]] = field(default_factory=dict)
    rows_waiting: int = 0


def write_pseudo_labels(
    models: Ensemble, config: PseudoLabelConfig, computing: Computing | None = None
) -> PseudoLabels:
    """Gives drawings the word that models are sure of.

    computing: who draws and guesses instead of this process. Raises `ConfigError` for a folder
    that holds something or cannot be written, and if no drawing is kept; `InputError` if the file
    is missing or no CSV of drawings; `BusyError`, `WriteError`, `ClusterError`.
    """
    folder = config.out.resolve()
    check_output_folder(folder)
    source = open_test_file(config.drawings)
    index = index_rows(source)
    require_whole(source, index)
    with (
        _written_whole(folder) as temporary,
        temporary_output(folder.with_name(f"{folder.name}.scores")) as file,
    ):
        spool = ScoreSpool(file, len(models.label_map))
        rows = unreadable = 0
        with (
            progress("predict", index.rows, "drawings") as bar,
            closing(scores_by(computing, models, source)) as scored,
        ):
            for piece, scores, *_ in scored:
                spool.add(ScoredPiece(piece.key_ids, piece.readable, scores))
                rows += len(piece.key_ids)
                unreadable += len(piece.rejected)
                bar.advance(len(piece.key_ids))
        prior = _prior(models, config, spool)
        kept = _write(models, config, source, spool, prior, temporary)
        count = int(kept.counts.sum())
        if not count:
            raise ConfigError(
                f"the models give none of the {rows - unreadable:,} readable drawings of "
                f"{config.drawings} a word with a probability of {config.at_least:g} or more; "
                "give a smaller --at-least"
            )
        probability = kept.probabilities / count
        words = models.label_map.words
        made = PseudoLabels(config.out, words, rows, unreadable, kept.counts, probability, prior)
        record = json.dumps(_record(made, models, config), indent=1, ensure_ascii=False)
        write_atomic(temporary / RECORD_NAME, record + "\n")
    return made


def check_output_folder(folder: Path) -> None:
    """Raises `ConfigError` unless a folder is missing or empty, and can be written."""
    require_writable(folder)
    if folder.is_mount():
        raise ConfigError(f"{folder} is where a disk is mounted; give a new folder inside of it")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds files; give another folder, or empty it")


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which gets its name after the block; nothing if the block raises.
    What a kill leaves, the next command removes.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    with held(lock_of_file(folder), str(folder), "writing"):
        shutil.rmtree(temporary, ignore_errors=True)
        with write_errors(folder):
            temporary.mkdir(parents=True)
        try:
            yield temporary
            check_output_folder(folder)  # another program may have written there
            with write_errors(folder):
                temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _prior(models: Ensemble, config: PseudoLabelConfig, spool: ScoreSpool) -> ClassPrior:
    assumed = assumed_prior(models)
    if not config.correct_prior:
        return ClassPrior(assumed, assumed)
    with progress("class shares", None, "rounds") as bar:
        prior = find_prior(spool, assumed, config.temperature, lambda: bar.advance(1))
        bar.expect(prior.rounds)
    return prior


def _write(
    models: Ensemble,
    config: PseudoLabelConfig,
    source: SourceFile,
    spool: ScoreSpool,
    prior: ClassPrior,
    folder: Path,
) -> _Kept:
    """Writes the CSVs."""
    words = models.label_map.words
    kept = _Kept(np.zeros(len(words), np.int64))
    with progress("write", None, "drawings") as bar, closing(row_pieces(source)) as pieces:
        for scored in spool.pieces():
            again = next(pieces, None)
            if again is None or not np.array_equal(again[1].key_ids, scored.key_ids):
                raise InputError(
                    f"{config.drawings} was changed while it was read; give the command again"
                )
            rows, _ = again
            probabilities = prior.corrected(scored.log_probabilities, config.temperature)
            best, chosen = _sure(probabilities, config.at_least)
            kept.counts += np.bincount(best[chosen], minlength=len(words))
            kept.probabilities += float(probabilities[chosen, best[chosen]].sum())
            for index in chosen:
                label = int(best[index])
                kept.waiting.setdefault(label, []).append(_line(rows, int(index), words[label]))
            kept.rows_waiting += len(chosen)
            if kept.rows_waiting >= _ROWS_AT_ONCE:
                _append(kept, words, folder)
            bar.advance(len(chosen))
        _append(kept, words, folder)
    return kept


def _sure(probabilities: Float64Array, at_least: float) -> tuple[Int64Array, Int64Array]:
    """The best label of each drawing, int64 [N], and which drawings are sure, int64 [n]."""
    if not len(probabilities):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return probabilities.argmax(1), np.flatnonzero(probabilities.max(1) >= at_least)


def _line(rows: Rows, index: int, word: str) -> str:
    """A row as a line of Kaggle's training CSV; what the source does not say stays empty."""
    first, end = rows.country_offsets[index : index + 2]
    country = rows.country_bytes[first:end].tobytes().decode()
    drawing = format_drawing(rows.drawings.strokes(index))
    text = io.StringIO()
    fields = [country, drawing, int(rows.key_ids[index]), "", "", word]
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue()


def _append(kept: _Kept, words: tuple[str, ...], folder: Path) -> None:
    """Writes what waits."""
    for label, lines in kept.waiting.items():
        path = folder / f"{words[label]}.csv"
        with write_errors(path):
            is_new = not path.exists()
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(",".join(TRAIN_COLUMNS) + "\n" if is_new else "")
                file.writelines(lines)
    kept.waiting.clear()
    kept.rows_waiting = 0


def _record(made: PseudoLabels, models: Ensemble, config: PseudoLabelConfig) -> dict[str, Any]:
    """What the folder's JSON says."""
    each = zip(made.words, made.counts.tolist(), made.prior.found.tolist(), strict=True)
    return {
        "models": [member.name for member in models.members],
        "models_sha256": models.digest,
        "label_map_sha256": models.label_map.sha256,
        "drawings": config.drawings,
        "rows": made.rows,
        "unreadable": made.unreadable,
        "at_least": config.at_least,
        "temperature": config.temperature,
        "correct_prior": config.correct_prior,
        "tta": config.tta,
        "precision": models.precision,
        "kept": made.kept,
        "mean_probability": made.probability,
        "classes": {word: {"kept": kept, "share": share} for word, kept, share in each},
        "without": [word for word, kept in zip(made.words, made.counts, strict=True) if not kept],
    }
