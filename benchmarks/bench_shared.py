"""What training and prediction keep of their speed beside other work on the same cores.

    python benchmarks/bench_shared.py [--rounds 3] [--seconds 6] [--own-sessions]

Other work is one or two processes of `while True: pass` at nice 19. Each row of `JOBS` runs twice:
"before", where libgomp's threads wait as they do by themselves (they spin for 300,000 turns) and a
further thread draws, and "after", with the settings that the project chooses. All of these are
started once and stopped (SIGSTOP); in each round, beside none, one and two busy processes, each
goes on for some seconds while the others stand still. The median of the rounds counts. The share
of the cores that anything else on the machine took is measured, too: of the `--tries` of a
measurement the one with the least of it counts, the first if that is under 2 %.

Training is `train` itself with the recipe `laptop`, its speed that of the steps in its journal.
Prediction is `predict_rows` over the held-out drawings, again and again.

A kernel that groups processes by session (`sched_autogroup_enabled`) heeds nice within a session
alone, and shares the cores out to sessions evenly. The busy processes are of this one's session
unless --own-sessions. Ranks are of sessions of their own, since torch's launcher starts them so.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TextIO

import psutil

from quickdraw_core.assignments import merged
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.predict import predict_rows
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.train import train
from quickdraw_core.recipes import find_recipe
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.system.threads import set_waiting
from quickdraw_core.tracking.journal import follow

WORDS, ROWS, BATCH = 24, 500, 256
BUSY = (0, 1, 2)
WARM_EVENTS = 10
SETTLE_SECONDS = 1.0
LEAST_EVENTS = 5
"""A measurement goes on until so many steps or batches have ended, but no longer than"""
MOST_SECONDS = 30.0
LITTLE = 0.02
"""Share of the cores that others may take."""
THREADS = ("OMP_", "GOMP_", "KMP_", "MKL_")


@dataclass(frozen=True)
class Settings:
    """Variables of a job's processes, and changes of its configuration."""

    variables: Mapping[str, str]
    changes: Mapping[str, object]


SETTINGS = {
    # libgomp's own number of turns: as a user's own variable it wins over the project's.
    "before": Settings({"GOMP_SPINCOUNT": "300000"}, {"hardware": {"loader_threads": 1}}),
    "after": Settings({}, {}),
}

JOBS: dict[str, dict[str, dict[str, int]]] = {
    "training, one rank": {"hardware": {"ranks": 1}},
    "training, two ranks": {"hardware": {"ranks": 2}},
    "prediction": {},
}
"""What is set in the configuration; prediction has none."""


