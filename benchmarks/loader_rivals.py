"""What a user would pick instead of this project's loader: one function a way.

Each takes the rows of Kaggle's CSVs (the drawing's JSON, the word's label) and an empty folder,
and returns a function that begins an epoch: an iterator of (images uint8 [B, 1, S, S], labels
int64 [B]) in random order. All have two workers that stay alive between epochs, stack a batch in
the worker with numpy (faster than torch's own collation of small tensors), and draw with
OpenCV as fast as it goes: all strokes of a drawing in one anti-aliased call, at target size.

Needs `pip install opencv-python-headless webdataset mosaicml-streaming`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

SIDE_PX = 64
BATCH_SIZE = 256
WORKERS = 2
SHARD_ROWS = 5_000

_FRACTION_BITS = 4
_LINE_PX = 3

Rows = Sequence[tuple[str, int]]
Epoch = Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]


def draw(text: str) -> np.ndarray:
    """Kaggle's JSON → uint8 [1, S, S], with OpenCV's sub-pixel coordinates."""
    scale = (SIDE_PX - 1 - _LINE_PX) / 255 * (1 << _FRACTION_BITS)
    shift = _LINE_PX / 2 * (1 << _FRACTION_BITS)
    strokes = [
        (np.array(stroke, np.float32).T * scale + shift).astype(np.int32)
        for stroke in json.loads(text)
    ]
    image = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.polylines(image, strokes, False, 255, _LINE_PX, cv2.LINE_AA, _FRACTION_BITS)
    return image[None]


def stacked(samples: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def one_thread(_worker: int) -> None:
    cv2.setNumThreads(1)


class _CsvRows(Dataset[tuple[np.ndarray, int]]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        text, label = self.rows[index]
        return draw(text), label


def opencv(rows: Rows, folder: Path) -> Epoch:
    """A map-style `Dataset` over rows in memory, shuffled by the `DataLoader`."""
    del folder
    loader = DataLoader(
        _CsvRows(rows),
        BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=4,
        collate_fn=stacked,
        worker_init_fn=one_thread,
    )
    return lambda: iter(loader)


def webdataset_strokes(rows: Rows, folder: Path) -> Epoch:
    """Tar shards of JSON text and label; decoded and drawn in the pipeline."""
    return _webdataset(((t.encode(), label) for t, label in rows), folder, lambda b: draw(b))


def webdataset_images(rows: Rows, folder: Path) -> Epoch:
    """Tar shards of uncompressed pixels and label: nothing to decode."""
    pixels = ((draw(text).tobytes(), label) for text, label in rows)
    return _webdataset(pixels, folder, _pixels)


def _pixels(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(1, SIDE_PX, SIDE_PX)


def _webdataset(
    samples: Iterator[tuple[bytes, int]], folder: Path, decode: Callable[[Any], np.ndarray]
) -> Epoch:
    """Shards and samples shuffled, batched in the worker, as WebDataset's documentation has it."""
    import webdataset as wds

    folder.mkdir()
    with wds.ShardWriter(f"{folder}/%04d.tar", maxcount=SHARD_ROWS, verbose=0) as writer:
        for number, (data, label) in enumerate(samples):
            writer.write({"__key__": f"{number:08d}", "data": data, "cls": label})
    dataset = (
        wds.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=100)
        .shuffle(1000)
        .to_tuple("data", "cls")
        .map_tuple(decode, int)
        .batched(BATCH_SIZE, collation_fn=stacked, partial=False)
    )
    loader = wds.WebLoader(
        dataset,
        batch_size=None,
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=4,
        worker_init_fn=one_thread,
    )
    return lambda: iter(loader)


def streaming_strokes(rows: Rows, folder: Path) -> Epoch:
    """MDS shards of JSON text and label; drawn in `__getitem__`."""
    columns = {"data": "str", "label": "int"}
    return _streaming(rows, columns, folder, draw)


def streaming_images(rows: Rows, folder: Path) -> Epoch:
    """MDS shards of arrays of fixed shape and type, and label: nothing to decode."""
    columns = {"data": f"ndarray:uint8:1,{SIDE_PX},{SIDE_PX}", "label": "int"}
    return _streaming(((draw(text), label) for text, label in rows), columns, folder, None)


def _streaming(
    samples: Any,
    columns: dict[str, str],
    folder: Path,
    decode: Callable[[str], np.ndarray] | None,
) -> Epoch:
    """A local dataset, shuffled by its default algorithm, under torch's `DataLoader`."""
    from streaming import MDSWriter, StreamingDataset

    class Samples(StreamingDataset):
        def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
            sample = super().__getitem__(at)
            data = sample["data"]
            return data if decode is None else decode(data), sample["label"]

    with MDSWriter(out=str(folder), columns=columns) as writer:
        for data, label in samples:
            writer.write({"data": data, "label": label})
    dataset = Samples(local=str(folder), shuffle=True, batch_size=BATCH_SIZE)
    loader = DataLoader(
        dataset,
        BATCH_SIZE,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=4,
        collate_fn=stacked,
        worker_init_fn=one_thread,
    )
    return lambda: iter(loader)


RIVALS: dict[str, tuple[str, Callable[[Rows, Path], Epoch]]] = {
    "`json.loads` + OpenCV in a `Dataset`, rows in memory": ("opencv-python-headless", opencv),
    "WebDataset, strokes, drawn with OpenCV": ("webdataset", webdataset_strokes),
    "WebDataset, images": ("webdataset", webdataset_images),
    "MosaicML Streaming, strokes, drawn with OpenCV": ("mosaicml-streaming", streaming_strokes),
    "MosaicML Streaming, images": ("mosaicml-streaming", streaming_images),
}
"""Package and function of each way."""
