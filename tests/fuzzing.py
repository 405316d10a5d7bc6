"""What the fuzz tests of the readers share: damage, comparison, and a run with bounds checked."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.rows import Rows
from quickdraw_core.formats.scanning.columns import Columns
from quickdraw_core.formats.scanning.field_scan import scan_unsigned
from quickdraw_core.formats.scanning.kaggle_scan import scan_lines
from quickdraw_core.formats.scanning.raw_scan import make_raw_room

SPECIAL = b'\n\r\t ",:{}[]\\.-+eE0\0\x7f\x80\xff'
"""Bytes that mean something, or should not be there."""


def as_block(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytearray(data), np.uint8)  # writable, as blocks of a file are


def mutated(rng: np.random.Generator, data: bytes, edits: int) -> bytes:
    """`data` after some random damage: bits flipped, bytes deleted, inserted, doubled, cut off.

    What is inserted comes from `data` itself, which has the best chance to look right, from
    `SPECIAL` or from anywhere.
    """
    damaged = bytearray(data)
    for _ in range(edits):
        at = int(rng.integers(len(damaged) + 1))
        size = int(rng.geometric(0.2))
        match rng.integers(7):
            case 0 if at < len(damaged):
                damaged[at] ^= 1 << int(rng.integers(8))
            case 1:
                del damaged[at : at + size]
            case 2:
                start = int(rng.integers(len(data)))
                damaged[at:at] = data[start : start + size]
            case 3:
                damaged[at:at] = damaged[at : at + size]
            case 4:
                damaged[at:at] = rng.bytes(size)
            case 5:
                special = SPECIAL[int(rng.integers(len(SPECIAL)))]
                damaged[at : at + int(rng.integers(2))] = bytes([special])
            case 6 if rng.random() < 0.05:
                del damaged[max(at, len(damaged) - 200) :]
    return bytes(damaged)


def assert_same_rows(found: Rows, expected: Rows) -> None:
    """Equal in all columns, to the byte."""
    for column in fields(Rows):
        left, right = getattr(found, column.name), getattr(expected, column.name)
        if column.name == "drawings":
            for part in fields(left):
                np.testing.assert_array_equal(
                    getattr(left, part.name), getattr(right, part.name), part.name
                )
        else:
            np.testing.assert_array_equal(left, right, column.name)


def assert_bounds_are_checked() -> None:
    """Fails unless compiled code raises where it reads past an array."""
    try:
        scan_unsigned(as_block(b"12"), 0)
    except IndexError:
        return
    raise AssertionError("numba does not check bounds here")


def run_with_bounds_checked(call: str, module: str, cache: Path) -> None:
    """Runs `call`, an expression of a test module, where reading past an array is an error.

    It takes a process and a cache of its own: whether bounds are checked is settled when the
    code is compiled.
    """
    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(cache),
        "NUMBA_OPT": "1",  # compiles faster than the usual 3
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
    }
    code = f"import fuzzing, {module}; fuzzing.assert_bounds_are_checked(); {module}.{call}"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def lines_left(reader: KaggleReader, data: bytes) -> int:
    """How many lines the compiled reader leaves to the tolerant one."""
    block, lines = as_block(data), data.count(b"\n")
    columns, left = Columns.for_block(lines, len(block)), np.empty((lines, 3), np.int64)
    word = as_block((reader.word or "").encode())
    raw = make_raw_room() if reader.raw else None
    _, left_over = scan_lines(block, reader.codes(), word, word, raw, columns, left)
    return int(left_over)
