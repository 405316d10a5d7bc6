"""Kaggle-form training CSVs made as fast as the disk takes them: the ingest benchmark's input.

    python benchmarks/ingest_input.py FOLDER [--rows 49707579] [--seed 0] [--real FOLDER]

In: a folder, rows in all, a seed. Out: `FOLDER/<word>.csv` for the challenge's words, in all
49,707,579 rows (24.3 GB, 22.6 GiB) unless fewer are asked for. What an earlier call wrote in full
is kept: a marker in the folder says of what seed and rows it is. `--real` compares the drawings
with those of a folder of real CSVs, as a Markdown table.

The doodle generator of `quickdraw_core.sources` draws recognisable things instead, at a
hundredth of the speed.
"""

import argparse
import csv
import fcntl
import json
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from ingest_input_rows import Bytes, Tables, make_tables, write_rows

from quickdraw_core.labels import challenge_words

FULL_ROWS = 49_707_579
"""Rows of the challenge's training set."""

INPUT_VERSION = 1
"""Raised when the same seed and rows give other bytes than before."""

MARKER_NAME = ".bench-input.json"

_SMALLEST_CLASS, _LARGEST_CLASS = 113_000, 340_000
_BUFFER_BYTES = 1 << 23
_DISK_BLOCK_BYTES = 1 << 12
_HEADER = b"countrycode,drawing,key_id,recognized,timestamp,word\n"


@dataclass(frozen=True)
class ClassFile:
    """A file to write: rows `first` to `last` of the whole set are those of `word`."""

    word: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """File name, as Kaggle spells it."""
        return f"{self.word}.csv"


def plan_classes(rows: int, seed: int) -> list[ClassFile]:
    """Shares `rows` out to the 340 words; of the full set, 113 to 340 thousand a class."""
    words = challenge_words()
    # u**a of evenly spread u has the mean 1 / (a + 1): the exponent that gives the exact total.
    mean = FULL_ROWS / len(words)
    exponent = (_LARGEST_CLASS - _SMALLEST_CLASS) / (mean - _SMALLEST_CLASS) - 1
    spread = (np.arange(len(words)) + 0.5) / len(words)
    sizes = _SMALLEST_CLASS + (_LARGEST_CLASS - _SMALLEST_CLASS) * spread**exponent
    sizes = np.random.default_rng(seed).permutation(sizes)
    bounds = np.rint(np.cumsum(sizes) / sizes.sum() * rows).astype(np.int64)
    firsts = [0, *bounds[:-1].tolist()]
    return [
        ClassFile(word, first, last)
        for word, first, last in zip(words, firsts, bounds.tolist(), strict=True)
    ]


def write_class(folder: Path, part: ClassFile, seed: int, tables: Tables) -> int:
    """Writes `folder/<word>.csv`, past the page cache where the file system allows; its bytes.

    Pages written the usual way would fill the memory and be thrown out to disk at a third of the
    disk's speed.
    """
    path = folder / part.name
    partial = folder / f".{part.name}.partial"
    ending = np.frombuffer(f",{part.word}\n".encode(), np.uint8)
    memory = mmap.mmap(-1, _BUFFER_BYTES)  # begins at a page's edge, as direct writing wants it
    out = np.frombuffer(memory, np.uint8)
    out[: len(_HEADER)] = np.frombuffer(_HEADER, np.uint8)
    row, filled, written = part.first, len(_HEADER), 0
    file = _open_direct(partial)
    try:
        while row < part.last:
            row, filled = write_rows(out, filled, row, part.last, np.uint64(seed), ending, tables)
            whole = filled // _DISK_BLOCK_BYTES * _DISK_BLOCK_BYTES
            written += _write_all(file, out[:whole])
            out[: filled - whole] = out[whole:filled].copy()
            filled -= whole
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_DIRECT)
        written += _write_all(file, out[:filled])
    finally:
        os.close(file)
    partial.replace(path)
    return written


def _open_direct(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o644)
    except OSError:  # some file systems have no direct writing
        return os.open(path, flags, 0o644)


def _write_all(file: int, content: Bytes) -> int:
    done = 0
    while done < len(content):
        done += os.write(file, content[done:].data)
    return done


def generate(
    folder: Path,
    rows: int = FULL_ROWS,
    seed: int = 0,
    words: Iterable[str] | None = None,
    threads: int = 2,
) -> list[Path]:
    """Writes the CSVs of `words` (none: all 340) of a set of `rows` rows; returns their paths.

    A class has the same bytes whichever others are written. Files of an earlier call with the
    same `rows` and `seed` are kept; a folder of another is refused with a `ValueError`, lest a
    benchmark reads a mixture.
    """
    if not len(challenge_words()) <= rows <= 1 << 29:
        raise ValueError(f"rows must be {len(challenge_words())} to 2**29, found {rows}")
    wanted = set(challenge_words() if words is None else words)
    parts = [part for part in plan_classes(rows, seed) if part.word in wanted]
    if len(parts) != len(wanted):
        raise ValueError(f"{wanted - {part.word for part in parts}} are no words of the challenge")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _sizes_there(folder, rows, seed)
    # The longest first, so that no thread is left alone with one at the end.
    missing = sorted(
        (part for part in parts if part.name not in sizes), key=lambda part: part.first - part.last
    )
    _write_marker(folder, rows, seed, sizes)
    tables = make_tables()
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(write_class, folder, p, seed, tables): p for p in missing}
        for done in as_completed(running):
            sizes[running[done].name] = done.result()
            _write_marker(folder, rows, seed, sizes)
    return [folder / part.name for part in parts]


