"""Quantizes a bundle's graphs, and keeps them only if the held-out drawings allow it.

Models that are quantized and never measured again may lose nearly everything unnoticed. So both
forms guess the same held-out drawings here, as they will in use: by onnxruntime.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quickdraw_core.bundling.quantize import quantized_graph
from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import BundleError
from quickdraw_core.exporting.config import ExportConfig
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.predictions import Predictions, ranked
from quickdraw_core.labels import LabelMap
from quickdraw_core.metrics.judgement import judge
from quickdraw_core.metrics.metrics import values_of
from quickdraw_core.progress import progress
from quickdraw_core.serving.bundle import BundleInfo, open_bundle
from quickdraw_core.serving.evaluated import Evaluated, evaluated_of
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.system.threads import usable_cores

MAX_LOSS = 0.005
"""Of MAP@3, by which a quantized bundle may be worse than the float32 one."""
_CALIBRATION = 512
_BATCH = 250


@dataclass(frozen=True)
class Quantized:
    """Graphs that are good enough, what they reach, and the MAP@3 of the float32 graphs on the
    same drawings.
    """

    graphs: dict[str, bytes]
    evaluated: Evaluated
    float32_map_at_3: float


def quantized(
    config: ExportConfig,
    held_out: HeldOut,
    graphs: dict[str, bytes],
    write: Callable[[Path, dict[str, bytes]], BundleInfo],
) -> Quantized:
    """Quantizes float32 graphs and judges both forms.

    write: a bundle of graphs to a folder. Raises `BundleError`, with both numbers, if the
    quantized ones lose more than `MAX_LOSS`.
    """
    drawings = held_out.pack.drawings
    with tempfile.TemporaryDirectory() as temporary:
        info = write(Path(temporary) / "float32", graphs)
        rows = _calibration_rows(held_out.pack, config.seed)
        full = BundleRecognizer(open_bundle(Path(temporary) / "float32"), usable_cores())
        images = full.images(drawings.take(rows))
        smaller = {
            graph.file: quantized_graph(graphs[graph.file], graph.image, images_nchw)
            for graph, (_, images_nchw) in zip(info.graphs, images, strict=True)
        }
        write(Path(temporary) / "int8", smaller)
        small = BundleRecognizer(open_bundle(Path(temporary) / "int8"), usable_cores())
        before, after = (predicted(each, held_out) for each in (full, small))
    scores = [float(values_of(each)[:, 0].mean()) for each in (before, after)]
    lost = scores[0] - scores[1]
    if not lost <= MAX_LOSS:
        raise BundleError(
            f"int8 would lose {lost:.4f} of MAP@3, more than {MAX_LOSS}: {scores[1]:.4f} after "
            f"{scores[0]:.4f} in float32, on {len(after):,} held-out drawings; leave out "
            "--quantize"
        )
    evaluated = evaluated_of(
        judge(after, config.seed).to_json(), held_out.pack.fingerprint, config.per_class
    )
    return Quantized(smaller, evaluated, scores[0])


def predicted(recognizer: BundleRecognizer, held_out: HeldOut) -> Predictions:
    """A bundle's predictions of the held-out drawings, in the order of the rows."""
    pack, rows = held_out.pack, held_out.rows
    labels = pack.labels[rows].astype(np.int64)
    columns = []
    with progress("quantize", len(rows), "drawings") as bar:
        for first in range(0, len(rows), _BATCH):
            batch = slice(first, first + _BATCH)
            found = recognizer.log_probabilities(pack.drawings.take(rows[batch]))
            columns.append(ranked(torch.from_numpy(found), torch.from_numpy(labels[batch])))
            bar.advance(len(found))
    return Predictions(
        LabelMap(recognizer.info.words),
        key_ids=pack.key_ids[rows],
        labels=labels,
        recognized=pack.recognized[rows],
        **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]},
    )


def _calibration_rows(pack: Pack, seed: int) -> Int64Array:
    """Training drawings, spread over all classes by chance."""
    rows = pack.rows(Split.TRAIN)
    few = min(_CALIBRATION, len(rows))
    return np.sort(np.random.default_rng(seed).choice(rows, few, replace=False))
