"""All K probabilities of each row of a test file, as Parquet: for others to blend.

key_id         uint64
readable       bool                        false: the drawing could not be read
probabilities  fixed-size list, float32[K] as the models give them, never balanced

All rows are in the test file's order. A row that is not readable has each class's share of the
training drawings, so its three best are the submission's answer. The type is float32: few readers
of Parquet know float16, and it would make close probabilities equal.

The file's metadata holds the words (a JSON list, in the order of the probabilities), the digests
of the label map and of the models, and with `--balance` the offsets: added to the logarithms,
they give the submission's guesses.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from quickdraw_core.challenge.score_spool import ScoredPiece
from quickdraw_core.labels import LabelMap

FORMAT, VERSION = "quickdraw.probabilities", "1"

_GROUP_ROWS = 4_096
"""Rows of a row group: 5.6 MB of 340 classes, which is what is kept in memory."""


class ProbabilitiesFile:
    """Writes pieces of rows, a row group at a time; a context manager."""

    def __init__(
        self,
        file: BinaryIO,
        label_map: LabelMap,
        fallback: npt.NDArray[np.floating],
        facts: Mapping[str, str],
    ) -> None:
        """fallback: float [K], the probabilities of a row that is not readable. facts: for the
        file's metadata.
        """
        self._fallback = fallback.astype(np.float32)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._schema = pa.schema(
            {
                "key_id": pa.uint64(),
                "readable": pa.bool_(),
                "probabilities": pa.list_(pa.float32(), len(label_map)),
            },
            metadata={
                FORMAT: VERSION,
                "label_map_sha256": label_map.sha256,
                "words": json.dumps(label_map.words, ensure_ascii=False),
            }
            | dict(facts),
        )
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_page_checksum=True,
        )

    def writing(self, pieces: Iterable[ScoredPiece]) -> Iterator[ScoredPiece]:
        """Yields the pieces, and writes them on the way."""
        for piece in pieces:
            self._add(piece)
            yield piece
        self._write()

    def _add(self, piece: ScoredPiece) -> None:
        values = np.empty((len(piece.key_ids), len(self._fallback)), np.float32)
        values[~piece.readable] = self._fallback
        values[piece.readable] = np.exp(piece.log_probabilities)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        columns = [pa.array(piece.key_ids), pa.array(piece.readable), lists]
        self._waiting.append(pa.record_batch(columns, schema=self._schema))
        self._rows += len(values)
        if self._rows >= _GROUP_ROWS:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=1 << 30)
        self._waiting, self._rows = [], 0
