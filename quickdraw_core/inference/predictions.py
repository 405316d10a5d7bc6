"""A model's predictions of held-out drawings: columns, with a row per drawing.

They are all that metrics, comparison and report need; the K probabilities of each drawing are not
kept. As a Parquet file they travel with the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import InputError
from quickdraw_core.formats.rows import UNKNOWN_RECOGNIZED
from quickdraw_core.labels import GUESSES, LabelMap
from quickdraw_core.stage import Opened
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.system.files import open_atomic

PREDICTIONS_NAME = "predictions.parquet"
"""Name of the file in the folder of an evaluation."""
_FORMAT = b"quickdraw.predictions"
_VERSION = b"1"


@dataclass(frozen=True)
class Predictions:
    """Predictions of N drawings, of K words.

    key_ids: uint64 [N]. labels: int64 [N], the right ones. recognized: uint8 [N], as in the pack.
    guesses: int64 [N, G], the best G = min(3, K) labels, best first. probabilities: float32
    [N, G], of the guesses. ranks: int64 [N], rank of the right label among all K, from 0; of
    equal probabilities the lower label comes first. label_log_probabilities: float32 [N],
    natural, of the right label.
    """

    label_map: LabelMap
    key_ids: npt.NDArray[np.uint64]
    labels: Int64Array
    recognized: npt.NDArray[np.uint8]
    guesses: Int64Array
    probabilities: npt.NDArray[np.float32]
    ranks: Int64Array
    label_log_probabilities: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def confidences(self) -> npt.NDArray[np.float64]:
        """Probability of the first guess, float64 [N]."""
        return self.probabilities[:, 0].astype(np.float64)

    def where(self, chosen: npt.NDArray[np.bool_] | Int64Array) -> "Predictions":
        """Those of some drawings, by mask or index."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return Predictions(self.label_map, **columns)

    def write(self, path: Path, facts: dict[str, str], strokes: Int64Array | None = None) -> None:
        """Writes a Parquet file with words in place of labels, for any tool to read. facts: kept
        in the file's metadata. strokes: int64 [N], how many partial drawings have; a further
        column, for other tools.
        """
        words = _texts(self.label_map.words)
        columns = {
            "key_id": _column(self.key_ids),
            **({} if strokes is None else {"strokes": _column(strokes)}),
            "word": words.take(_column(self.labels)),
            "recognized": _flags(self.recognized == 1, self.recognized != UNKNOWN_RECOGNIZED),
            "rank": _column((self.ranks + 1).astype(np.int16)),
            "log_probability": _column(self.label_log_probabilities),
        }
        for number, guesses in enumerate(self.guesses.T, 1):
            columns[f"guess_{number}"] = words.take(_column(guesses))
            columns[f"probability_{number}"] = _column(self.probabilities[:, number - 1])
        metadata = {_FORMAT: _VERSION, b"label_map_sha256": self.label_map.sha256.encode()}
        metadata |= {key.encode(): value.encode() for key, value in facts.items()}
        with open_atomic(path, sync=False) as file:
            table = pa.table(columns).replace_schema_metadata(metadata)
            pq.write_table(table, file, write_page_checksum=True)

    @classmethod
    def read(cls, path: Path, label_map: LabelMap) -> tuple[Self, dict[str, str]]:
        """Predictions of a file, and its facts. Raises `InputError` if it holds no predictions,
        or those of other words.
        """
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read()
            metadata = table.schema.metadata or {}
            if metadata.get(_FORMAT) != _VERSION:
                raise ValueError("it holds no predictions of this program")
            if metadata.get(b"label_map_sha256") != label_map.sha256.encode():
                raise ValueError("its words are others")
            words = _texts(label_map.words)

            def labels_of(name: str) -> Int64Array:
                labels = pc.index_in(table[name].combine_chunks(), value_set=words)
                if labels.null_count:
                    raise ValueError(f"its column {name} holds other words")
                return _values(labels, np.int32).astype(np.int64)

            def numbers(name: str, kind: npt.DTypeLike) -> npt.NDArray[Any]:
                return _values(table[name].combine_chunks(), kind)

            guesses = range(1, min(GUESSES, len(label_map)) + 1)
            recognized = table["recognized"].combine_chunks()
            is_known = _values(recognized.is_valid().cast("uint8"), np.uint8) == 1
            values = _values(recognized.cast("uint8"), np.uint8)
            predictions = cls(
                label_map,
                numbers("key_id", np.uint64),
                labels_of("word"),
                np.where(is_known, values, np.uint8(UNKNOWN_RECOGNIZED)),
                np.stack([labels_of(f"guess_{number}") for number in guesses], 1),
                np.stack([numbers(f"probability_{n}", np.float32) for n in guesses], 1),
                numbers("rank", np.int16).astype(np.int64) - 1,
                numbers("log_probability", np.float32),
            )
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise InputError(f"cannot read the predictions {path}: {error}") from error
        return predictions, {key.decode(): value.decode() for key, value in metadata.items()}


