"""Pieces of a test file → the models' scores of their rows, here or by other processes."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np

from quickdraw_core.challenge.score_spool import Scores
from quickdraw_core.challenge.test_file import Piece, parsed_pieces, rendered_pieces
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.pieces import (
    PIECE_BATCHES,
    Computing,
    PortableModels,
    in_groups,
    score_piece,
)
from quickdraw_core.sources.files import SourceFile


class Scored(NamedTuple):
    """A piece of N rows and its scores: float32 [M, K], of the M readable rows. seconds: that it
    took; waited_seconds: how many of them the models waited for drawings.
    """

    piece: Piece
    scores: Scores
    seconds: float
    waited_seconds: float


def scores_by(
    computing: Computing | None, models: Ensemble, source: SourceFile
) -> Generator[Scored]:
    """All pieces of a test file in order, with scores. computing: who draws and guesses; None:
    this process. Raises what `parsed_pieces` and the models raise, and `ClusterError`.
    """
    return _here(models, source) if computing is None else _by(computing, models, source)


def _here(models: Ensemble, source: SourceFile) -> Generator[Scored]:
    with closing(rendered_pieces(source, models)) as pieces:
        while True:
            begun = time.perf_counter()
            piece = next(pieces, None)
            waited = time.perf_counter() - begun
            if piece is None:
                return
            scores = np.empty((0, len(models.label_map)), np.float32)
            if piece.readable.any():
                scores = models.log_probabilities(piece.images).numpy()
            yield Scored(piece, scores, time.perf_counter() - begun, waited)


def _by(computing: Computing, models: Ensemble, source: SourceFile) -> Generator[Scored]:
    asked: deque[Piece] = deque()

    def batches() -> Iterator[tuple[DrawingBatch, ...]]:
        for group in in_groups(parsed_pieces(source), PIECE_BATCHES):
            asked.extend(piece for _, piece in group)
            yield tuple(drawings for drawings, _ in group)

    results = computing.results(PortableModels(models), score_piece, batches())
    with closing(results):
        begun = time.perf_counter()
        for computed in results:
            seconds = (time.perf_counter() - begun) / len(computed.values)
            waited = seconds * computed.drawing_share
            for scores in computed.values:
                yield Scored(asked.popleft(), scores, seconds, waited)
            begun = time.perf_counter()
