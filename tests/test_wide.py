"""Looking at 64 bytes together finds what looking at one after the other finds."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from fuzzing import as_block, mutated
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from quickdraw_core.formats.scanning.drawing_scan import scan_axis, scan_axis_bytewise
from quickdraw_core.formats.scanning.field_scan import FAILED
from quickdraw_core.formats.scanning.wide import (
    COMPRESSES,
    WIDTH,
    count_bits,
    high_zeros,
    lowest_bit,
    scan_numbers,
    write_numbers,
)

BEFORE = b'US,"[[['


@njit
def look(block, i, out, ends):  # type: ignore[no-untyped-def]
    write_numbers(block, i, out, np.uint64(0), ends)
    return scan_numbers(block, i)


@njit
def bits(mask):  # type: ignore[no-untyped-def]
    return lowest_bit(mask), high_zeros(mask), count_bits(mask)


def numbers_before(data: bytes) -> list[int]:
    """The number of up to three digits that ends right before each byte, modulo 256."""
    found = []
    for k in range(3, len(data)):
        digits = data[k - 3 : k]
        while not digits.isdigit() and digits:
            digits = digits[1:]
        found.append(int(digits or b"0"))
    return found


@settings(deadline=None)  # the first one compiles
@given(st.lists(st.sampled_from(b"0123456789, ]x"), min_size=WIDTH + 3, max_size=WIDTH + 3))
def test_masks_and_numbers_are_those_of_each_byte(data: list[int]) -> None:
    out = np.zeros(WIDTH, np.uint8)
    numbers = numbers_before(bytes(data))
    ends = [k for k in range(WIDTH) if chr(data[k + 2]).isdigit()]
    marked = np.uint64(sum(1 << k for k in ends))
    masks = [int(mask) for mask in look(as_block(bytes(data)), np.uint64(3), out, marked)]
    here = bytes(data[3:])
    for mask, characters in zip(masks, (b"0123456789", b",", b" ", b"]", b"0"), strict=False):
        assert [mask >> k & 1 for k in range(WIDTH)] == [byte in characters for byte in here]
    written = out[: len(ends)] if COMPRESSES else out[ends]
    assert written.tolist() == [numbers[k] % 256 for k in ends]
    assert [masks[5] >> k & 1 for k in ends] == [numbers[k] > 255 for k in ends]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
@example(0)
def test_bits_are_counted_from_both_ends(mask: int) -> None:
    text = f"{mask:064b}"
    low, high, count = bits(np.uint64(mask))
    assert low == WIDTH - len(text.rstrip("0"))
    assert high == WIDTH - len(text.lstrip("0"))
    assert count == text.count("1")


def check(text: bytes, first: int, limit: int) -> int:
    """Reads what stands behind the bracket both ways; returns where it ends."""
    block = as_block(BEFORE + text + bytes(3 * WIDTH) + b"\n")
    wide, bytewise = np.full(limit + 400, 7, np.uint8), np.full(limit + 400, 7, np.uint8)
    found = scan_axis(block, len(BEFORE), wide, first, limit)
    expected = scan_axis_bytewise(block, len(BEFORE), bytewise, first, limit)
    assert found[0] == expected[0]
    if found[0] != FAILED:
        assert found == expected
        np.testing.assert_array_equal(wide[: found[1]], bytewise[: found[1]])
    return int(found[0])


AXES = st.lists(st.integers(0, 255), min_size=1, max_size=80)


@settings(max_examples=300, deadline=None)
@given(AXES, st.sampled_from([b",", b", "]), st.integers(0, 100), st.integers(-1, 2))
def test_an_axis_is_read_alike_both_ways(
    values: list[int], separator: bytes, first: int, room: int
) -> None:
    text = separator.join(b"%d" % value for value in values) + b"]"
    end = check(text + b', [1, 2]]]",5', first, first + len(values) + room)
    assert end == (len(BEFORE) + len(text) if room >= 0 else FAILED)


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789,, ]", max_size=200))
def test_what_is_no_axis_is_refused_alike(text: str) -> None:
    check(text.encode(), 0, 300)


def test_damaged_axes_are_read_alike_both_ways() -> None:
    rng = np.random.default_rng(5)
    ends = []
    for _ in range(30_000):
        values = rng.integers(0, 256, int(rng.geometric(0.06)))
        text = (b",", b", ")[rng.integers(2)].join(b"%d" % value for value in values) + b"]"
        ends.append(check(mutated(rng, text, int(rng.integers(3))), 0, 400))
    refused = ends.count(FAILED)
    assert min(refused, len(ends) - refused) > len(ends) / 5


def axes_digest() -> str:
    """What a fixed set of axes of all lengths, sound and damaged, is read as."""
    rng = np.random.default_rng(6)
    digest = sha256()
    for length in range(1, 200):
        values = rng.integers(0, 256, length)
        text = (b",", b", ")[length % 2].join(b"%d" % value for value in values) + b"]"
        damaged = mutated(rng, text, int(rng.integers(2)))
        block = as_block(BEFORE + damaged + bytes(3 * WIDTH) + b"\n")
        out = np.zeros(700, np.uint8)
        end, count = scan_axis(block, len(BEFORE), out, 0, 600)
        digest.update(b"%d %d" % (end, count) + out[: max(0, count)].tobytes())
    return digest.hexdigest()


def test_a_machine_without_wide_instructions_reads_the_same(tmp_path: Path) -> None:
    plain = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    words = [sys.executable, "-c", "import test_wide; print(test_wide.axes_digest())"]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        env=os.environ | plain,
    )
    assert done.stdout.strip() == axes_digest()
