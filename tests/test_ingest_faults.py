"""What a kill, a lost cluster, a full disk or a shrinking file may cost: time, and nothing else.

After each fault the same ingest is run again, and the store must be, byte for byte, the one of
a run that nothing disturbed.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dask_cluster import dask_cluster
from file_tree import tree

from quickdraw_core.cluster import patience
from quickdraw_core.errors import ClusterError, InputError
from quickdraw_core.ingest import tasks
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.ingest.result import IngestResult
from quickdraw_core.reading.windows import STRIDE
from quickdraw_core.storage.storage import Storage, WrittenFile
from quickdraw_core.store.manifest import CROISSANT_NAME, MANIFEST_NAME, README_NAME
from quickdraw_core.store.store import Store

KILLS = 12
WORDS = [f"w{number:02d}" for number in range(12)]
ROWS = 2 * STRIDE
LONG_ROWS = 70_000  # more than one window


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes of short drawings, one of them of two windows, some rows of them bad."""
    folder = tmp_path_factory.mktemp("faults") / "csv"
    folder.mkdir()
    for number, word in enumerate(WORDS):
        chance = random.Random(number)
        rows = LONG_ROWS if number == 5 else ROWS
        with (folder / f"{word}.csv").open("w") as file:
            file.write("countrycode,drawing,key_id,recognized,timestamp,word\n")
            for row in range(rows):
                x, y = chance.randrange(256), chance.randrange(256)
                key_id = ((number << 20) + row + 1) << 21
                text = (
                    f'US,"[[[{x}, {y}], [{y}, 7]]]",{key_id},True,2017-03-01 00:00:00.5,{word}\n'
                )
                file.write(text if row % 1000 != 999 else text.replace("]]]", "]]", 1))
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run that nothing disturbs writes: path → SHA-256."""
    return tree(run(source, tmp_path_factory.mktemp("undisturbed") / "store").store)


def run(source: Path, store: Path, **options: object) -> IngestResult:
    return ingest(IngestConfig.parse({"source": source, "store": store, "workers": 2} | options))


def receipts(store: Path) -> int:
    return len(list(store.glob("receipts/*/*.json")))


def when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Does `act` as soon as `condition` holds, beside the test."""

    def wait() -> None:
        deadline = time.monotonic() + 300
        while not condition():
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_run_killed_at_random_moments_comes_to_the_same_store(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    # A fork of a process that has everything imported gets to work at once, so the kills fall
    # into the work and not into the imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["quickdraw_core.ingest.make_store", "dask.threaded"])
    chance = random.Random(20)
    store = tmp_path / "store"

    def start() -> "multiprocessing.process.BaseProcess":
        process = context.Process(target=run, args=(source, store))
        process.start()
        return process

    whole = start()
    began = time.monotonic()
    whole.join(300)
    length_s = time.monotonic() - began
    assert whole.exitcode == 0
    assert tree(store) == undisturbed
    kills, in_mid_work = 0, 0
    while kills < KILLS:
        before = receipts(store)
        if (store / MANIFEST_NAME).exists() or before >= len(WORDS):
            shutil.rmtree(store)
            before = 0
        began = time.monotonic()
        process = start()
        if kills % 2:  # at any moment at all
            process.join(chance.uniform(0.1, 1.0) * length_s)
        else:  # shortly after one of the windows that are still to do
            target = chance.randint(before + 1, len(WORDS))
            while receipts(store) < target and process.exitcode is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.join(300)
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            in_mid_work += before < receipts(store) < len(WORDS) + 1
        else:  # it was done before, in less time than the first took
            length_s = min(length_s, time.monotonic() - began)
            assert process.exitcode == 0
            assert tree(store) == undisturbed
    assert in_mid_work >= KILLS // 4  # else the test does not test what it says
    run(source, store)
    assert tree(store) == undisturbed
    Store.open(store).verify()


def test_only_what_is_missing_is_read_again(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run(source, store)
    (store / MANIFEST_NAME).unlink()
    gone = sorted(store.glob("drawings/*/*.parquet"))[3:5]
    kept = {p: p.stat().st_mtime_ns for p in store.glob("drawings/*/*") if p not in gone}
    for path in gone:
        path.unlink()
    result = run(source, store)
    assert result.windows_reused == result.windows - 2
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert tree(store) == undisturbed


def test_a_killed_worker_costs_its_windows_a_second_reading(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with dask_cluster(tmp_path, workers=2) as (address, (_, first, _)):
        killer = when(lambda: receipts(store) >= 2, lambda: os.kill(first, signal.SIGKILL))
        run(source, store, dask=address)
        killer.join()
        assert os.waitpid(first, 0)[1] == signal.SIGKILL
    assert tree(store) == undisturbed


def test_a_killed_scheduler_ends_the_run_and_the_next_one_goes_on(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with dask_cluster(tmp_path, workers=1) as (address, (scheduler, _)):
        killer = when(lambda: receipts(store) >= 1, lambda: os.kill(scheduler, signal.SIGKILL))
        with pytest.raises(ClusterError, match="scheduler was lost"):
            run(source, store, dask=address)
        killer.join()
    assert not (store / MANIFEST_NAME).exists()
    assert run(source, store).windows_reused >= 1
    assert tree(store) == undisturbed


def test_a_cluster_that_has_no_worker_is_waited_for_and_then_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
    with (
        dask_cluster(tmp_path, workers=0) as (address, _),
        pytest.raises(ClusterError, match="had no worker for 1 s"),
    ):
        run(source, tmp_path / "store", dask=address)


def test_a_full_disk_is_said_and_more_room_is_all_it_takes(
    source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """On a file system of 64 MiB of which half of one is free, in a mount namespace of its own."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    code = (
        "import sys; from quickdraw_core.ingest.ingest import ingest;"
        "from quickdraw_core.ingest.config import IngestConfig;"
        "ingest(IngestConfig.parse({'source': sys.argv[1], 'store': sys.argv[2]}))"
    )
    script = """
        set -e
        python=$0 code=$1 source=$2 mounted=$3 copy=$4
        mount -t tmpfs -o size=64m none "$mounted"
        head --bytes=$((63 * 1024 * 1024 + 512 * 1024)) /dev/zero >"$mounted/ballast"
        if "$python" -c "$code" "$source" "$mounted/store"; then exit 9; fi
        if [ -e "$mounted/store/manifest.json" ]; then exit 8; fi
        rm "$mounted/ballast"
        "$python" -c "$code" "$source" "$mounted/store"
        cp -r "$mounted/store" "$copy"
    """
    words = [sys.executable, code, str(source), str(mounted), str(tmp_path / "copy")]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip("this machine lets nobody mount in a namespace of their own")
    assert done.returncode == 0, done.stderr
    assert "no space left on the device; make room" in done.stderr
    assert tree(tmp_path / "copy") == undisturbed


def test_a_file_that_shrinks_while_it_is_read_costs_that_file(
    source: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "csv"
    shutil.copytree(source, folder)  # keeps the times
    shrinking = folder / f"{WORDS[5]}.csv"
    status, whole = shrinking.stat(), shrinking.read_bytes()
    write_part = tasks.write_part

    def write_and_shrink(table: object, place: Storage, name: str) -> WrittenFile:
        written = write_part(table, place, name)
        if f"word={WORDS[5]}/" in name:
            os.truncate(shrinking, len(whole) // 2)
        return written

    monkeypatch.setattr(tasks, "write_part", write_and_shrink)
    store = tmp_path / "store"
    with pytest.raises(InputError, match=rf"{WORDS[5]}\.csv .*(changed|ended)"):
        run(folder, store, workers=1)
    monkeypatch.undo()
    assert receipts(store) >= len(WORDS) - 1  # all the others are done
    shrinking.write_bytes(whole)
    os.utime(shrinking, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(folder, store).windows_reused >= len(WORDS) - 1
    of_the_source = {MANIFEST_NAME, README_NAME, CROISSANT_NAME}  # they have its path
    ours = {path: digest for path, digest in tree(store).items() if path not in of_the_source}
    assert ours == {path: d for path, d in undisturbed.items() if path not in of_the_source}