@dataclass(frozen=True)
class Job:
    """A running job: its process, and the file of lines `seconds images` that it appends to."""

    process: "subprocess.Popen[bytes]"
    done: Path

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process and all of its children."""
        whole = psutil.Process(self.process.pid)
        for one in [whole, *whole.children(recursive=True)]:
            one.send_signal(number)

    def measured(self, seconds: float, beside: list["subprocess.Popen[bytes]"]) -> "Measured":
        """Its speed beside some busy processes, and what others on the machine took meanwhile."""
        ours = [psutil.Process(process.pid) for process in (self.process, *beside)]
        before, begun = used_seconds(ours), time.monotonic()
        rate = self.rate(seconds)
        used = [now - then for now, then in zip(used_seconds(ours), before, strict=True)]
        others = (used[0] - used[1]) / (time.monotonic() - begun) / len(os.sched_getaffinity(0))
        return Measured(max(0, others), rate)

    def rate(self, seconds: float) -> float:
        """Images a second, of the time between two ends of steps, while it goes on."""
        self.send(signal.SIGCONT)
        begun = time.monotonic()
        points: list[tuple[float, int]] = []
        try:
            while time.monotonic() < begun + MOST_SECONDS:
                time.sleep(0.1)
                if self.process.poll() is not None:
                    sys.exit(f"a job ended with exit code {self.process.returncode}")
                points = [point for point in self.points() if point[0] > begun + SETTLE_SECONDS]
                over = time.monotonic() > begun + SETTLE_SECONDS + seconds
                if over and len(points) > LEAST_EVENTS:
                    break
        finally:
            self.send(signal.SIGSTOP)
        if len(points) < 2:
            return 0.0
        (first, some), (last, more) = points[0], points[-1]
        return (more - some) / (last - first)

    def points(self) -> list[tuple[float, int]]:
        """When (monotonic seconds) how many images were done."""
        if not self.done.exists():
            return []
        lines = self.done.read_text().split("\n")[:-1]
        return [(float(at), int(images)) for at, images in (line.split() for line in lines)]


class Measured(NamedTuple):
    """The share of the cores that others took, and images a second."""

    others: float
    rate: float


NOISY = Measured(1, 0)


def used_seconds(ours: list[psutil.Process]) -> tuple[float, float]:
    """Seconds of processor time that all processes have used, and that these have."""
    whole = psutil.cpu_times()
    every = [one for process in ours for one in [process, *process.children(recursive=True)]]
    times = [one.cpu_times() for one in every]
    return (
        whole.user + whole.nice + whole.system + whole.irq + whole.softirq + whole.steal,
        sum(time.user + time.system for time in times),
    )


def train_endlessly(store: Path, folder: Path, changes: Mapping[str, object]) -> None:
    """In a job's process: a training, whose ends of steps a thread copies from the journal."""
    values = {"store": store, "run_dir": folder / "run", "epochs": 10_000}
    values |= {"tracking": {"uri": "none", "log_every_steps": 1}}
    values |= {"validation": {"every_steps": 10**9}, "checkpoints": {"every_steps": 10**9}}
    # The ranks are stopped between the measurements.
    values |= {"hardware": {"timeout_seconds": 3_600}}
    config = find_recipe("laptop").updated(values).updated(changes)

    def copy(done: TextIO) -> None:
        seen, journal = 0, folder / "run" / "journal.jsonl"
        while True:
            time.sleep(0.01)
            records, seen = follow(journal, seen) if journal.exists() else ([], 0)
            for record in records:
                if "train/loss" in record.get("metrics", {}):
                    images = record["step"] * config.global_batch_size
                    print(record["time_ms"] / 1_000 - ahead, images, file=done)

    ahead = time.time() - time.monotonic()
    with (folder / "done").open("w", buffering=1) as done:
        threading.Thread(target=copy, args=(done,), daemon=True).start()
        train(config)


def predict_endlessly(store: Path, folder: Path, changes: Mapping[str, object]) -> None:
    """In a job's process: the held-out drawings again and again; each batch is a line."""
    pack, models = open_pack(Store.open(store)), load_models([str(store.parent / "model")])
    rows, total = pack.test_rows(100), 0
    members = (replace(m, config=m.config.updated(changes)) for m in models.members)
    models = Ensemble(tuple(members))
    with (folder / "done").open("w", buffering=1) as done:

        def advance(images: int) -> None:
            nonlocal total
            total += images
            print(time.monotonic(), total, file=done)

        while True:
            predict_rows(models, pack, rows, BATCH, advance)


@contextmanager
def started(job: str, settings: Settings, work: Path, folder: Path) -> Iterator[Job]:
    """A job that has done its first steps, and is stopped there."""
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(THREADS)}
    environment |= settings.variables
    set_waiting(environment)  # as the command `quickdraw` does
    changes = json.dumps(merged(settings.changes, JOBS[job]))
    command = [sys.executable, __file__, "--job", str(work / "store"), str(folder), changes]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent
        )
    running = Job(process, folder / "done")
    try:
        while len(running.points()) < WARM_EVENTS:
            if process.poll() is not None:
                sys.exit((folder / "log.txt").read_text())
            time.sleep(0.1)
        running.send(signal.SIGSTOP)
        yield running
    finally:
        if process.poll() is None:
            running.send(signal.SIGKILL)
        process.wait()


