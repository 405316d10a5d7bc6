"""The whole chain at full size: time, processor time and memory of each command.

    python benchmarks/bench_full.py [--drawings 500000,5000000,50000000] [--folder FOLDER]
        [--figure docs/images/full-size.png] [--keep]                       (or: make bench-full)

For each number of drawings: generate, ingest, verify, describe, pack, verify again, train 300
steps on two ranks with a validation at the end, train on four (what ranks share), evaluate on 100
held-out drawings a class, predict 112,199 rows. Each is `quickdraw …` in a process of its own; the
whole tree of its processes counts (`process_usage.py`). Before that the chain runs once with few
drawings, which compiles what is kept compiled.

The folder (by default `quickdraw-bench-full` where temporary files are) gets, for each number, a
folder with the data, what the commands said (`*.log`) and `done.json`. The data are deleted when
their last step is done, unless --keep. The same command again goes on after the last step that was
finished; when all is measured it only writes: `results.md` (printed, too), `results.json`, and the
figure if one is asked for.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_full_report import page, write_figure
from bench_full_steps import STEPS, Chain, size_of

from quickdraw_core.errors import ConfigError
from quickdraw_core.labels import challenge_words
from quickdraw_core.recipes import find_recipe
from quickdraw_core.system.files import write_atomic
from quickdraw_core.system.locks import try_lock

SIZES = (500_000, 5_000_000, 50_000_000)
DONE_NAME = "done.json"
WARM_UP = Chain(drawings=1_500, classes=3, per_class=20, steps=2, predicted=400)
_PACKAGES = ("torch", "numba", "pyarrow", "numpy")
_LEAST_SHARE = 0.25
"""Of the drawings of a class, at most so much is held out as test (`max_test_share`: 0.3)."""


class CannotRunError(Exception):
    """The benchmark cannot be run as asked for; the text says what to do."""


def measure_size(chain: Chain, folder: Path, say: bool = True) -> dict[str, Any]:
    """Runs the steps that are not recorded in the folder yet; returns what all of them found."""
    folder.mkdir(parents=True, exist_ok=True)
    done = read_done(chain, folder)
    for name, step in STEPS.items():
        if name not in done["found"]:
            remove(folder, step.leaves)
            os.sync()  # what the one before left to write is not this one's burden
            done["found"][name] = step.run(chain, folder)
            write_atomic(folder / DONE_NAME, json.dumps(done, indent=1) + "\n")
            if say:
                for row, took in done["found"][name]["rows"].items():
                    print(
                        f"{chain.drawings:,}: {row}: {took['wall_seconds']:.1f} s",
                        file=sys.stderr,
                        flush=True,
                    )
        remove(folder, step.obsolete)
    return done


def read_done(chain: Chain, folder: Path) -> dict[str, Any]:
    """What was found so far, for a chain; of another one it raises `CannotRunError`."""
    path = folder / DONE_NAME
    if not path.exists():
        return {"chain": asdict(chain), "machine": machine(), "found": {}}
    done: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if done["chain"] != asdict(chain):
        unlike = {
            key: value for key, value in done["chain"].items() if asdict(chain)[key] != value
        }
        raise CannotRunError(
            f"{folder} holds a run with other options, {unlike}: give the same ones, another "
            "--folder, or delete it"
        )
    return done


def remove(folder: Path, names: tuple[str, ...]) -> None:
    """Deletes files and folders, as far as they are there."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_data(folder: Path) -> None:
    """Deletes all but the record and what the commands said."""
    kept = {DONE_NAME, *(path.name for path in folder.glob("*.log"))}
    remove(folder, tuple(path.name for path in folder.iterdir() if path.name not in kept))


