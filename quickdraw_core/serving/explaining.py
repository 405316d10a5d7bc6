"""What was understood of a drawing, as a picture: `explained`."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.serving.drawing_files import FileDrawing

if TYPE_CHECKING:
    from PIL import Image

    from quickdraw_core.render.encodings import ImageConfig

_SIDE_PX = 256
_GAP_PX, _TITLE_PX = 8, 18
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
"""Of the strokes, in their order."""

_MADE_BY = "quickdraw guess --explain"
"""In the PNG's field `Software`, so that a figure is known again."""


def explained(
    item: FileDrawing, model_images: "list[tuple[ImageConfig, UInt8Array]]", guesses: str
) -> "Image.Image":
    """Panels side by side: the picture and its ink if it is one, the strokes in colours, and each
    channel of the pixels that the model saw.

    model_images: uint8 [1, C, S, S] for each kind of image; guesses: a line below.
    """
    from PIL import Image, ImageDraw

    panels: list[tuple[str, Image.Image]] = []
    if item.picture is not None:
        panels.append(("picture", _on_checks(item.picture.pixels)))
        ink = Image.fromarray(np.where(item.picture.ink, 0, 255).astype(np.uint8))
        panels.append(("ink", ink.convert("RGB")))
    panels.append(("strokes", _strokes(item)))
    for config, images in model_images:
        for name, channel in zip(config.channel_names, images[0], strict=True):
            panels.append((name, Image.fromarray(255 - channel).convert("RGB")))
    width = _GAP_PX + len(panels) * (_SIDE_PX + _GAP_PX)
    sheet = Image.new("RGB", (width, _SIDE_PX + 2 * _TITLE_PX + 2 * _GAP_PX), "#d8d8d8")
    draw = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels):
        left = _GAP_PX + number * (_SIDE_PX + _GAP_PX)
        draw.text((left, 4), title, fill="black")
        grow = _SIDE_PX / max(panel.size)
        size = max(1, round(panel.width * grow)), max(1, round(panel.height * grow))
        way = Image.Resampling.NEAREST if grow > 2 else Image.Resampling.BOX
        sheet.paste(panel.resize(size, way), (left, _TITLE_PX + _GAP_PX // 2))
    draw.text((_GAP_PX, _SIDE_PX + _TITLE_PX + _GAP_PX), guesses, fill="black")
    return sheet


def save_figure(sheet: "Image.Image", file: BinaryIO) -> None:
    """Writes a figure as PNG, so that it is known again."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", _MADE_BY)
    sheet.save(file, "PNG", pnginfo=info)


def may_be_written(path: Path) -> bool:
    """Whether a path may be written: nothing is there, or a figure that `save_figure` wrote."""
    from PIL import Image

    if path.is_symlink() or not path.exists():
        return not path.is_symlink()
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return bool(picture.info.get("Software") == _MADE_BY)
    except (OSError, SyntaxError, ValueError):  # what the decoder makes of other files
        return False


def _on_checks(pixels: UInt8Array) -> "Image.Image":
    """A picture; what is transparent shows a gray chessboard."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if picture.mode != "RGBA":
        return picture
    rows, columns = np.indices(pixels.shape[:2]) // max(1, max(pixels.shape) // 32)
    checks = np.where((rows + columns) % 2, 235, 205).astype(np.uint8)
    below = Image.fromarray(checks).convert("RGBA")
    below.alpha_composite(picture)
    return below.convert("RGB")


def _strokes(item: FileDrawing) -> "Image.Image":
    """The simplified strokes, each in its colour, with a dot where it begins."""
    from PIL import Image, ImageDraw

    panel = Image.new("RGB", (_SIDE_PX * 2, _SIDE_PX * 2), "white")
    draw = ImageDraw.Draw(panel)
    for number, (xs, ys) in enumerate(item.drawing.strokes(0)):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(10 + x * 1.92, 10 + y * 1.92) for x, y in zip(xs, ys, strict=True)]
        draw.line(points, fill=colour, width=4, joint="curve")
        x, y = points[0]
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour)
    return panel
