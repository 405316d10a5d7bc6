"""What the tests of drawing share: ink by its definition, in float64, and real drawings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.formats.detect import TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.render.placement import Points


def reference_ink(
    batch: DrawingBatch, points: Points, values: np.ndarray, side: int, width: float
) -> np.ndarray:
    """float64 [N, C, S, S]: every pixel against every segment; values: [P, C], 0..255."""
    margin = width / 2 + 0.5
    scale = (side - 1 - 2 * margin) / 255
    rows, columns = np.mgrid[:side, :side].astype(float)
    images = np.zeros((len(batch), values.shape[1], side, side))
    for i in range(len(batch)):
        start = int(batch.point_offsets[i])
        for length in batch.stroke_lengths[batch.stroke_offsets[i] : batch.stroke_offsets[i + 1]]:
            end = start + int(length)
            xs = margin + scale * points.x[start:end].astype(float)
            ys = margin + scale * points.y[start:end].astype(float)
            for k in range(min(1, int(length) - 1), int(length)):
                a = max(0, k - 1)
                dx, dy = xs[k] - xs[a], ys[k] - ys[a]
                along = (columns - xs[a]) * dx + (rows - ys[a]) * dy
                along = np.clip(along / ((dx * dx + dy * dy) or 1), 0, 1)
                distance = np.hypot(columns - xs[a] - along * dx, rows - ys[a] - along * dy)
                ink = np.clip(width / 2 + 0.5 - distance, 0, 1)
                images[i] = np.maximum(images[i], ink * values[start + k][:, None, None])
            start = end
    return images


def full_ink(batch: DrawingBatch) -> np.ndarray:
    """Values, [P, 1], of the gray encoding."""
    return np.full((len(batch.x), 1), 255.0)


def real_drawings(shared_data: Path, words: Sequence[str], rows: int) -> DrawingBatch:
    """The first `rows` real drawings of each word."""
    parts = []
    for word in words:
        lines = (shared_data / "train_simplified" / f"{word}.csv").read_bytes().splitlines()
        parsed, _ = KaggleReader(Header(TRAIN_COLUMNS), word).parse_lines(lines[1 : rows + 1], 2)
        parts.append(DrawingBatch.from_packed(parsed.x, parsed.y, parsed.stroke_lengths))
    return DrawingBatch.concat(parts)
