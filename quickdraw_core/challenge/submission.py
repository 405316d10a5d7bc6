"""Kaggle's submission: `key_id,word`, three underscored guesses a row, in the test file's order.

The test file is read, rendered and predicted in pieces, so memory does not grow with it. If all
rows must be scored before the first is answered (`balance`), the scores wait in a file. A row
whose drawing cannot be read is answered with the three most common words, and listed in a file
beside the submission.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from quickdraw_core.challenge.balance import Balance, balance
from quickdraw_core.challenge.check_submission import key_id_problems
from quickdraw_core.challenge.output_file import put_in_place, temporary_output
from quickdraw_core.challenge.probabilities_file import ProbabilitiesFile
from quickdraw_core.challenge.score_spool import ScoredPiece, ScoreSpool
from quickdraw_core.challenge.scoring import Scored, scores_by
from quickdraw_core.challenge.test_file import Piece, open_test_file
from quickdraw_core.drawing import Float64Array, Int64Array
from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.formats.rows import Rejected
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.options import Precision
from quickdraw_core.inference.pieces import Computing
from quickdraw_core.labels import GUESSES, underscored
from quickdraw_core.modeling.ranking import top_guesses
from quickdraw_core.progress import Bar, progress
from quickdraw_core.reading.row_index import index_rows, require_whole
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.system.output_files import is_stream, regular_file, require_output

FIRST_UNREADABLE = 5
"""Unreadable rows that a result names itself; its file has all."""

BALANCE_REFUSED = (
    "evaluate takes no --balance: with it the guesses for one drawing depend on all the others, "
    "and on every class having as many drawings. The held-out drawings do, so the score would be "
    "higher. The drawings of users do not, and come one by one, so it would not be the MAP@3 of "
    "the model. Use --balance in predict, for the challenge's test set"
)


@dataclass
class SubmissionResult:
    """What was written, and how it went.

    precision: what the models computed in, a name of PRECISIONS. unreadable: how many rows could
    not be read; first_unreadable: some of them; unreadable_file: CSV of all, None if there are
    none. seconds: spent on reading, rendering and predicting; waited_seconds: how many of them the
    model waited for drawings. balance: of the scores, None without `--balance`. notes: why Kaggle
    would refuse it.
    """

    path: Path
    precision: str = Precision.FP32
    rows: int = 0
    unreadable: int = 0
    first_unreadable: list[Rejected] = field(default_factory=list)
    unreadable_file: Path | None = None
    seconds: float = 0.0
    waited_seconds: float = 0.0
    balance: Balance | None = None
    probabilities: Path | None = None
    notes: list[str] = field(default_factory=list)


def write_submission(
    models: Ensemble,
    test: str | Path,
    out: Path,
    balanced: bool = False,
    probabilities: Path | None = None,
    computing: Computing | None = None,
) -> SubmissionResult:
    """Answers every row of the CSV `test`, one model or several together.

    out, its `.unreadable.csv` if rows could not be read (line, key_id, reason, found), and
    probabilities (see `ProbabilitiesFile`) appear only when all is done, and replace older files;
    until then there are temporary files beside them. A stream (`output_files.is_stream`) gets all
    at the end, and has no list of unreadable rows. balanced: see `balance.balance`; for a test
    set with as many drawings of each class. computing: who draws and guesses instead of this
    process, which reads and writes.

    Raises `CheckpointError` for models of fewer than three classes, `ConfigError` for files that
    cannot be written, `WriteError` if writing fails, `InputError` if the test file is missing,
    lacks its columns, or a row has no `key_id`; `ClusterError`.
    """
    if len(models.label_map) < GUESSES:
        raise CheckpointError(
            f"the model knows {len(models.label_map)} classes, and a submission has {GUESSES} "
            "distinct words a row; give a model of more classes"
        )
    source = open_test_file(str(test))
    index = index_rows(source)
    require_whole(source, index)
    listed = _unreadable_path(out)
    _require_outputs(source, out, listed, probabilities)
    result = SubmissionResult(out, models.precision, probabilities=probabilities)
    with ExitStack() as stack:
        answers = stack.enter_context(temporary_output(out))
        # In any case, so that a killed run's file is removed.
        scores = stack.enter_context(temporary_output(_scores_path(out)))
        unread = stack.enter_context(temporary_output(listed or out))
        kept = stack.enter_context(temporary_output(probabilities)) if probabilities else None
        bar = stack.enter_context(progress("predict", index.rows, "drawings"))
        scored = scores_by(computing, models, source)
        stack.callback(scored.close)
        pieces: Iterable[ScoredPiece] = _noted(scored, result, bar, unread)
        offsets = np.zeros(len(models.label_map))
        if balanced:
            result.balance, pieces = _balanced(pieces, scores, len(offsets))
            offsets = result.balance.offsets
        if kept is not None:
            with _probabilities_file(kept, models, result.balance) as table:
                _write(table.writing(pieces), models, offsets, answers)
        else:
            _write(pieces, models, offsets, answers)
        if kept is not None and probabilities is not None:
            put_in_place(kept, probabilities)
        if listed is not None and result.unreadable:
            put_in_place(unread, listed)
            result.unreadable_file = listed
        elif listed is not None:
            listed.unlink(missing_ok=True)  # of an earlier submission
        put_in_place(answers, out)
    return result


def _unreadable_path(out: Path) -> Path | None:
    """The list of unreadable rows: beside the submission, None if that goes to a stream."""
    file = regular_file(out)
    return None if is_stream(out) else file.with_name(f"{file.stem}.unreadable.csv")


def _scores_path(out: Path) -> Path:
    file = regular_file(out)
    return out if is_stream(out) else file.with_name(f"{file.name}.scores")


def _require_outputs(
    source: SourceFile, out: Path, listed: Path | None, probabilities: Path | None
) -> None:
    paths = [path for path in (out, listed, probabilities) if path is not None]
    for path in paths:
        require_output(path)
        if path.resolve() == Path(source.location).resolve():
            raise ConfigError(f"{path} is the test file itself; give another name to write to")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(
            f"{probabilities} is where the submission {out} or its list of unreadable rows goes; "
            "give the probabilities another name"
        )


def _noted(
    scored: Iterable[Scored], result: SubmissionResult, bar: Bar, unread: BinaryIO
) -> Iterator[ScoredPiece]:
    """The pieces with their scores. Counts rows and seconds in `result`, and lists unreadable
    rows in the file `unread`.
    """
    unread.write(_lines(["line", "key_id", "reason", "found"]))
    key_ids = [np.empty(0, np.uint64)]
    for piece, scores, seconds, waited_seconds in scored:
        result.seconds += seconds
        result.waited_seconds += waited_seconds
        key_ids.append(piece.key_ids)
        result.rows += len(piece.key_ids)
        _note_unreadable(piece, result, unread)
        bar.advance(len(piece.key_ids))
        yield ScoredPiece(piece.key_ids, piece.readable, scores)
    result.notes = key_id_problems(np.concatenate(key_ids), result.rows)


def _note_unreadable(piece: Piece, result: SubmissionResult, file: BinaryIO) -> None:
    key_ids = piece.key_ids[~piece.readable].tolist()
    for row, key_id in zip(piece.rejected, key_ids, strict=True):
        file.write(_lines([row.line, key_id, row.reason, row.found]))
    result.unreadable += len(key_ids)
    room = FIRST_UNREADABLE - len(result.first_unreadable)
    result.first_unreadable += [replace(row, text="") for row in piece.rejected[:room]]


def _lines(*rows: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _probabilities_file(
    file: BinaryIO, models: Ensemble, balance: Balance | None
) -> ProbabilitiesFile:
    counts = models.train_counts
    facts = {"models_sha256": models.digest, "precision": models.precision}
    if balance is not None:
        facts["balance_offsets"] = json.dumps(balance.offsets.tolist())
    return ProbabilitiesFile(file, models.label_map, counts / counts.sum(), facts)


def _balanced(
    pieces: Iterable[ScoredPiece], scores: BinaryIO, classes: int
) -> tuple[Balance, Iterator[ScoredPiece]]:
    """The offsets that even out the first guesses, and all pieces once more."""
    spool = ScoreSpool(scores, classes)
    for piece in pieces:
        spool.add(piece)
    with progress("balance", None, "rounds") as bar:

        def report(text: str) -> None:
            bar.advance(1)
            bar.note(text)

        result = balance(spool, classes, report=report)
        bar.expect(result.rounds)
    return result, spool.pieces()


def _write(
    pieces: Iterable[ScoredPiece], models: Ensemble, offsets: Float64Array, file: BinaryIO
) -> None:
    """Writes the lines of a submission."""
    words = [underscored(word) for word in models.label_map.words]
    file.write(b"key_id,word\n")
    for piece in pieces:
        labels = np.tile(models.most_common_labels, (len(piece.key_ids), 1))
        labels[piece.readable] = _guesses(piece, offsets)
        lines = [
            f"{key_id},{' '.join(words[label] for label in row)}\n"
            for key_id, row in zip(piece.key_ids.tolist(), labels.tolist(), strict=True)
        ]
        file.write("".join(lines).encode())


def _guesses(piece: ScoredPiece, offsets: Float64Array) -> Int64Array:
    """Labels of the readable rows, best first, int64 [M, 3]. offsets: float64 [K]."""
    # In float64, as `balance` counts them.
    scores = torch.from_numpy(piece.log_probabilities).double() + torch.from_numpy(offsets)
    return top_guesses(scores).numpy()
