"""How fast strokes become images, beside what one would use instead, measured in one run.

    python benchmarks/bench_render.py [FOLDER] [--drawings 1000]

FOLDER holds CSVs in Kaggle's form; without it, the sample beside the checkout, and where that
is not there, generated doodles. Prints a Markdown table of images a second, each of one core:

- ours: from the columns to finished images, the centring of each drawing included;
- torch: the same pictures from `draw_on_device` on the CPU, which is not what it is made for;
- OpenCV: `polylines` with `LINE_AA`, one call an image, from int32 coordinates in 1/16 pixel
  that were centred and scaled before the clock started, in lines of side / 22, rounded. Lines of
  1 pixel (its 28 px) take a faster path of OpenCV's, so both are also measured with those;
- Pillow: lines on 256 × 256, then `resize`, which averages; its lists of points were made
  before the clock started too.

All take turns, several times, and the best of each counts, in seconds of the processor that the
drawing thread had: other work on the machine only ever slows one down.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.formats.detect import TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.render.encodings import ENCODINGS, ImageConfig, render
from quickdraw_core.render.on_device import draw_on_device
from quickdraw_core.render.placement import centred
from quickdraw_core.render.raster import LINE_WIDTH_SHARE
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words

SIDES_PX = (28, 64, 128, 224)
TRIES = 15
SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "train_simplified"
SHIFT = 4
"""Fractional bits of OpenCV's coordinates."""
PILLOW_SIDE_PX = 256


def read_drawings(folder: Path, count: int) -> DrawingBatch:
    """`count` drawings of a folder of CSVs, picked evenly from all files, in mixed order."""
    parts = []
    for path in sorted(folder.glob("*.csv")):
        lines = path.read_bytes().splitlines()
        rows, _ = KaggleReader(Header(TRAIN_COLUMNS), path.stem).parse_lines(lines[1:], 2)
        parts.append(DrawingBatch.from_packed(rows.x, rows.y, rows.stroke_lengths))
    every = DrawingBatch.concat(parts)
    return every.take(np.random.default_rng(0).permutation(len(every))[:count])


