"""Two runs never use one GPU, and what a killed run held is free at once."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import until
from surroundings import as_nobody, pretend_gpus

from quickdraw_core.launching.gpus import (
    VISIBLE,
    devices_locked,
    gpu_waits,
    gpus_locked,
    rank_environment,
    visible_devices,
)
from quickdraw_core.system.child_environment import applied_environment

HOLD = (
    "import sys, time; from quickdraw_core.launching.gpus import devices_locked\n"
    "with devices_locked(('0', '1'), 1) as taken:\n"
    "    print(*taken, flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKDRAW_GPU_LOCKS", str(tmp_path))


@pytest.fixture
def holder() -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds one of two GPUs."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as it:
        try:
            yield it
        finally:
            it.kill()


def taken_by(holder: "subprocess.Popen[str]") -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def test_two_processes_get_different_gpus(holder: "subprocess.Popen[str]") -> None:
    theirs = taken_by(holder)
    with devices_locked(("0", "1"), 1) as ours:
        assert {theirs, *ours} == {"0", "1"}


def test_who_needs_more_than_are_free_takes_none_until_the_holder_dies(
    holder: "subprocess.Popen[str]",
) -> None:
    taken_by(holder)
    got: list[tuple[str, ...]] = []

    waited: list[float] = []

    def take() -> None:
        with gpu_waits() as waits, devices_locked(("0", "1"), 2) as both:
            got.append(both)
        waited.extend(waits)

    waiting = threading.Thread(target=take)
    waiting.start()
    time.sleep(1.5)
    assert not got
    with devices_locked(("0", "1"), 1):  # the one that is free was not kept meanwhile
        pass
    holder.kill()
    until(lambda: got, 300, "both GPUs")
    waiting.join()
    assert got == [("0", "1")]
    assert sum(waited) > 1  # seconds that are no work


def test_another_users_gpus_are_waited_for_whatever_their_umask() -> None:
    """Both lock the same file, which the second may not write."""
    before = os.umask(0o077)
    try:
        with devices_locked(("0",), 1):
            (lock,) = Path(os.environ["QUICKDRAW_GPU_LOCKS"]).iterdir()
            assert lock.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_lock_that_may_not_be_written_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with as_nobody() as folder:
        monkeypatch.setenv("QUICKDRAW_GPU_LOCKS", str(folder))
        lock = folder / "quickdraw-gpu-0.lock"
        lock.touch()
        lock.chmod(0o444)
        with devices_locked(("0",), 1) as taken:
            assert taken == ("0",)


def test_work_of_the_cpu_takes_none() -> None:
    with rank_environment(2, "cpu") as environment:
        assert environment == {}


def test_this_process_sees_what_it_took_and_afterwards_what_it_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    with applied_environment({VISIBLE: "1"}):
        assert os.environ[VISIBLE] == "1"
    assert VISIBLE not in os.environ


def test_gpus_are_named_as_this_process_was_told_them() -> None:
    assert visible_devices(2, {}) == ("0", "1")
    assert visible_devices(2, {VISIBLE: "GPU-a, GPU-b"}) == ("GPU-a", "GPU-b")
    assert visible_devices(0, {}) == ()


@pytest.fixture
def one_of_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with two, one of which the visible devices leave out."""
    pretend_gpus(monkeypatch, 1)
    monkeypatch.setenv(VISIBLE, "1")


@pytest.mark.usefixtures("one_of_two_gpus")
def test_a_training_is_shown_its_gpus_alone() -> None:
    with rank_environment(1) as environment:
        assert environment == {VISIBLE: "1"}


@pytest.mark.usefixtures("one_of_two_gpus")
def test_what_is_done_within_a_block_that_holds_gpus_locks_no_more() -> None:
    """As a sweep does, whose rows are judged in its process."""
    with devices_locked(("1",), 1), gpus_locked(1), rank_environment(1) as environment:
        assert environment == {}
    with rank_environment(1) as environment:
        assert environment == {VISIBLE: "1"}


@pytest.mark.usefixtures("one_of_two_gpus")
def test_the_gpus_that_a_training_is_given_are_locked_by_whoever_gave_them() -> None:
    """As a sweep does, whose slots name them."""
    with rank_environment(1, given={VISIBLE: "7", "OMP_NUM_THREADS": "2"}) as environment:
        assert environment == {VISIBLE: "7", "OMP_NUM_THREADS": "2"}
    with rank_environment(1, given={"OMP_NUM_THREADS": "2"}) as environment:
        assert environment == {VISIBLE: "1", "OMP_NUM_THREADS": "2"}
