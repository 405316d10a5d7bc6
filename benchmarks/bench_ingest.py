"""How fast and how lean ingest is, against what a user would pick instead, in one run.

    python benchmarks/bench_ingest.py            [--gigabytes 1] [--repeat 3] [--only ours duckdb]
    python benchmarks/bench_ingest.py --windows  [--gigabytes 1]
    python benchmarks/bench_ingest.py --full     [--rows 49707579]

Writes its input (`ingest_input.py`: Kaggle-form CSVs of realistic lengths, up to the challenge's
49.7 million rows) into `--folder` and keeps it there for the next time; prints Markdown tables.

- Rivals read the same files, each as a process of its own, in turns, so that noise hits all
  alike; medians are given. CPU seconds are those of a run and all its processes, user and system.
  Memory is the largest sum of their proportional set sizes (`process_usage.py`): shared pages
  count once. The input is in the page cache, for all of them.
- `--windows` takes 4,000 rows out of the beginning, middle and end of files.
- `--full` measures the disk, then ingests everything with nothing in the page cache.

Needs `pip install duckdb polars pandas orjson psutil`.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from mmap import mmap
from pathlib import Path

import pyarrow.parquet as pq
from ingest_input import FULL_ROWS, generate, plan_classes
from ingest_rivals import OURS, RIVALS
from process_usage import Usage, measure

TINY_ROWS = 1_000
WINDOW_ROWS = 4_000
DEPTHS = (0.01, 0.50, 0.95)
_BLOCK_BYTES = 1 << 23
_DISK_THREADS = 2


@dataclass(frozen=True)
class Round:
    """One run of one rival: what it took, what it made, and of how much."""

    usage: Usage
    size_bytes: int
    rows: int
    out_bytes: int

    @property
    def cpu_a_gigabyte(self) -> float:
        """CPU seconds a GB (10**9 bytes) of CSV."""
        return self.usage.cpu_seconds / self.size_bytes * 1e9

    @property
    def wall_a_gigabyte(self) -> float:
        """Wall seconds a GB of CSV."""
        return self.usage.wall_seconds / self.size_bytes * 1e9


def run_rival(name: str, source: Path, work: Path, threads: int) -> Round:
    """Runs one rival on all CSVs of `source`; checks that its output has every row."""
    paths = sorted(source.glob("*.csv"))
    read_all(paths)
    os.sync()  # what the one before left to write is not this one's burden
    out = work / "out"
    script = Path(__file__).with_name("ingest_rivals.py")
    try:
        usage = measure([sys.executable, str(script), name, str(source), str(out), str(threads)])
        files = [path for path in out.rglob("*") if path.is_file()]
        written = [path for path in files if path.suffix == ".parquet"]
        rows = sum(pq.read_metadata(path).num_rows for path in written)
        out_bytes = sum(path.stat().st_size for path in files)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    expected = sum(count_rows(path) for path in paths)
    if rows != expected:
        raise RuntimeError(f"{name} wrote {rows:,} rows of {expected:,}")
    return Round(usage, sum(path.stat().st_size for path in paths), rows, out_bytes)


def count_rows(path: Path) -> int:
    """Data rows of a CSV that ends with a line end."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b"")) - 1


