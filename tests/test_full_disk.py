"""A disk that fills up in the middle of a stage: one clear error, and with more room the same
command goes on. On a small file system of its own, by every stage that writes to disk.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from run_folder import curve_of
from small_disk import SmallDisk, small_disk
from sweeps import TINY, table_file

from quickdraw_core.serving.bundle import is_bundle, open_bundle
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint

pytestmark = pytest.mark.services

NONE = ("--tracking-uri", "none")
KB = 1_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path, 48) as disk:
        yield disk


@dataclass(frozen=True)
class Case:
    """A command, how much room it finds, and what must not be there then, but at the end. code:
    it ends with; 2: it is refused before it starts.
    """

    words: str
    room_bytes: int
    made: str
    code: int = 1


SMALL = (
    "--nproc 1 --set model=net --set image.side_px=24 --set epochs=2 --set global_batch_size=64 "
    "--set micro_batch_size=64 --set augment=none --set validation.every_steps=3"
)
TRAIN = f"train --store {{store}} --run-dir {{disk}}/run {SMALL}"
CASES = {
    "generate": Case("generate {disk}/csv --classes 4 --rows 400", 500 * KB, "csv/*.csv"),
    "ingest": Case("ingest {csv} --store {disk}/store", 30 * KB, "store/manifest.json"),
    "pack": Case(
        f"train --store {{disk}}/store --run-dir run {SMALL}", 40 * KB, "store/pack/*/pack.json", 2
    ),
    "evaluate": Case(
        "evaluate {run} --store {store} --per-class 20 --allow-short --report-dir {disk}/report",
        40 * KB,
        "report/outputs.json",
    ),
    "compare": Case(
        "compare {run} {run}/checkpoints/{first} --store {store} --per-class 20 --allow-short "
        "--out {disk}/compared",
        4 * KB,
        "compared/comparison.html",
    ),
    "predict": Case(
        "predict {run} {csv}/sun.csv --out {disk}/submission.csv", 3 * 4_096, "submission.csv"
    ),
    "sweep": Case(
        "sweep {table} --rows Right --store {store} --per-class 20 --run-dir {disk}/sweep",
        200 * KB,
        "sweep/*/evaluation/outputs.json",
    ),
    "export": Case("export {run} --out {disk}/bundle", 60 * KB, "bundle/bundle.json"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.soak) if n == "sweep" else n for n in CASES],
)
def test_a_full_disk_is_one_line_and_with_more_room_the_same_command_ends(
    name: str,
    disk: SmallDisk,
    trained: Path,
    store: Store,
    csv_folder: Path,
    tmp_path: Path,
) -> None:
    case, first = CASES[name], min((trained / "checkpoints").glob("*.pt")).name
    places = {"disk": disk.inside, "store": store.path, "run": trained, "csv": csv_folder}
    table = table_file(tmp_path, TINY)
    words = case.words.format(**places, first=first, table=table).split()
    words += NONE if words[0] not in ("generate", "ingest") else ()
    if name == "pack":
        shutil.copytree(store.path, disk.outside / "store", ignore=shutil.ignore_patterns("pack"))
    disk.fill(case.room_bytes)
    full = disk.quickdraw(*words)
    require_one_line(full.returncode, full.stderr, case.code)
    assert len(list(disk.outside.glob(case.made))) < 4
    if name != "generate":  # whose words stand for themselves
        assert not list(disk.outside.glob(case.made))
    disk.make_room()
    again = disk.quickdraw(*words)
    assert again.returncode == 0, again.stderr
    assert list(disk.outside.glob(case.made))
    assert not list(disk.outside.rglob("*.tmp"))
    if name == "export":
        assert is_bundle(open_bundle(disk.outside / "bundle").path)


def require_one_line(code: int, told: str, expected: int = 1) -> None:
    assert code == expected, told
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "no space left on the device" in line or "disk" in line
    assert "make room" in line
    assert "Traceback" not in told


def test_a_training_goes_on_from_its_last_whole_checkpoint_and_is_promoted(
    disk: SmallDisk, trained: Path, store: Store, empty_database: Path
) -> None:
    """With MLflow's database on the same disk."""
    shutil.copy(empty_database, disk.outside / "mlflow.db")
    tracked = ("--tracking-uri", f"sqlite:///{disk.inside}/mlflow.db")
    words = [*TRAIN.format(disk=disk.inside, store=store.path).split(), *tracked]
    run = disk.outside / "run"
    disk.fill(100 * KB)  # less than its checkpoints need
    refused = disk.quickdraw(*words)
    require_one_line(refused.returncode, refused.stderr, 2)
    assert not run.exists()
    disk.make_room()

    words += ["--set", "epochs=20", "--set", "validation.every_steps=20"]
    filler = threading.Thread(target=_fill_once_saved, args=(disk,))
    filler.start()
    full = disk.quickdraw(*words)
    filler.join()
    require_one_line(full.returncode, full.stderr)
    last = find_checkpoint(run, "last")
    assert last is not None
    before = load_checkpoint(last)
    assert not before.finished
    disk.make_room()
    again = disk.quickdraw(*words)
    assert again.returncode == 0, again.stderr
    last = find_checkpoint(run, "last")
    assert last is not None
    assert load_checkpoint(last).finished
    steps = [step for step, key in curve_of(run) if key == "train/loss"]  # each point once
    assert max(steps) == load_checkpoint(last).step
    assert not list(run.rglob("*.tmp"))

    words = ["promote", str(disk.inside / "run"), "--store", str(store.path), *tracked]
    words += ["--per-class", "20", "--allow-short"]
    disk.fill(0)
    full = disk.quickdraw(*words)
    require_one_line(full.returncode, full.stderr)
    disk.make_room()
    again = disk.quickdraw(*words)
    assert again.returncode == 0, again.stderr
    assert "champion" in again.stdout


def _fill_once_saved(disk: SmallDisk) -> None:
    """Takes the room of a training's next checkpoint when it has written the first."""
    last, deadline = disk.outside / "run" / "checkpoints" / "last", time.monotonic() + 240
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    disk.fill(last.with_name(last.read_text().strip()).stat().st_size // 2)
