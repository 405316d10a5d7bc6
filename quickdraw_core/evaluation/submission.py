"""Kaggle's submission: `key_id,word`, three underscored guesses a row, in the test file's order.

The test file is read in pieces, so memory does not grow with it. A row whose drawing cannot be
read is answered with the three most common words and listed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.evaluation.model import TrainedModel, most_common_labels
from quickdraw_core.formats.detect import Layout
from quickdraw_core.formats.kaggle import Header, read_key_id
from quickdraw_core.formats.readers import reader_for
from quickdraw_core.formats.rows import Rejected, RowError, Rows
from quickdraw_core.ingest.blocks import go_to, window_blocks
from quickdraw_core.ingest.row_index import index_rows
from quickdraw_core.ingest.windows import Window
from quickdraw_core.labels import underscored
from quickdraw_core.loading.prefetch import prefetched
from quickdraw_core.modeling.ranking import top_guesses
from quickdraw_core.progress import progress
from quickdraw_core.render.encodings import render
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.sources.find import find_sources

_CHUNK_ROWS = 1_024


@dataclass(frozen=True)
class SubmissionResult:
    """What was written, and the rows that were answered without being seen."""

    path: Path
    rows: int
    unreadable: list[Rejected]


def write_submission(model: TrainedModel, test_csv: Path, out: Path) -> SubmissionResult:
    """Answers every row of `test_csv`. `out` appears only when it is whole.

    Raises `InputError` where the file is missing, lacks its columns, or a row has no `key_id`.
    """
    unreadable: list[Rejected] = []
    rows = 0
    source = _open(test_csv)
    if not out.parent.is_dir():
        raise ConfigError(f"no folder {out.parent} to write {out.name} to; make it first")
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with (
            temporary.open("w", encoding="utf-8", newline="\n") as file,
            progress("predict", index_rows(source).rows, "drawings") as bar,
        ):
            file.write("key_id,word\n")
            header = Header(source.shape.header or ())
            for first_line, parsed, rejected in prefetched(_chunks(source), 4):
                unreadable += rejected
                for key_id, labels in _answers(model, first_line, parsed, rejected, header):
                    words = " ".join(underscored(model.label_map.words[g]) for g in labels)
                    file.write(f"{key_id},{words}\n")
                rows += len(parsed) + len(rejected)
                bar.advance(len(parsed) + len(rejected))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return SubmissionResult(out, rows, unreadable)


def _open(test_csv: Path) -> SourceFile:
    sources = find_sources(test_csv)
    if len(sources) != 1 or sources[0].shape.layout is not Layout.CSV:
        raise InputError(f"{test_csv} is not one CSV; give Kaggle's test_simplified.csv")
    return sources[0]


def _chunks(source: SourceFile) -> Iterator[tuple[int, Rows, list[Rejected]]]:
    """(number of the first line, rows, rejected) of each piece of the file."""
    reader = reader_for(source.shape, None)
    with source.open() as file:
        go_to(file, source.shape.data_offset, source.sequential)
        for block in window_blocks(file, reader, 0, Window(0, sys.maxsize)):
            start, row = 0, block.row
            while start < len(block.data):
                end, rows = reader.skip(block.data, start, _CHUNK_ROWS)
                if not rows:  # the last row, cut off
                    end, rows = len(block.data), 1
                first_line = row + reader.first_line
                yield first_line, *reader.read(block.data[start:end], first_line)
                start, row = end, row + rows


def _answers(
    model: TrainedModel,
    first_line: int,
    parsed: Rows,
    rejected: list[Rejected],
    header: Header,
) -> Iterator[tuple[int, Int64Array]]:
    """(key_id, labels guessed) of every line of a piece, in the file's order."""
    guesses = _guess(model, parsed)
    refused = {row.line: row for row in rejected}
    seen = 0
    for line in range(first_line, first_line + len(parsed) + len(rejected)):
        if line in refused:
            yield _key_id(refused[line], header), most_common_labels([model])
        else:
            yield int(parsed.key_ids[seen]), guesses[seen]
            seen += 1


def _guess(model: TrainedModel, parsed: Rows) -> Int64Array:
    """Labels guessed, best first, int64 [n, 3]."""
    if not len(parsed):
        return np.empty((0, 0), np.int64)
    images = render(parsed.drawings, model.config.encoding, model.config.side_px)
    return top_guesses(model.logits(torch.from_numpy(images))).numpy()


def _key_id(row: Rejected, header: Header) -> int:
    try:
        return read_key_id(row.text, header)
    except RowError as error:
        raise InputError(
            f"line {row.line} of the test file has no readable key_id ({row.reason}); "
            "a submission must answer every row: repair that line"
        ) from error