def find_drawings(folder: Path | None, count: int) -> tuple[DrawingBatch, str]:
    """The drawings to draw, and what they are."""
    if folder is None and not SAMPLE.is_dir():
        with tempfile.TemporaryDirectory() as name:
            generate_csvs(Path(name), default_words(24), count // 24 + 1, seed=0)
            return read_drawings(Path(name), count), "generated doodles"
    return read_drawings(folder or SAMPLE, count), "real drawings"


def strokes_each(batch: DrawingBatch, scale: float, margin: float) -> list[list[np.ndarray]]:
    """Each drawing's strokes, float32 [points, 2], centred and scaled."""
    xy = np.stack(centred(batch), axis=1) * np.float32(scale) + np.float32(margin)
    strokes = np.split(xy, np.cumsum(batch.stroke_lengths.astype(np.int64))[:-1])
    offsets = batch.stroke_offsets.tolist()
    return [strokes[first:last] for first, last in pairwise(offsets)]


def with_opencv(
    batch: DrawingBatch, side_px: int, width: int | None = None
) -> Callable[[], np.ndarray]:
    """Draws with OpenCV into an array made beforehand; the work that the clock sees."""
    width = width or max(1, round(side_px * LINE_WIDTH_SHARE))
    margin = width / 2 + 0.5
    scale = (side_px - 1 - 2 * margin) / 255
    drawings = [
        [np.round(stroke * (1 << SHIFT)).astype(np.int32) for stroke in strokes]
        for strokes in strokes_each(batch, scale, margin)
    ]
    images = np.empty((len(batch), side_px, side_px), np.uint8)

    def work() -> np.ndarray:
        images[...] = 0
        for image, strokes in zip(images, drawings, strict=True):
            cv2.polylines(image, strokes, False, 255, width, cv2.LINE_AA, SHIFT)
        return images

    return work


def with_pillow(batch: DrawingBatch, side_px: int) -> Callable[[], np.ndarray]:
    """Draws large with Pillow and shrinks."""
    width = round(PILLOW_SIDE_PX * LINE_WIDTH_SHARE)
    margin = width / 2 + 0.5
    scale = (PILLOW_SIDE_PX - 1 - 2 * margin) / 255
    drawings = [
        [[tuple(point) for point in stroke.tolist()] for stroke in strokes]
        for strokes in strokes_each(batch, scale, margin)
    ]
    images = np.empty((len(batch), side_px, side_px), np.uint8)

    def work() -> np.ndarray:
        for i, strokes in enumerate(drawings):
            canvas = Image.new("L", (PILLOW_SIDE_PX, PILLOW_SIDE_PX))
            pen = ImageDraw.Draw(canvas)
            for stroke in strokes:
                pen.line(stroke, 255, width, joint="curve")
            images[i] = canvas.resize((side_px, side_px), Image.Resampling.BOX)
        return images

    return work


def ours(
    batch: DrawingBatch, encoding: str, side_px: int, width: float | None = None
) -> Callable[[], object]:
    """Draws into an array made beforehand, as a loader does."""
    image = ImageConfig(encoding=encoding, side_px=side_px)
    out = np.empty((len(batch), image.channels, side_px, side_px), np.uint8)
    return lambda: render(batch, image, None, width, out=out)


def contenders(batch: DrawingBatch, side_px: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Drawings that each one draws in a try (fewer where it is slow), and how."""
    few = batch.take(np.arange(min(len(batch), 100)))
    points = centred(few)
    cpu = torch.device("cpu")
    found: dict[str, tuple[int, Callable[[], object]]] = {
        f"ours, {name}": (len(batch), ours(batch, name, side_px))
        for name in ENCODINGS
        if name != "points"
    }
    found["torch, gray"] = (
        len(few),
        lambda: draw_on_device(few, points, ImageConfig(encoding="gray", side_px=side_px), cpu),
    )
    found["OpenCV, gray"] = (len(batch), with_opencv(batch, side_px))
    found["Pillow, gray"] = (len(few), with_pillow(few, side_px))
    found["ours, 1 px lines"] = (len(batch), ours(batch, "gray", side_px, 1))
    found["OpenCV, 1 px lines"] = (len(batch), with_opencv(batch, side_px, 1))
    return found


def rates(batch: DrawingBatch, side_px: int) -> dict[str, float]:
    """Images a second of each, taking turns."""
    all_of_them = contenders(batch, side_px)
    best = dict.fromkeys(all_of_them, float("inf"))
    for attempt in range(TRIES + 1):
        for name, (_, work) in all_of_them.items():
            begun = time.thread_time()
            work()
            if attempt:  # the first time compiles
                best[name] = min(best[name], time.thread_time() - begun)
    return {name: count / best[name] for name, (count, _) in all_of_them.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="CSVs in Kaggle's form")
    parser.add_argument("--drawings", type=int, default=1_000)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    batch, what = find_drawings(arguments.folder, arguments.drawings)
    measured = {side_px: rates(batch, side_px) for side_px in SIDES_PX}
    packages = ", ".join(
        f"{name} {version(name)}"
        for name in ("numba", "torch", "opencv-python-headless", "pillow")
    )
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, "
          f"one of {os.cpu_count()} cores, {len(batch):,} {what} of "
          f"{len(batch.x) / len(batch):.0f} points\n")  # fmt: skip
    names = list(measured[SIDES_PX[0]])
    against = ("gray", "1 px lines")
    ratios = [f"ours / OpenCV, {what}" for what in against]
    print(f"| images/s | {' | '.join([*names, *ratios])} |")
    print("| --- |" + " ---: |" * (len(names) + len(ratios)))
    for side_px, found in measured.items():
        cells = [f"{found[name]:,.0f}" for name in names]
        cells += [f"{found[f'ours, {what}'] / found[f'OpenCV, {what}']:.1f} ×" for what in against]
        print(f"| {side_px} px | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