@contextmanager
def busy(count: int, own_sessions: bool) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """So many processes that compute without end, at nice 19."""
    command = ["nice", "-n", "19", sys.executable, "-c", "while True: pass"]
    with ExitStack() as stack:
        processes = []
        for _ in range(count):
            processes.append(
                subprocess.Popen(
                    command, start_new_session=own_sessions, preexec_fn=die_with_parent
                )
            )
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        yield processes


def prepare(work: Path) -> None:
    """A store of doodles, and the run folder of a model that has seen a few batches."""
    generate_csvs(work / "csv", default_words(WORDS), ROWS, seed=0)
    ingest(IngestConfig(source=work / "csv", store=work / "store"))
    changes = {"store": work / "store", "run_dir": work / "model", "tracking": {"uri": "none"}}
    train(find_recipe("laptop").updated(changes | {"epochs": 0.05, "model": {"flip_tta": False}}))


Results = dict[tuple[str, str, int], list[Measured]]


def measure(
    work: Path,
    settings: Mapping[str, Settings],
    rounds: int,
    seconds: float,
    own_sessions: bool,
    tries: int = 1,
    on_measured: Callable[[str, str, int, Measured], None] = lambda *_: None,
    jobs: tuple[str, ...] = tuple(JOBS),
) -> Results:
    """Speeds by job, settings and number of busy processes: one a round."""
    prepare(work)
    results: Results = {}
    with ExitStack() as stack:
        running = {
            (job, name): stack.enter_context(started(job, some, work, work / f"{number}-{name}"))
            for number, job in enumerate(jobs)
            for name, some in settings.items()
        }
        for _ in range(rounds):
            for count in BUSY:
                for (job, name), one in running.items():
                    found: list[Measured] = []
                    while len(found) < tries and min(found, default=NOISY).others > LITTLE:
                        with busy(count, own_sessions) as beside:
                            found.append(one.measured(seconds, beside))
                    results.setdefault((job, name, count), []).append(min(found))
                    on_measured(job, name, count, min(found))
    return results


def main() -> None:
    if sys.argv[1:2] == ["--job"]:
        store, folder, changes = sys.argv[2:]
        values = json.loads(changes)
        work = train_endlessly if "ranks" in values.get("hardware", {}) else predict_endlessly
        work(Path(store), Path(folder), values)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--tries", type=int, default=3, help="of a measurement, at most")
    parser.add_argument("--own-sessions", action="store_true", help="of the busy processes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(
            Path(folder),
            SETTINGS,
            options.rounds,
            options.seconds,
            options.own_sessions,
            options.tries,
        )
    others = [measured.others for row in results.values() for measured in row]
    print(f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {len(os.sched_getaffinity(0))} cores, "
          f"Linux {platform.release()}, Python {platform.python_version()}, torch "
          f"{version('torch')}; autogroups {autogroups()}, busy processes of "
          f"{'sessions of their own' if options.own_sessions else 'this session'}; median of "
          f"{options.rounds} rounds, images/s; others took {statistics.median(others):.1%} of the "
          f"cores (median; at most {max(others):.0%})\n")  # fmt: skip
    print("| job | settings | quiet | beside one | kept | beside two | kept |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for job in JOBS:
        for name in SETTINGS:
            rows = [results[job, name, count] for count in BUSY]
            quiet, one, two = (statistics.median(each.rate for each in row) for row in rows)
            print(f"| {job} | {name} | {quiet:,.0f} | {one:,.0f} | {one / quiet:.0%} | "
                  f"{two:,.0f} | {two / quiet:.0%} |")  # fmt: skip


def processor() -> str:
    """The processor's name, as Linux has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


def autogroups() -> str:
    """Whether the kernel shares the cores out by session."""
    path = Path("/proc/sys/kernel/sched_autogroup_enabled")
    return "on" if path.exists() and path.read_text().strip() == "1" else "off"


if __name__ == "__main__":
    main()