def choose_words(gigabytes: float, rows: int, seed: int) -> list[str]:
    """Classes evenly spread over the challenge's, together about `gigabytes` of CSV."""
    parts = plan_classes(rows, seed)
    share = gigabytes * 1e9 / (489 * rows)  # bytes a row
    count = min(len(parts), max(1, round(share * len(parts))))
    return [parts[place * len(parts) // count].word for place in range(count)]


def linked(folder: Path, paths: Sequence[Path]) -> Path:
    """A folder of its own that holds just `paths`, without copying them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        os.link(path, folder / path.name)
    return folder


def smaller(paths: Sequence[Path], share: float) -> list[Path]:
    """The first files that make up `share` of the bytes, one at least."""
    wanted = share * sum(path.stat().st_size for path in paths)
    chosen: list[Path] = []
    for path in paths:
        if chosen and sum(p.stat().st_size for p in chosen) + path.stat().st_size > 1.5 * wanted:
            break
        chosen.append(path)
    return chosen


def write_tiny(folder: Path, path: Path) -> Path:
    """A folder with the first rows of `path`: what starting alone costs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with path.open("rb") as file, (folder / path.name).open("wb") as out:
        out.writelines(file.readline() for _ in range(TINY_ROWS + 1))
    return folder


def bench_rivals(options: argparse.Namespace, work: Path) -> None:
    """Prints the table of all rivals on the same subset."""
    words = choose_words(options.gigabytes, options.rows, options.seed)
    paths = generate(options.folder / "csv", options.rows, options.seed, words)
    names = options.only or list(RIVALS)
    sources = {
        name: linked(work / f"source-{name}", smaller(paths, RIVALS[name].share)) for name in names
    }
    tiny = write_tiny(work / "tiny", paths[0])
    for name in names:  # compiled code and libraries come into their caches
        run_rival(name, tiny, work, options.threads)
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    starts: dict[str, list[Round]] = {name: [] for name in names}
    for _ in range(options.repeat):
        for name in names:
            starts[name].append(run_rival(name, tiny, work, options.threads))
            rounds[name].append(run_rival(name, sources[name], work, options.threads))
    size = sum(path.stat().st_size for path in paths)
    _print_head(f"{size / 1e9:.2f} GB of CSV, {len(paths)} classes, median of {options.repeat}")
    _print_table(
        ("", "read", "CPU s a GB", "against ours", "of it starting", "wall s a GB", "against ours",
         "MB/s", "peak memory", "bytes a drawing"),
        [_rival_row(name, rounds, starts) for name in names],
    )  # fmt: skip


def _rival_row(
    name: str, rounds: dict[str, list[Round]], starts: dict[str, list[Round]]
) -> tuple[str, ...]:
    def median(value: Callable[[Round], float], of: str = name) -> float:
        return statistics.median(map(value, rounds[of]))

    def against(value: Callable[[Round], float]) -> str:
        return f"{median(value) / median(value, OURS):.1f} ×" if OURS in rounds else ""

    size_bytes = rounds[name][0].size_bytes
    start = statistics.median(r.usage.cpu_seconds for r in starts[name])
    return (
        RIVALS[name].label,
        f"{size_bytes / 1e9:.2f} GB",
        f"{median(lambda r: r.cpu_a_gigabyte):.2f}",
        against(lambda r: r.cpu_a_gigabyte),
        f"{start / size_bytes * 1e9:.2f}",
        f"{median(lambda r: r.wall_a_gigabyte):.2f}",
        against(lambda r: r.wall_a_gigabyte),
        f"{1e3 / median(lambda r: r.wall_a_gigabyte):,.0f}",
        _mebibytes(median(lambda r: r.usage.peak_bytes)),
        f"{median(lambda r: r.out_bytes / r.rows):.1f}",
    )


def bench_windows(options: argparse.Namespace, work: Path) -> None:
    """Prints what a window costs, by its depth in the file, here and with pandas.

    Here the rows come out checked and as the store's columns; pandas leaves them text.
    """
    words = choose_words(options.gigabytes, options.rows, options.seed)
    paths = generate(options.folder / "csv", options.rows, options.seed, words)
    os.environ["QUICKDRAW_CACHE"] = str(work / "cache")  # the index is made here, for all to see
    begun = time.perf_counter()
    rows = {path: count_rows(path) for path in paths}  # with that, they are in the page cache
    count_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    read_here = window_reader(paths)
    index_seconds = time.perf_counter() - begun
    read_here(paths[0], 0)  # compiles, or loads what was compiled
    table = []
    for depth in DEPTHS:
        windows = [(path, int((rows[path] - WINDOW_ROWS) * depth)) for path in paths]
        here, found = _timed(read_here, windows)
        there, expected = _timed(read_with_pandas, windows)
        if found != expected:
            raise RuntimeError(f"the windows at {depth:.0%} differ from pandas'")
        table.append((f"{depth:.0%}", f"{here * 1e3:.1f} ms", f"{there * 1e3:.1f} ms",
                      f"{there / here:.1f} ×"))  # fmt: skip
    size = sum(path.stat().st_size for path in paths)
    _print_head(f"{WINDOW_ROWS:,} rows of one class, mean of {len(paths)} classes")
    _print_table(("depth in the file", "with the row index", "pandas `skiprows`", ""), table)
    print(f"\nMaking the index, once a file: {size / 1e6 / index_seconds:,.0f} MB/s on one core "
          f"(counting line ends in Python: {size / 1e6 / count_seconds:,.0f} MB/s).")  # fmt: skip


def window_reader(paths: Sequence[Path]) -> Callable[[Path, int], list[int]]:
    """Indexes `paths`; returns what gives the ids of the 4,000 rows after so many of a file."""
    from quickdraw_core.formats.readers import reader_for
    from quickdraw_core.reading.blocks import go_to, window_blocks
    from quickdraw_core.reading.row_index import index_rows
    from quickdraw_core.reading.windows import Window
    from quickdraw_core.sources.find import find_sources

    sources = {source.word: source for source in find_sources([str(path) for path in paths], None)}
    indexes = {word: index_rows(source) for word, source in sources.items()}

    def read(path: Path, skiprows: int) -> list[int]:
        source, index = sources[path.stem], indexes[path.stem]
        reader = reader_for(source.format, source.word)
        offset, row = index.start_of(skiprows)
        size_bytes = index.end_of(skiprows + WINDOW_ROWS) - offset
        ids: list[int] = []
        with source.open() as file:
            go_to(file, offset, source.sequential)
            window = Window(skiprows, WINDOW_ROWS)
            for block in window_blocks(file, reader, row, window, size_bytes):
                ids += reader.read(block.data, block.row + reader.first_line)[0].key_ids.tolist()
        return ids

    return read


def read_with_pandas(path: Path, skiprows: int) -> list[int]:
    """The ids of the same rows, as a user would get at them."""
    import pandas as pd

    types = {"countrycode": "str", "drawing": "str", "key_id": "uint64", "word": "str"}
    frame = pd.read_csv(
        path,
        skiprows=range(1, skiprows + 1),
        nrows=WINDOW_ROWS,
        dtype=types,
        keep_default_na=False,
    )
    ids: list[int] = frame["key_id"].tolist()
    return ids


def _timed(
    read: Callable[[Path, int], list[int]], windows: Sequence[tuple[Path, int]]
) -> tuple[float, list[list[int]]]:
    """Seconds a window, and what was read."""
    begun = time.perf_counter()
    found = [read(path, skiprows) for path, skiprows in windows]
    return (time.perf_counter() - begun) / len(windows), found


def bench_full(options: argparse.Namespace, work: Path) -> None:
    """Prints what all rows take from a cold disk, how far that is from the disk's own speed."""
    paths = generate(options.folder / "csv", options.rows, options.seed)
    size = sum(path.stat().st_size for path in paths)
    rows = options.rows
    os.sync()
    direct = _read_seconds(paths, direct=True)
    forget(paths)
    cached = _read_seconds(paths, direct=False)
    forget(paths)
    store = work / "store"
    shutil.rmtree(store, ignore_errors=True)
    script = Path(__file__).with_name("ingest_rivals.py")
    command = [sys.executable, str(script), OURS, str(options.folder / "csv"), str(store), "0"]
    first = measure(command)
    files = [path for path in store.rglob("*") if path.is_file()]
    kept = sum(pq.read_metadata(path).num_rows for path in files if path.suffix == ".parquet")
    sizes = [path.stat().st_size for path in files]
    store_bytes = sum(sizes)
    again = measure(command)
    written = _write_seconds(work / "written", sizes)
    forget(paths)
    after = _read_seconds(paths, direct=False)
    if kept != rows:
        raise RuntimeError(f"the store holds {kept:,} drawings of {rows:,}")
    floor = min(direct, cached, after)
    _print_head(f"{rows:,} rows, {size / 1e9:.2f} GB ({size / (1 << 30):.1f} GiB) in {len(paths)} "
                "files, page cache empty")  # fmt: skip
    _print_table(
        ("", "wall", "MB/s", "CPU", "peak memory"),
        [
            (f"disk alone, {_DISK_THREADS} threads, past the page cache", f"{direct:.1f} s",
             f"{size / 1e6 / direct:,.0f}", "", ""),
            (f"disk alone, {_DISK_THREADS} threads, through the page cache", f"{cached:.1f} s",
             f"{size / 1e6 / cached:,.0f}", "", ""),
            ("the same, measured after ingest", f"{after:.1f} s", f"{size / 1e6 / after:,.0f}",
             "", ""),
            (f"disk alone, writing {len(files):,} files of the store's sizes", f"{written:.1f} s",
             f"{store_bytes / 1e6 / written:,.0f}", "", ""),
            ("ingest", f"{first.wall_seconds:.1f} s", f"{size / 1e6 / first.wall_seconds:,.0f}",
             f"{first.cpu_seconds:.1f} s, {first.cpu_seconds / size * 1e9:.2f} s a GB",
             _mebibytes(first.peak_bytes)),
            ("ingest again, nothing to do", f"{again.wall_seconds:.1f} s", "",
             f"{again.cpu_seconds:.1f} s", _mebibytes(again.peak_bytes)),
        ],
    )  # fmt: skip
    print(
        f"\nIngest takes {first.wall_seconds / floor:.1f} × as long as the fastest reading, "
        f"{first.wall_seconds / (floor + written):.1f} × as long as reading and writing."
    )
    print(f"The store: {store_bytes / rows:.1f} bytes a drawing, {store_bytes / 1e9:.2f} GB.")
    shutil.rmtree(store, ignore_errors=True)


def forget(paths: Sequence[Path]) -> None:
    """Drops the pages of `paths` from the page cache. What is not yet on disk would stay."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_seconds(paths: Sequence[Path], direct: bool) -> float:
    """Seconds that reading `paths` takes, each from start to end, and no more than that."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(_DISK_THREADS) as pool:
        sizes = list(pool.map(partial(_read, direct=direct), paths))
    seconds = time.perf_counter() - begun
    if sizes != [path.stat().st_size for path in paths]:
        raise RuntimeError("files changed while they were read")
    return seconds


def _write_seconds(folder: Path, sizes: Sequence[int]) -> float:
    """Seconds that writing files of these sizes takes, each of them until it is on the disk."""

    def write(number: int, size: int) -> None:
        with (folder / str(number)).open("wb", buffering=0) as file:
            file.write(content[:size])
            os.fsync(file.fileno())

    folder.mkdir()
    content = memoryview(os.urandom(max(sizes)))
    begun = time.perf_counter()
    with ThreadPoolExecutor(_DISK_THREADS) as pool:
        list(pool.map(write, range(len(sizes)), sizes))
    seconds = time.perf_counter() - begun
    shutil.rmtree(folder)
    return seconds


def _read(path: Path, direct: bool) -> int:
    """Reads a file into nothing; its length. The buffer is a page's, as direct reading wants."""
    file = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    position = 0
    try:
        with closing(mmap(-1, _BLOCK_BYTES)) as buffer:
            while count := os.preadv(file, [buffer], position):
                position += count
    finally:
        os.close(file)
    return position


def read_all(paths: Sequence[Path]) -> None:
    """Reads `paths`, so that they are in the page cache."""
    for path in paths:
        _read(path, direct=False)


def _mebibytes(size: float) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _print_head(what: str) -> None:
    names = ("duckdb", "polars", "pandas", "orjson", "dask", "pyarrow", "numba")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, "
          f"{os.cpu_count()} cores. {what}.\n")  # fmt: skip


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    for row in (head, ("---",) * len(head), *rows):
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(tempfile.gettempdir()) / "quickdraw-bench"
    parser.add_argument("--folder", type=Path, default=default, help="input is kept here")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of CSV, but for --full")
    parser.add_argument("--rows", type=int, default=FULL_ROWS, help="of the whole set")
    parser.add_argument("--seed", type=int, default=0, help="of the input")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of rivals")
    parser.add_argument("--only", nargs="+", choices=list(RIVALS), help="rivals to run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each rival")
    parser.add_argument("--windows", action="store_true", help="windows instead of rivals")
    parser.add_argument("--full", action="store_true", help="all rows instead of rivals")
    options = parser.parse_args()
    work = options.folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    try:
        if options.windows:
            bench_windows(options, work)
        if options.full:
            bench_full(options, work)
        if not (options.windows or options.full):
            bench_rivals(options, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
