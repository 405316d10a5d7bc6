"""Kaggle's test file as images, drawn ahead of the model that looks at them.

One thread reads, another draws; neither keeps more than some pieces.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TypeVar

import torch
from torch import Tensor

from quickdraw_core.challenge.test_file import Piece, parsed_pieces
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.loading.prefetch import prefetched
from quickdraw_core.render.encodings import ImageConfig, render
from quickdraw_core.sources.files import SourceFile

_PIECES_AHEAD = 4

T = TypeVar("T")


def drawn_pieces(source: SourceFile, models: Ensemble) -> Generator[Piece]:
    """All rows of a test file in its order.

    Raises `InputError` where the file is damaged, or a row has no readable `key_id`.
    """
    with (
        _ahead(parsed_pieces(source)) as parsed,
        _ahead(_draw(drawings, piece, models) for drawings, piece in parsed) as drawn,
    ):
        yield from drawn


def _ahead(items: Iterator[T]) -> "closing[Generator[T]]":
    """The items, made ahead by a thread that ends with the block."""
    return closing(prefetched(items, _PIECES_AHEAD))


def _draw(drawings: DrawingBatch, piece: Piece, models: Ensemble) -> Piece:
    """The piece with images; models that read the same share them."""
    drawn: dict[ImageConfig, Tensor] = {}
    for member in models.members:
        image = member.image
        if image not in drawn:
            threads = max(1, member.feed.threads)
            drawn[image] = torch.from_numpy(render(drawings, image, threads=threads))
        piece.images.append(drawn[image])
    return piece