def machine() -> dict[str, Any]:
    """Where and of what this is measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / (1 << 30), 1),
        "linux": platform.release(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "code": commit or "unknown",
        "load": round(os.getloadavg()[0], 1),
    }


def check(chain: Chain, folder: Path) -> None:
    """Says what room a chain needs. Raises `CannotRunError` if it cannot run."""
    try:
        find_recipe(chain.recipe)
    except ConfigError as error:
        raise CannotRunError(f"--recipe: {error}") from error
    if not 1 <= chain.classes <= len(challenge_words()):
        raise CannotRunError(f"--classes {chain.classes}: there are {len(challenge_words())}")
    if chain.predicted < len(challenge_words()):
        raise CannotRunError(f"--predicted {chain.predicted}: at least {len(challenge_words())}")
    if chain.steps < 2:
        raise CannotRunError(f"--steps {chain.steps}: at least 2, of which the first counts apart")
    most = int(chain.smallest_class * _LEAST_SHARE)
    if most < chain.per_class:
        raise CannotRunError(
            f"{chain.drawings:,} drawings of {chain.classes} classes leave {most} held-out ones "
            f"in the smallest class, fewer than {chain.per_class}: give more --drawings, fewer "
            "--classes or a smaller --per-class"
        )
    there = size_of(folder / str(chain.drawings))
    needed = max(0, chain.disk_bytes - there)
    free = shutil.disk_usage(folder).free
    said = (
        f"{chain.drawings:,} drawings need about {needed / 1e9:.1f} GB of disk in "
        f"{folder}; {free / 1e9:.1f} GB are free"
    )
    if free < needed:
        raise CannotRunError(f"{said}: give another --folder, or fewer --drawings")
    print(said, file=sys.stderr)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A block in which no other run works in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        if try_lock(opened) is False:
            raise CannotRunError(f"another run works in {folder}: give another --folder")
        yield
    finally:
        os.close(opened)


def run_all(options: argparse.Namespace, folder: Path) -> None:
    """Measures what is missing, and writes the results."""
    chains = {n: chain_of(options, n) for n in sorted(options.drawings)}
    missing = [n for n, chain in chains.items() if not is_measured(chain, folder / str(n))]
    for n in missing:
        check(chains[n], folder)
    if missing and not options.no_warm_up:
        print("first with few drawings, which compiles: about a minute", file=sys.stderr)
        remove(folder, ("warm-up",))
        measure_size(WARM_UP, folder / "warm-up", say=False)
        remove(folder, ("warm-up",))
    sizes: dict[int, Mapping[str, Any]] = {}
    for n, chain in chains.items():
        sizes[n] = measure_size(chain, folder / str(n))
        if not options.keep:
            remove_data(folder / str(n))
        results = page(sizes, shlex.join(["python", *sys.argv]))
        # After each size: what is known is kept, whatever becomes of the next.
        write_atomic(folder / "results.md", results)
        write_atomic(folder / "results.json", json.dumps(sizes, indent=1) + "\n")
        if options.figure is not None:
            write_figure(sizes, options.figure)
    print(results, end="")


def chain_of(options: argparse.Namespace, drawings: int) -> Chain:
    """The chain of one number of drawings."""
    names = ("classes", "per_class", "steps", "predicted", "recipe", "seed")
    return Chain(drawings, **{name: getattr(options, name) for name in names})


def is_measured(chain: Chain, folder: Path) -> bool:
    """Whether all steps are recorded."""
    return (folder / DONE_NAME).exists() and not STEPS.keys() - read_done(chain, folder)["found"]


def numbers(text: str) -> list[int]:
    """`500000,5000000`; underscores allowed."""
    return [int(part) for part in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(tempfile.gettempdir()) / "quickdraw-bench-full"
    chain = Chain(0)
    parser.add_argument("--drawings", type=numbers, default=list(SIZES), help="with commas")
    parser.add_argument("--folder", type=Path, default=default, help="for data and results")
    parser.add_argument("--figure", type=Path, help="PNG to write, of time and memory")
    parser.add_argument("--keep", action="store_true", help="the data, when all is measured")
    parser.add_argument("--classes", type=int, default=chain.classes)
    parser.add_argument("--per-class", type=int, default=chain.per_class, help="held out")
    parser.add_argument("--steps", type=int, default=chain.steps, help="of each training")
    parser.add_argument("--predicted", type=int, default=chain.predicted, help="rows to predict")
    parser.add_argument("--recipe", default=chain.recipe)
    parser.add_argument("--seed", type=int, default=chain.seed)
    parser.add_argument("--no-warm-up", action="store_true", help="compile while it is measured")
    options = parser.parse_args()
    try:
        with locked(options.folder):
            run_all(options, options.folder.absolute())
    except CannotRunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # of a command
        print(f"error: {error}\nThe same command again goes on from here.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
