import subprocess
from pathlib import Path

import numpy as np
import pytest
from forkserver import real_python
from PIL import Image

from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.show import write_grid
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack

STEP = 97  # a square of 96 px and a line of 1


def tiles(path: Path) -> np.ndarray:
    """The 24 squares of a picture: uint8 [24, 96, 96]."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture)
    assert pixels.shape == (3 * STEP + 1, 8 * STEP + 1)
    lines = np.concatenate([pixels[::STEP].ravel(), pixels[:, ::STEP].ravel()])
    assert set(lines.tolist()) == {208}
    return np.stack(
        [
            pixels[1 + STEP * row : STEP * (row + 1), 1 + STEP * column : STEP * (column + 1)]
            for row in range(3)
            for column in range(8)
        ]
    )


def test_a_grid_holds_24_different_drawings_black_on_white(pack: Pack, tmp_path: Path) -> None:
    assert write_grid(pack, "ice_cream", tmp_path / "new" / "grid.png") == 24
    squares = tiles(tmp_path / "new" / "grid.png")
    assert len({square.tobytes() for square in squares}) == 24
    for square in squares:
        assert square.min() == 0
        assert np.median(square) == 255
        assert (square[[0, -1]] == 255).all()  # not clipped


def test_a_picture_depends_on_word_split_and_seed_alone(pack: Pack, tmp_path: Path) -> None:
    def made(word: str = "sun", split: Split | None = None, seed: int = 0) -> bytes:
        write_grid(pack, word, tmp_path / "grid.png", split, seed)
        return (tmp_path / "grid.png").read_bytes()

    assert made() == made()
    pictures = [made(), made("star"), made(split=Split.TRAIN), made(seed=1)]
    assert len(set(pictures)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_fewer_drawings_leave_white_squares(pack: Pack, tmp_path: Path) -> None:
    label = pack.label_map.index["sun"]
    count = len(pack.rows(Split.VALIDATION, label))
    assert 0 < count < 24
    assert write_grid(pack, "sun", tmp_path / "grid.png", Split.VALIDATION) == count
    squares = tiles(tmp_path / "grid.png")
    assert [square.min() < 255 for square in squares] == [True] * count + [False] * (24 - count)


def test_what_cannot_be_shown_is_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown class 'envelop': did you mean 'envelope'"):
        write_grid(pack, "envelop", tmp_path / "grid.png")
    nothing = Pack(**{**vars(pack), "splits": np.zeros(len(pack), np.uint8)})
    with pytest.raises(ConfigError, match="no test drawing of 'sun'"):
        write_grid(nothing, "sun", tmp_path / "grid.png", Split.TEST)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file"):
        write_grid(pack, "sun", tmp_path / "file" / "grid.png")


def test_the_command_loads_no_compiler(pack: Pack, tmp_path: Path) -> None:
    words = ["show", str(pack.path.parents[1]), "--class", "sun", "--out", str(tmp_path / "a.png")]
    code = (
        "import sys; from quickdraw_core.cli import app\n"
        f"app({words}, standalone_mode=False)\n"
        "heavy = {'numba', 'dask', 'requests', 'pandas', 'torch', 'matplotlib', 'prefect'}\n"
        "assert not heavy & {*sys.modules}, heavy & {*sys.modules}\n"
    )
    done = subprocess.run([real_python(), "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").exists()