def _write_marker(folder: Path, rows: int, seed: int, sizes: dict[str, int]) -> None:
    content = {"version": INPUT_VERSION, "rows": rows, "seed": seed, "sizes": sizes}
    partial = folder / f"{MARKER_NAME}.partial"
    partial.write_text(json.dumps(content))
    partial.replace(folder / MARKER_NAME)


def _sizes_there(folder: Path, rows: int, seed: int) -> dict[str, int]:
    """Files that an earlier call wrote and that are still as long as it left them."""
    marker = folder / MARKER_NAME
    if not marker.is_file():
        if any(folder.iterdir()):
            raise ValueError(f"{folder} holds other files; give an empty folder")
        return {}
    content = json.loads(marker.read_text())
    found = (content["version"], content["rows"], content["seed"])
    if found != (INPUT_VERSION, rows, seed):
        raise ValueError(
            f"{folder} holds input of version, rows, seed {found}, "
            f"wanted is {(INPUT_VERSION, rows, seed)}; delete it or give another folder"
        )
    sizes: dict[str, int] = content["sizes"]
    return {
        name: size
        for name, size in sizes.items()
        if (folder / name).is_file() and (folder / name).stat().st_size == size
    }


def likeness(folders: dict[str, Path], drawings: int = 20_000) -> list[tuple[str, ...]]:
    """Rows of a table that compares the first drawings of the CSVs of some folders.

    The same number of each class, as far as they are there. `None` in the column `recognized`
    marks drawings that others scaled; they are left out.
    """
    columns = [_shape(islice(_balanced(folder), drawings)) for folder in folders.values()]
    table: list[tuple[str, ...]] = [("", *folders)]
    table += [(name, *(f"{column[name]:,.3f}" for column in columns)) for name in columns[0]]
    return table


def _balanced(folder: Path, rows: int = 16) -> Iterator[str]:
    """The texts of the first drawings of each class."""
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            real = (r["drawing"] for r in csv.DictReader(file) if r["recognized"] != "None")
            yield from islice(real, rows)


def _shape(texts: Iterator[str]) -> dict[str, float]:
    """What decides the cost of reading and storing drawings."""
    kept = list(texts)
    drawings = [json.loads(text) for text in kept]
    strokes = [stroke for drawing in drawings for stroke in drawing]
    counts = {
        "strokes": [len(drawing) for drawing in drawings],
        "points": [sum(len(stroke[0]) for stroke in drawing) for drawing in drawings],
        "points of a stroke": [len(stroke[0]) for stroke in strokes],
        "bytes of text": [len(text) for text in kept],
    }
    shape: dict[str, float] = {"drawings": len(drawings)}
    for name, values in counts.items():
        shape[f"{name}, mean"] = float(np.mean(values))
        for share in (50, 90, 99):
            shape[f"{name}, p{share}"] = float(np.percentile(values, share))
        shape[f"{name}, largest"] = max(values)
    for axis, name in enumerate("xy"):
        levels = np.array([v for stroke in strokes for v in stroke[axis]], np.uint8)
        steps = np.concatenate([np.diff(stroke[axis]) for stroke in strokes])
        shape[f"{name}, bytes a byte of zstd 1"] = _zstd_ratio(levels)
        shape[f"{name}, bits of entropy"] = _entropy(levels)
        shape[f"{name}, bits of entropy of steps"] = _entropy(steps)
        shape[f"{name}, mean step"] = float(np.abs(steps).mean())
        shape[f"{name}, share of 0"] = float((levels == 0).mean())
        shape[f"{name}, share of 255"] = float((levels == 255).mean())
    lengths = np.array(counts["points of a stroke"], np.uint16)
    shape["stroke lengths, bytes a byte of zstd 1"] = _zstd_ratio(lengths.view(np.uint8))
    return shape


def _zstd_ratio(values: Bytes, block: int = 1 << 18) -> float:
    codec = pa.Codec("zstd", compression_level=1)
    content = values.tobytes()
    blocks = [content[begin : begin + block] for begin in range(0, len(content), block)]
    return len(content) / sum(len(codec.compress(b, asbytes=True)) for b in blocks)


def _entropy(values: np.typing.NDArray[np.generic]) -> float:
    """Bits a value, of each value alone."""
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(shares * np.log2(shares)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=FULL_ROWS, help="of all classes together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--words", nargs="*", help="write only these classes of the set")
    parser.add_argument("--real", type=Path, help="folder of real CSVs to compare with")
    options = parser.parse_args()
    begun = time.perf_counter()
    paths = generate(options.folder, options.rows, options.seed, options.words)
    seconds = time.perf_counter() - begun
    size = sum(path.stat().st_size for path in paths)
    print(
        f"{len(paths)} files, {size / 1e9:.2f} GB, {seconds:.1f} s, "
        f"{size / 1e6 / seconds:,.0f} MB/s"
    )
    if options.real:
        table = likeness({"generated": options.folder, "real": options.real})
        for place, row in enumerate(table):
            print(f"| {' | '.join(row)} |")
            if place == 0:
                print("| --- " * len(row) + "|")


if __name__ == "__main__":
    main()
