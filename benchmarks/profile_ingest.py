"""Where the processor time of an ingest goes, stage by stage, in CPU seconds a GB of CSV.

    python benchmarks/profile_ingest.py FOLDER_OF_CSVS [--threads 1] [--cold] [--folder DIR]

Runs the real ingest in this process, with a clock around the functions that make up its stages;
a stage inside another one counts for itself alone. User and system time are those of the threads
(`getrusage(RUSAGE_THREAD)`). What no stage claims (Dask, Python between the stages, starting)
is the row "the rest". The files are read once before, so that they are in the page cache; with
`--cold` none of them is.
"""

import argparse
import functools
import importlib
import os
import resource
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench_ingest import forget, linked, read_all

STAGES = (
    ("read: system call into a fresh buffer", "reading.blocks:_read_after"),
    ("scan for line ends", "formats.lines:LineReader.skip"),
    ("room for columns", "formats.scanning.columns:Columns.for_block"),
    ("parse", "formats.kaggle:KaggleReader.scan"),
    ("columns → Arrow", "ingest.tasks:table_of"),
    ("Parquet encode, zstd", "store.schema:_write_table"),
    ("write, SHA-256", "storage.local:_HashedStream.write"),
    ("open, fsync, rename", "storage.local:LocalStorage.create"),
    ("holdout: smallest hashes", "ingest.tasks:_smallest_hashes"),
    ("receipt", "ingest.tasks:write_receipt"),
    ("row index", "ingest.tasks:keep_index"),
    ("file unchanged?", "ingest.tasks:require_unchanged"),
    ("duplicates: read the ids", "store.duplicates:_read_ids"),
    ("duplicates: filter", "store.duplicates:_add_ids"),
)
"""What a stage is called, and its function."""

Seconds = tuple[float, float]


class Clock:
    """User and system seconds by stage, of all threads; what is inside is not counted twice."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.calls: dict[str, int] = defaultdict(int)
        self._inside = threading.local()
        self._lock = threading.Lock()

    def around(self, stage: str, function: Any) -> Any:
        """`function` with this clock around it."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            stack = self._inside.__dict__.setdefault("stack", [])
            begun = _thread_seconds()
            stack.append([0.0, 0.0])
            try:
                return function(*args, **options)
            finally:
                took = [now - then for now, then in zip(_thread_seconds(), begun, strict=True)]
                inner = stack.pop()
                if stack:
                    stack[-1] = [a + b for a, b in zip(stack[-1], took, strict=True)]
                with self._lock:
                    self.calls[stage] += 1
                    for k in range(2):
                        self.spent[stage][k] += took[k] - inner[k]

        return timed


def _thread_seconds() -> Seconds:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime, usage.ru_stime


def _process_seconds() -> Seconds:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def put_clocks(clock: Clock) -> None:
    """Puts the clock around the functions of all stages."""
    for stage, place in STAGES:
        module, _, name = place.partition(":")
        owner: Any = importlib.import_module(f"quickdraw_core.{module}")
        *parents, name = name.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        found = owner.__dict__[name]
        function = found.__func__ if isinstance(found, classmethod) else found
        timed = clock.around(stage, function)
        setattr(owner, name, classmethod(timed) if isinstance(found, classmethod) else timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of CSVs")
    parser.add_argument("--threads", type=int, default=1, help="of the ingest")
    parser.add_argument("--cold", action="store_true", help="nothing is in the page cache")
    parser.add_argument("--folder", type=Path, help="where the store is made, and removed again")
    options = parser.parse_args()
    from quickdraw_core.ingest.config import IngestConfig
    from quickdraw_core.ingest.ingest import ingest

    files = sorted(options.source.glob("*.csv"))
    size = sum(path.stat().st_size for path in files)
    work = Path(tempfile.mkdtemp(dir=options.folder or options.source.parent))
    os.environ["QUICKDRAW_CACHE"] = str(work / "cache")  # no row index from before
    clock = Clock()
    try:
        sources = {"first": linked(work / "csv", files[:2]), "store": options.source}
        for name, source in sources.items():
            if name == "store":  # by now all is imported, and compiled code is in memory
                put_clocks(clock)
                (forget if options.cold else read_all)(files)
            before, begun = _process_seconds(), time.perf_counter()
            values = {"source": source, "store": work / name, "test_per_class": 100}
            ingest(IngestConfig.parse(values | {"workers": options.threads}))
        wall = time.perf_counter() - begun
        total = [now - then for now, then in zip(_process_seconds(), before, strict=True)]
    finally:
        shutil.rmtree(work)
    gigabytes = size / 1e9
    print(f"{gigabytes:.2f} GB, {options.threads} threads, {wall:.1f} s\n")
    print("| stage | calls | user, s a GB | system | together |\n| --- | --- | --- | --- | --- |")
    rows = [(stage, clock.calls[stage], *clock.spent[stage]) for stage, _ in STAGES]
    claimed = [sum(row[k] for row in rows) for k in (2, 3)]
    rows.append(("the rest", 0, total[0] - claimed[0], total[1] - claimed[1]))
    for stage, calls, user, system in [*rows, ("**all**", 0, *total)]:
        print(
            f"| {stage} | {calls or ''} | {user / gigabytes:.3f} | {system / gigabytes:.3f} "
            f"| {(user + system) / gigabytes:.3f} |"
        )


if __name__ == "__main__":
    main()
