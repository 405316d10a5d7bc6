"""Kaggle's test file, read and rendered as pieces of rows.

In: a CSV with `key_id` and `drawing`, simplified or raw, also with gzip. Out: for each piece the
key ids of all its rows in the file's order, and the drawings that can be read, or their images.
"""

import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quickdraw_core.drawing import DrawingBatch, UInt64Array
from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import Header, Layout
from quickdraw_core.formats.fields import parse_key_id
from quickdraw_core.formats.kaggle import read_key_id
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.formats.rows import Rejected, RowError, Rows
from quickdraw_core.reading.blocks import go_to, window_blocks
from quickdraw_core.reading.windows import Window
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.sources.find import find_sources
from quickdraw_core.system.prefetch import prefetched

if TYPE_CHECKING:
    from torch import Tensor

    from quickdraw_core.inference.ensemble import Ensemble

PIECE_ROWS = 256
"""Rows that a model computes together."""

_BLOCK_BYTES = 4 << 20
_PIECES_AHEAD = 4

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Piece:
    """N consecutive rows of the test file.

    key_ids: uint64 [N]. readable: bool [N], M of them true. rejected: the others, in order, each
    with its line. images: of the readable ones, uint8 [M, C, S, S] for each model.
    """

    key_ids: UInt64Array
    readable: Flags
    rejected: list[Rejected]
    images: "list[Tensor]"


def rendered_pieces(source: SourceFile, models: "Ensemble") -> Generator[Piece]:
    """All rows of a test file in order, with images. One thread reads ahead, another renders.

    Raises `InputError` if the file is damaged, or a row has no readable `key_id`.
    """

    def render(parsed: tuple[DrawingBatch, Piece]) -> Piece:
        batch, piece = parsed
        return replace(piece, images=models.images(batch))

    with (
        closing(prefetched(lambda item: item, parsed_pieces(source), 1, _PIECES_AHEAD)) as parsed,
        closing(prefetched(render, parsed, 1, _PIECES_AHEAD)) as rendered,
    ):
        yield from rendered


def open_test_file(test: str) -> SourceFile:
    """The test file. Raises `InputError` if it is missing, or is not a CSV of drawings.

    A file of training drawings will do: its words are ignored.
    """
    try:
        sources = find_sources(test)
    except InputError as error:
        raise InputError(f"no test file that can be read: {error}") from error
    if len(sources) != 1:
        raise InputError(f"{test} is {len(sources)} files; give one, Kaggle's test_simplified.csv")
    layout = sources[0].format.layout
    if layout is not Layout.CSV:
        raise InputError(
            f"{test} is {layout}, and a submission answers a CSV with the columns key_id, "
            "countrycode and drawing; give Kaggle's test_simplified.csv or test_raw.csv"
        )
    return sources[0]


def parsed_pieces(source: SourceFile) -> Iterator[tuple[DrawingBatch, Piece]]:
    """The readable drawings of each piece, and the piece without images. Raises what `row_pieces`
    does.
    """
    return ((rows.drawings, piece) for rows, piece in row_pieces(source))


def row_pieces(source: SourceFile) -> Generator[tuple[Rows, Piece]]:
    """The readable rows of each piece, and the piece without images.

    Raises `InputError` if the file is damaged, or a row has no readable `key_id`.
    """
    reader, header = reader_for(source.format, None), Header(source.format.header or ())
    with source.open() as file:
        go_to(file, source.format.data_offset, source.sequential)
        window = Window(0, sys.maxsize)
        for block in window_blocks(file, reader, 0, window, _BLOCK_BYTES, _BLOCK_BYTES):
            start, row = 0, block.row
            while start < len(block.data):
                end, rows = reader.skip(block.data, start, PIECE_ROWS)
                if not rows:  # the last row, cut off
                    end, rows = len(block.data), 1
                first_line = row + reader.first_line
                parsed, rejected = reader.read(block.data[start:end], first_line, rows)
                yield parsed, _piece(parsed, rejected, first_line, header)
                start, row = end, row + rows


def _piece(parsed: Rows, rejected: list[Rejected], first_line: int, header: Header) -> Piece:
    lines = len(parsed) + len(rejected)
    key_ids, readable = np.empty(lines, np.uint64), np.ones(lines, np.bool_)
    for row in rejected:
        readable[row.line - first_line] = False
        key_ids[row.line - first_line] = _key_id(row, header)
    key_ids[readable] = parsed.key_ids
    return Piece(key_ids, readable, rejected, [])


def _key_id(row: Rejected, header: Header) -> int:
    """The key_id of a row that was rejected for another reason."""
    try:
        before = header.columns[: header.columns.index("key_id")]
        if "drawing" not in before:  # what comes in front holds no comma, whatever follows
            return parse_key_id(row.text.split(",")[len(before)].strip('"'))
        return read_key_id(row.text, header)
    except (RowError, IndexError) as error:
        raise InputError(
            f"line {row.line} of the test file has no readable key_id ({row.reason}, "
            f"{row.found}); a submission must answer every row: repair that line"
        ) from error
