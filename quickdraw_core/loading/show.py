"""A look at the data: a grid of drawings of one class, as a PNG.

Drawn with Pillow, not as training draws them: two dozen are on paper before the compiled code of
that is loaded.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quickdraw_core.drawing import Int64Array, Stroke, UInt8Array
from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.select import find_label
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack, class_starts
from quickdraw_core.system.output_files import opened_output, require_output

ROWS, COLUMNS = 3, 8
_SEPARATOR_PX, _SEPARATOR_GRAY = 1, 208
_PADDING_PX = 6
_FINER = 4
"""Lines are drawn so many times larger, then made smaller: their edges become smooth."""


def write_grid(
    pack: Pack,
    word: str,
    path: Path,
    split: Split | None = None,
    seed: int = 0,
    side_px: int = 96,
    line_width_px: float = 2.5,
) -> int:
    """Writes a PNG of 24 drawings of a word, 3 rows of 8: black on white, gray lines between.

    split: of that side of the holdout alone; none: of all. seed: another one shows others;
    which drawings it shows depends on nothing else. side_px: of one drawing's square.
    Returns how many are shown, fewer than 24 if there are no more. Raises `ConfigError` for
    an unknown word or one without drawings and for a file that cannot be written, `WriteError`
    if writing fails all the same.
    """
    from PIL import Image

    require_output(path, folder_is_made=True)
    rows = _chosen(pack, word, split, seed)
    drawings = pack.drawings.take(rows)
    tiles = [_tile(drawings.strokes(k), side_px, line_width_px) for k in range(len(rows))]
    with opened_output(path) as file:
        Image.fromarray(_grid(tiles)).save(file, "png", optimize=True)
    return len(rows)


def _chosen(pack: Pack, word: str, split: Split | None, seed: int) -> Int64Array:
    """Rows of up to 24 drawings of the class: int64 [n]."""
    label = find_label(pack.label_map, word)
    if split is not None:
        rows = pack.rows(split, label)
    else:
        rows = np.arange(*class_starts(pack.labels, np.array([label, label + 1])))
    if len(rows) == 0:
        side = f"{split.name.lower()} " if split is not None else ""
        raise ConfigError(f"the store holds no {side}drawing of {word!r}; choose another")
    shown = min(len(rows), ROWS * COLUMNS)
    return rows[np.random.default_rng(seed).choice(len(rows), shown, replace=False)]


def _tile(strokes: Sequence[Stroke], side_px: int, line_width_px: float) -> UInt8Array:
    """One drawing, black on white, in the middle: uint8 [side_px, side_px]."""
    from PIL import Image, ImageDraw

    points = [np.array(stroke, np.float64).T for stroke in strokes]
    low, high = (edge([edge(p, axis=0) for p in points], axis=0) for edge in (np.min, np.max))
    radius = _FINER * line_width_px / 2
    scale = (_FINER * (side_px - 2 * _PADDING_PX) - 2 * radius) / 255
    picture = Image.new("L", (_FINER * side_px, _FINER * side_px), 255)
    draw = ImageDraw.Draw(picture)
    for stroke in points:
        line = (stroke - (low + high) / 2) * scale + _FINER * side_px / 2
        draw.line([*map(tuple, line)], fill=0, width=round(2 * radius), joint="curve")
        for x, y in line[[0, -1]]:
            draw.circle((x, y), radius, fill=0)
    return np.asarray(picture.reduce(_FINER))


def _grid(tiles: Sequence[UInt8Array]) -> UInt8Array:
    """Squares uint8 [S, S], up to 24 → one picture; what is missing is left white."""
    side = len(tiles[0])
    step = side + _SEPARATOR_PX
    size = (ROWS * step + _SEPARATOR_PX, COLUMNS * step + _SEPARATOR_PX)
    picture = np.full(size, _SEPARATOR_GRAY, np.uint8)
    for index in range(ROWS * COLUMNS):
        top, left = (_SEPARATOR_PX + step * k for k in divmod(index, COLUMNS))
        tile = tiles[index] if index < len(tiles) else 255
        picture[top : top + side, left : left + side] = tile
    return picture
