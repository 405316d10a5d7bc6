"""The benchmark of the whole chain measures what it says, goes on after a kill, names faults."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_full
import pytest
from bench_full import CannotRunError
from bench_full_report import growth, page, write_figure
from bench_full_steps import STEPS, Chain, Record, Step, training_parts, write_test_file
from forkserver import real_python
from ingest_input import plan_classes
from process_usage import MappedFiles, Sample, Usage, measure

MIB = 1 << 20
FAMILY = """
import mmap, pathlib, subprocess, sys, time

path, stop, script = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
own = bytearray(96 << 20)
own[::4096] = bytes([1]) * len(own[::4096])
with open(path, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
child = [sys.executable, "-c", script, path, str(stop), ""]
running = subprocess.Popen(child) if script else None
while time.process_time() < 0.5:
    pass
assert not any(mapped[::4096])
while not stop.exists():
    time.sleep(0.01)
sys.exit(running.wait() if running else 0)
"""
"""A process and its child: each has 96 MiB of its own, and uses all of a file; then they wait."""


class Watch:
    """Looks at the mapped files, and has the processes end a while after two of them use all."""

    def __init__(self, mapped: MappedFiles, stop: Path, size: int) -> None:
        self.mapped, self.stop, self.size, self.complete = mapped, stop, size, 0

    def __call__(self, pids: Sequence[int]) -> None:
        self.mapped(pids)
        used = sum(process.resident_bytes for process in self.mapped.processes)
        self.complete += used == 2 * self.size
        if self.complete == 10:  # samples, of which each is followed by a pause
            self.stop.touch()


def test_time_and_memory_of_a_tree_count_by_kind_and_shared_pages_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MappedFiles, "SECONDS", 0.0)
    folder, stop, size = tmp_path / "pack", tmp_path / "stop", 48 * MIB
    folder.mkdir()
    (folder / "x").write_bytes(bytes(size))
    mapped = MappedFiles(folder)
    command = [real_python(), "-c", FAMILY, folder / "x", stop, FAMILY]
    usage = measure(command, look=Watch(mapped, stop, size))
    assert usage.cpu_seconds >= 1.0
    assert 192 * MIB <= usage.anonymous_bytes < 240 * MIB
    assert size <= usage.file_bytes < size + 40 * MIB
    assert usage.peak_bytes <= usage.anonymous_bytes + usage.file_bytes
    assert [process.resident_bytes for process in mapped.processes] == [size, size]
    assert [process.proportional_bytes for process in mapped.processes] == [size / 2, size / 2]
    assert all(process.anonymous_bytes >= 96 * MIB for process in mapped.processes)


def test_a_command_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [real_python(), "-c", "print('so it is'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match=r"exited with 3:\nso it is"):
        measure(command, log=log)
    assert log.read_text() == "so it is\n"


SAMPLES = tuple(Sample(100.0 + n, 2.0 * n, n * MIB, 10 * MIB) for n in range(11))
WHOLE = Usage(10.0, 20.0, SAMPLES)


def test_a_part_has_its_share_of_the_processor_time_and_its_own_peak() -> None:
    part = WHOLE.between(102.5, 106.5)
    assert (part.wall_seconds, part.cpu_seconds) == (4.0, 8.0)
    assert part.anonymous_bytes == 6 * MIB
    assert WHOLE.between(103.1, 103.2).anonymous_bytes == 3 * MIB  # the nearest sample's
    assert WHOLE.between(109.0, 111.0).cpu_seconds == 2.0  # what is after the last is not known


def test_a_training_is_cut_at_its_first_and_last_step_and_its_validation() -> None:
    steps = [(1, 104.0), (2, 105.0), (3, 107.0)]
    records: list[dict[str, Any]] = [{"tags": {"a": "b"}}]
    records += [
        {"step": step, "time_ms": at * 1_000, "metrics": {"train/loss": 1.0}} for step, at in steps
    ]
    records += [{"step": 3, "time_ms": 109_000, "metrics": {"validation/loss": 1.0}}]
    parts = dict(training_parts(WHOLE, records))
    assert {name: part.wall_seconds for name, part in parts.items()} == {
        "train: to the end of step 1": 4.0,
        "train: steps 2 to 3": 3.0,
        "train: validation": 2.0,
        "train on 2 ranks, all of it": 10.0,
    }


def row(wall: float, anonymous_mib: float) -> dict[str, Any]:
    return vars(Record(wall, 2 * wall, int(anonymous_mib * MIB), 7 * MIB, 9, 0.1))


def test_growth_faster_than_linear_and_memory_of_each_drawing_are_found() -> None:
    sizes = (1_000_000, 10_000_000)
    linear = growth(row(3, 100), row(30, 110), sizes)
    assert linear[:3] == pytest.approx((1.0, 1.0, 0.0))
    assert linear.faster == ()
    faster = growth(row(3, 100), row(90, 100), sizes)
    assert faster.wall == pytest.approx(1.48, abs=0.01)
    assert faster.faster == ("wall", "CPU")
    assert growth(row(0.01, 100), row(0.9, 100), sizes).faster == ()  # too short to say
    assert growth(row(3, 100), row(3, 100 + 9e6 * 8 / MIB), sizes).bytes_a_drawing == 8.0


def size_found(drawings: int, verify: dict[str, Any]) -> dict[str, Any]:
    half = {"resident_bytes": 40 * MIB, "proportional_bytes": 20 * MIB, "anonymous_bytes": MIB}
    found = {
        "ingest": {"rows": {"ingest": row(drawings / 1e5, 300)}, "store_bytes": drawings * 80},
        "pack": {"rows": {"pack": row(4, 200)}, "pack_bytes": 45 * MIB},
        "verify": {"rows": {"verify": verify}},
        "train": {"rows": {"train": row(60, 900)}, "shared": {"2": [half, half]}},
    }
    return {"machine": bench_full.machine(), "found": found}


def test_the_page_names_what_grows_and_shows_what_ranks_share() -> None:
    sizes = {n: size_found(n, row(n / 1e6, 100)) for n in (500_000, 5_000_000)}
    text = page(sizes, "python benchmarks/bench_full.py")
    assert "| ingest | 500,000 | 5.0 s | 10.0 s | 300 MiB | 7 MiB |  |" in text
    assert "|  | 5,000,000 | 50.0 s | 100.0 s | 300 MiB | 7 MiB | n^1.00, n^1.00 |" in text
    assert "Nothing grows faster than linearly" in text
    assert "| 5,000,000 | 2 | 2 | 1 MiB | 40 MiB | 80 MiB | 40 MiB | 45 MiB |" in text
    sizes[50_000_000] = size_found(50_000_000, row(200, 800))
    text = page(sizes, "")
    between = "from 5,000,000 to 50,000,000 drawings"
    assert f"- verify: wall time and CPU time grew faster than linearly {between}\n" in text
    assert f"- verify: anonymous memory grew by 16.3 bytes a drawing {between}\n" in text
    assert "n^1.60, n^1.60: **wall and CPU faster than linear**; **memory: 16.3 bytes" in text
    assert text.count("\n- ") == 2
    alone = page({500_000: sizes[500_000]}, "")
    assert "Nothing grows" not in alone
    assert "n^1" not in alone


def test_the_figure_is_written_for_one_size_and_for_more(tmp_path: Path) -> None:
    sizes = {500_000: size_found(500_000, row(1, 100))}
    for path in (tmp_path / "new" / "one.png", tmp_path / "more.png"):
        write_figure(sizes, path)
        assert path.read_bytes().startswith(b"\x89PNG")
        sizes[5_000_000] = size_found(5_000_000, row(10, 100))


@pytest.mark.parametrize("classes", [1, 3, 340])
def test_a_chain_has_as_many_drawings_as_asked_for(classes: int) -> None:
    chain = Chain(100_000, classes=classes)
    words = set(chain.words)
    assert len(words) == classes
    parts = plan_classes(chain.rows_of_all, chain.seed)
    sizes = [part.last - part.first for part in parts if part.word in words]
    assert abs(sum(sizes) - 100_000) <= classes
    assert chain.smallest_class == min(sizes)


def test_what_cannot_run_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: str) -> str:
        arguments = ["bench_full.py", "--folder", str(tmp_path), *words]
        monkeypatch.setattr(sys, "argv", arguments)
        assert bench_full.main() == 2
        return capsys.readouterr().err

    said = refused("--drawings", "30000")
    assert "leave 17 held-out ones in the smallest class, fewer than 100: give more" in said
    said = refused("--drawings", "9000000000")
    assert "9,000,000,000 drawings need about" in said
    assert "GB are free: give another --folder" in said
    assert "unknown recipe 'lptop'" in refused("--recipe", "lptop")
    assert "at least 340" in refused("--predicted", "7")
    assert "there are 340" in refused("--classes", "341")
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_killed_goes_on_after_its_last_whole_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    broken = True

    def make(name: str) -> Step:
        def run(chain: Chain, folder: Path) -> dict[str, Any]:
            assert not (folder / name).exists()
            (folder / name).mkdir()
            ran.append(name)
            if name == "second" and broken:
                raise RuntimeError("killed")
            return {"rows": {name: row(1, 1)}}

        return Step(run, leaves=(name,), obsolete=("first",) if name == "second" else ())

    monkeypatch.setattr(bench_full, "STEPS", {n: make(n) for n in ("first", "second", "third")})
    chain = Chain(1_000)
    with pytest.raises(RuntimeError, match="killed"):
        bench_full.measure_size(chain, tmp_path)
    assert not bench_full.is_measured(chain, tmp_path)
    with pytest.raises(CannotRunError, match=r"other options, \{'steps': 300\}"):
        bench_full.measure_size(Chain(1_000, steps=5), tmp_path)
    broken = False
    done = bench_full.measure_size(chain, tmp_path)
    assert ran == ["first", "second", "second", "third"]
    assert list(done["found"]) == ["first", "second", "third"]
    assert not (tmp_path / "first").exists()
    assert bench_full.is_measured(chain, tmp_path)
    bench_full.remove_data(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [bench_full.DONE_NAME]
    assert bench_full.measure_size(chain, tmp_path) == done
    assert len(ran) == 4


def test_the_test_file_has_kaggles_form(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    write_test_file(path, tmp_path / "made", 500, seed=1)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["key_id", "countrycode", "drawing"]
    assert len({row["key_id"] for row in rows}) == len(rows) == 500
    assert all(json.loads(row["drawing"]) for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["test.csv"]


@pytest.mark.services
@pytest.mark.forked
def test_the_whole_chain_runs_with_few_drawings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes are forked, so that their time and memory are not what a user's would be."""
    words = ["--drawings", "1500", "--classes", "3", "--per-class", "20", "--steps", "5"]
    words += ["--predicted", "400", "--recipe", "demo", "--no-warm-up"]
    words += ["--folder", str(tmp_path / "bench"), "--figure", str(tmp_path / "figure.png")]
    monkeypatch.setattr(sys, "argv", ["bench_full.py", *words])
    assert bench_full.main() == 0
    said = capsys.readouterr()
    assert said.out == (tmp_path / "bench" / "results.md").read_text()
    for name in ("ingest", "train: steps 2 to 5", "evaluate 60 drawings", "predict 400 rows"):
        assert f"| {name} | 1,500 |" in said.out
    assert "1,500 drawings need about 1.1 GB of disk in" in said.err
    left = {path.name for path in (tmp_path / "bench" / "1500").iterdir()}
    assert {"done.json", "train.log", "predict.log"} <= left
    assert not left & {"csv", "store", "run", "test.csv"}
    assert (tmp_path / "figure.png").exists()
    assert bench_full.main() == 0  # nothing is measured again
    assert capsys.readouterr() == (said.out, "")
    results = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert list(results["1500"]["found"]) == list(STEPS)
