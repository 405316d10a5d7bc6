"""Threads sleep while they wait, are no more than the cores, and a user's own settings stay."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainings import train_config

from quickdraw_core.inference import predict as predicting
from quickdraw_core.launching.torch_launcher import launcher_environment
from quickdraw_core.sweep.row_slots import make_slots
from quickdraw_core.system import threads
from quickdraw_core.system.threads import (
    NUM_THREADS,
    WAITING,
    cgroup_limits,
    set_waiting,
    share_cores,
    threads_each,
    usable_cores,
)
from quickdraw_core.training.hardware import choose_loader_threads

ROOT = Path(__file__).resolve().parents[1]
USERS = [*WAITING, "KMP_BLOCKTIME"]


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of cores that this process may use."""

    def count(number: int) -> None:
        mask = set(range(3, 3 + number))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: mask, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(threads, "_OWN_CGROUPS", Path("not there"))

    return count


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing about threads."""
    for name in (*USERS, NUM_THREADS):
        monkeypatch.delenv(name, raising=False)


# A user's own settings


def test_threads_wait_asleep_where_nobody_says_how() -> None:
    environment = {"PATH": "/bin", "OMP_NUM_THREADS": "7"}
    set_waiting(environment)
    assert environment == {"PATH": "/bin", "OMP_NUM_THREADS": "7"} | WAITING


@pytest.mark.parametrize("name", USERS)
def test_a_users_own_way_of_waiting_is_not_mixed_with_ours(name: str) -> None:
    environment = {name: "active"}
    set_waiting(environment)
    assert environment == {name: "active"}


def test_a_users_own_number_of_threads_stays() -> None:
    environment = {NUM_THREADS: "5"}
    share_cores(environment, processes=2)
    assert environment == {NUM_THREADS: "5"} | WAITING


def test_what_was_set_once_is_not_changed_by_who_comes_after() -> None:
    first: dict[str, str] = {}
    share_cores(first, processes=1)
    second = dict(first)
    share_cores(second, processes=64)
    assert second == first


# Cores


@given(number=st.integers(1, 256), processes=st.integers(1, 300))
def test_processes_have_no_more_threads_than_there_are_cores(number: int, processes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "usable_cores", lambda: number)
        each = threads_each(processes)
    assert each >= 1
    assert each * processes <= max(number, processes)
    assert (each + 1) * processes > number


@pytest.mark.parametrize("number", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_ranks_model_and_loader_have_no_more_threads_than_cores(
    number: int, ranks: int, cores: Callable[[int], None], plain: None
) -> None:
    cores(number)
    config = train_config({"store": "store", "hardware.ranks": ranks})
    model = int(launcher_environment(config)[NUM_THREADS])
    assert ranks * (model + choose_loader_threads(config.hardware, "cpu")) <= max(number, ranks)
    # On a GPU one thread starts the kernels, and what draws is beside it; at least one has to.
    assert ranks * (1 + choose_loader_threads(config.hardware, "cuda")) <= max(number, 2 * ranks)


@pytest.mark.parametrize(("parallel", "ranks"), [(1, 1), (2, 2), (3, 1), (4, 2)])
def test_rows_of_a_sweep_at_once_have_no_more_threads_than_cores(
    parallel: int, ranks: int
) -> None:
    slots = make_slots(parallel, ranks, (), cores=8)
    each = [int(slot.environment({}).get(NUM_THREADS, 8 // ranks)) for slot in slots]
    assert sum(each) * ranks <= 8


def test_cores_are_those_that_this_process_may_use(cores: Callable[[int], None]) -> None:
    cores(3)
    assert usable_cores() == 3


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, [1.5]),  # a container
        ("0::/\n", {"cpu.max": "max 100000"}, []),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "300000 100000"}, [3, 0.5]),
        ("0::/gone\n", {}, []),
        ("0::/\n", {"cpu.max": "no number"}, []),
        (
            "4:cpu,cpuacct:/docker/1f\n1:memory:/m\n0::/\n",  # version 1
            {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
            [2],
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
    ],
)
def test_limits_of_a_cgroup(
    own: str, files: Mapping[str, str], limits: list[float], tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert list(cgroup_limits(tmp_path / "cgroups", tmp_path / "own")) == limits


@pytest.mark.parametrize(("quota", "expected"), [("10000", 1), ("250000", 3), ("900000", 4)])
def test_a_limit_of_time_limits_the_cores(
    quota: str, expected: int, cores: Callable[[int], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cores(4)
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "_OWN_CGROUPS", tmp_path / "own")
    assert usable_cores() == expected


# Who is started with these settings


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_share_the_cores_and_wait_asleep(
    ranks: int, cores: Callable[[int], None], plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(6)
    config = train_config({"store": "store", "hardware.ranks": ranks})
    environment = launcher_environment(config)
    assert environment.items() >= (WAITING | {NUM_THREADS: str(6 // ranks)}).items()
    assert (
        launcher_environment(config, {"OMP_WAIT_POLICY": "ACTIVE"}).get("GOMP_SPINCOUNT") is None
    )
    monkeypatch.setenv(NUM_THREADS, "4")
    assert launcher_environment(config)[NUM_THREADS] == "4"


def test_processes_that_evaluate_share_the_cores_and_wait_asleep(
    cores: Callable[[int], None], plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(6)
    given_to: list[dict[str, str]] = []

    def popen(*_: object, env: dict[str, str], **__: object) -> None:
        given_to.append(env)
        raise OSError("enough")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError, match="enough"):
        predicting._run(tmp_path, 2, lambda _: None)
    assert given_to[0].items() >= (WAITING | {NUM_THREADS: "3"}).items()


def test_a_command_sets_them_before_torch_is_loaded(plain: None) -> None:
    program = (
        "import os, sys; from quickdraw_core import cli; "
        "cli.app = lambda: print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'), "
        "os.environ.get('OMP_NUM_THREADS')); cli.main()"
    )
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "PASSIVE", "None"]


def test_a_worker_sets_them_for_its_runs(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("worker", ROOT / "infra" / "worker.py")
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    found: list[dict[str, str]] = []

    class Process:
        pid = 0

        def __init__(self, _: list[str]) -> None:
            found.append(dict(os.environ))

        def wait(self) -> int:
            return 7

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    assert worker.main(["--pool", "cpu"]) == 7
    assert found[0].items() >= WAITING.items()


def test_the_tests_themselves_wait_asleep() -> None:
    assert any(name in os.environ for name in USERS)