@dataclass(frozen=True)
class TimedPredictions:
    """Predictions, and how many seconds they took in all and waiting for data."""

    predictions: Predictions
    seconds: float
    waited_seconds: float

    def write(self, path: Path, facts: dict[str, str], strokes: Int64Array | None = None) -> None:
        """As `Predictions.write`, with the seconds among the facts."""
        seconds = {name: repr(getattr(self, name)) for name in _SECONDS}
        self.predictions.write(path, facts | seconds, strokes)

    @classmethod
    def of(cls, predictions: Predictions, facts: Mapping[str, str]) -> Self:
        """Of a file's predictions and facts. Raises `InputError` if those lack the seconds."""
        try:
            return cls(predictions, *(float(facts[name]) for name in _SECONDS))
        except (KeyError, ValueError) as error:
            raise InputError("the predictions do not say how long they took") from error


_SECONDS = ("seconds", "waited_seconds")

# Arrow's own conversions from and to numpy and lists import pandas, to ask whether they are given
# a series; that takes longer than writing thousands of predictions.


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers, [N], as an Arrow array; copied if they are not contiguous."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(
        kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def _texts(words: Sequence[str]) -> pa.Array:
    data = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, data)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(data), buffers)


def _flags(values: npt.NDArray[np.bool_], is_known: npt.NDArray[np.bool_]) -> pa.Array:
    """Booleans, [N], null if not known."""
    packed = [pa.py_buffer(np.packbits(bits, bitorder="little")) for bits in (is_known, values)]
    return pa.Array.from_buffers(pa.bool_(), len(values), packed)


def _values(column: pa.Array, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Numbers of an Arrow array, [N], of that dtype; nulls give any value."""
    if column.type != pa.from_numpy_dtype(np.dtype(kind)):
        raise ValueError(f"{column.type} where {np.dtype(kind)} belongs")
    values = np.frombuffer(column.buffers()[1], kind)
    return values[column.offset : column.offset + len(column)]


_COLUMNS = tuple(column.name for column in fields(Predictions) if column.name != "label_map")


def open_predictions(
    path: Path, label_map: LabelMap, opened: Opened
) -> tuple[Predictions, dict[str, str]]:
    """What `Predictions.read` returns, read once until the file changes."""
    name, version = ("predictions", path.resolve()), LocalStorage(path.parent).version(path.name)
    read = Predictions.read
    return opened.once(name, lambda: read(path, label_map), (version, label_map.sha256))


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of the same words, one part after the other."""
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS}
    return Predictions(parts[0].label_map, **columns)


def ranked(log_probabilities: Tensor, labels: Tensor) -> dict[str, npt.NDArray[Any]]:
    """Columns of `Predictions` computed from natural log probabilities, float [N, K], and the
    right labels, int64 [N].
    """
    best = torch.sort(log_probabilities, dim=1, descending=True, stable=True)
    right = log_probabilities.gather(1, labels[:, None])
    # Of equal ones the lower label comes first, as in a stable sort.
    before = log_probabilities > right
    lower = torch.arange(log_probabilities.shape[1])[None] < labels[:, None]
    before |= (log_probabilities == right) & lower
    return {
        "guesses": best.indices[:, :GUESSES].numpy(),
        "probabilities": best.values[:, :GUESSES].exp().float().numpy(),
        "ranks": before.sum(1).numpy(),
        "label_log_probabilities": right[:, 0].float().numpy(),
    }
