"""Sub-processes of Dask workers: their lines, their ends, and that none outlives who waits."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import dask_command, dask_hosts
from processes import children_of

from quickdraw_core.cluster import connect, shared_folder, worker_process, workers
from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.cluster.connect import connected, quiet_dask
from quickdraw_core.cluster.shared_folder import check_shared
from quickdraw_core.cluster.worker_process import WorkerProcess, worker_processes
from quickdraw_core.cluster.workers import check_versions, survey
from quickdraw_core.errors import ClusterError
from quickdraw_core.progress import SILENT
from quickdraw_core.sweep.on_workers import RowHosts

HOSTS = ("127.0.0.1", "127.0.0.2")
WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
FOLLOWS = f"""
import sys, time
from quickdraw_core.cluster.connect import connected
from quickdraw_core.cluster.worker_process import worker_processes
with connected(sys.argv[1], None) as client:
    with worker_processes(client, [(None, ["-c", {WAITS!r}])], {{}}, {{}}) as [process]:
        while True:
            process.poll(lambda lines: print(*lines, flush=True))
            time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ("--resources", "GPU=1")
    with dask_hosts(tmp_path_factory.mktemp("dask"), (*HOSTS, HOSTS[0]), *options) as (address, _):
        yield address


@pytest.fixture
def client(cluster: str) -> Iterator[Any]:
    with connected(cluster, None) as made:
        made.wait_for_workers(3, timeout=300)
        yield made


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pid_of(process: WorkerProcess) -> int:
    lines: list[str] = []
    until(lambda: process.poll(lines.extend) is None and lines)
    return int(lines[0])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A block in which a process hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def topics(client: Any) -> list[str]:
    """What the scheduler keeps events of."""
    kept = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler._broker._topics])
    return [topic for topic in kept if topic.startswith(workers.PROCESS_KEY)]


def test_lines_and_exit_codes_come_back(client: Any) -> None:
    program = (
        "import os, sys; print('über', os.environ['NAME'], flush=True); "
        "sys.stderr.write('end'); sys.exit(3)"
    )
    [first, second] = survey(client, {"GPU": 1}).free
    commands = [(worker, ["-c", program]) for worker in (second, first)]
    lines: list[str] = []
    with worker_processes(client, commands, {"NAME": "x"}, {"GPU": 1}) as processes:
        for process in processes:
            until(lambda p=process: p.poll(lines.extend) is not None)  # type: ignore[misc]
        assert [process.poll() for process in processes] == [3, 3]
        assert [process.host for process in processes] == [HOSTS[1], HOSTS[0]]
        assert len(topics(client)) == 2
    assert topics(client) == []
    assert sorted(lines) == ["end", "end", "über x", "über x"]


def test_a_process_ends_with_the_block_that_waits_for_it(client: Any) -> None:
    with worker_processes(client, [(None, ["-c", WAITS])], {}, {}) as [process]:
        pid = pid_of(process)
        assert is_alive(pid)
    assert not is_alive(pid)
    assert topics(client) == []


def test_an_exit_code_whose_event_is_lost_is_what_the_task_returned(client: Any) -> None:
    with worker_processes(client, [(None, ["-c", "raise SystemExit(5)"])], {}, {}) as [process]:
        client._event_handlers[process._key] = lambda event: None
        until(lambda: process.poll() is not None)
        assert process.poll() == 5


@pytest.mark.services  # a command of its own, killed: 4 s
def test_a_process_ends_when_who_waits_for_it_is_killed(cluster: str) -> None:
    command = [sys.executable, "-c", FOLLOWS, cluster]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        pid = int(following.stdout.readline())
        assert is_alive(pid)
        following.kill()
    until(lambda: not is_alive(pid))
    # Its events stay with the scheduler until another command is done with its own.
    with connected(cluster, None) as client:
        assert len(topics(client)) == 1
        with worker_processes(client, [(None, ["-c", "pass"])], {}, {}) as [process]:
            until(lambda: process.poll() is not None)
        assert topics(client) == []


def test_a_scheduler_that_hangs_is_given_up_after_a_while(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(cluster, None) as client:
        scheduler = client.run_on_scheduler(os.getpid)
        with worker_processes(client, [(None, ["-c", WAITS])], {}, {}) as [process]:
            pid = pid_of(process)
            monkeypatch.setattr(connect, "_ANSWER_SECONDS", 0.5)
            monkeypatch.setattr(connect, "_AGAIN_SECONDS", 0.1)
            monkeypatch.setattr(worker_process, "_LOOK_SECONDS", 0.1)
            with (
                stopped(scheduler),
                pytest.raises(ClusterError, match=r"not answered for 0\.5 s; start it again"),
            ):
                until(lambda: process.poll() is not None)
            monkeypatch.setattr(connect, "_AGAIN_SECONDS", 300)
            assert survey(client, {}).hosts == 2  # it answers again
        assert not is_alive(pid)


def test_a_worker_that_hangs_is_left_out_and_the_others_work(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a sweep share a client: what one of them meets is not to end the others."""
    pids = client.run(os.getpid)
    rows, stopping = RowHosts(client, lambda: None, ClusterConfig()), threading.Event()
    with (
        rows._host({}, stopping, SILENT) as hangs,
        rows._host({}, stopping, SILENT) as works,
        worker_processes(client, [(hangs, ["-c", WAITS])], {}, {}) as [hanging],
    ):
        assert hangs is not None
        assert works is not None
        pid_of(hanging)
        beside = [pid for address, pid in pids.items() if workers.host_of(address) == hangs.host]
        with stopped(beside[0]), stopped(beside[-1]), monkeypatch.context() as patch:
            patch.setattr(workers, "_ANSWER_SECONDS", 5)
            found = survey(client, {})
            assert [worker.host for worker in found.free] == [works.host]
            assert found.unfit == {hangs.host: "does not answer"}
            check_versions(client, "")
            commands = [(works, ["-c", "raise SystemExit(3)"])]
            with worker_processes(client, commands, {}, {}) as [process]:
                until(lambda: hanging.poll() is None and process.poll() is not None)
                assert process.poll() == 3
            patch.setattr(shared_folder, "_SEEN_SECONDS", 1)
            with pytest.raises(ClusterError, match=rf"worker on {hangs.host} does not answer"):
                check_shared(client, [works, hangs], tmp_path, "")
    until(lambda: survey(client, {}).hosts == 2)


def test_a_client_that_lost_its_scheduler_for_good_is_replaced(client: Any, cluster: str) -> None:
    with connected(cluster, None) as lost:
        pass
    rows = RowHosts(lost, lambda: client, ClusterConfig())
    assert rows._survey({}).hosts == 2


@pytest.mark.services  # a cluster of its own, whose workers are killed: 20 s
def test_a_process_ends_with_its_worker_and_that_is_said(tmp_path: Path) -> None:
    with (
        dask_hosts(tmp_path, HOSTS) as (address, pids),
        connected(address, None) as client,
    ):
        client.wait_for_workers(2, timeout=300)
        by_address = client.run(os.getpid)
        worker = survey(client, {}).free[1]
        with worker_processes(client, [(worker, ["-c", WAITS])], {}, {}) as [process]:
            pid = pid_of(process)
            assert by_address[worker.address] in pids
            os.kill(by_address[worker.address], 9)
            with pytest.raises(ClusterError, match=r"worker on 127\.0\.0\.2 was lost; run again"):
                until(lambda: process.poll() is not None)
            until(lambda: not is_alive(pid))
        with worker_processes(client, [(None, ["-c", WAITS])], {}, {}) as [process]:
            pid_of(process)
            [left] = client.nthreads()
            os.kill(by_address[left], 9)
            # With any worker it waits for another one, and nobody waits for it at the end.
            until(lambda: process.poll() is None and process.host is None)
        folder = str(tmp_path / "nanny")
        words = ("--host", HOSTS[0], "--no-dashboard", "--nthreads", "1", "--local-directory")
        with dask_command("worker", address, *words, folder) as nanny:
            client.wait_for_workers(1, timeout=300)
            (worker,) = survey(client, {}).free
            with worker_processes(client, [(worker, ["-c", WAITS])], {}, {}) as [process]:
                pid = pid_of(process)
                (beneath,) = children_of("--multiprocessing-fork", nanny.pid)
                os.kill(beneath, 9)
                with pytest.raises(ClusterError, match=r"was lost; run again|again meanwhile"):
                    until(lambda: process.poll() is not None)
                until(lambda: not is_alive(pid))
            # Its nanny starts it again: another worker, on which a retry goes on.
            until(lambda: [found.id for found in survey(client, {}).free] not in ([], [worker.id]))
            with worker_processes(client, [(None, ["-c", WAITS])], {}, {}) as [process]:
                pid_of(process)


def test_a_worker_that_was_started_again_starts_nothing(client: Any) -> None:
    worker = survey(client, {}).free[0]
    other = workers.Worker(worker.address, "Worker-of-before", worker.host)
    with (
        worker_processes(client, [(other, ["-c", WAITS])], {}, {}) as [process],
        pytest.raises(ClusterError, match="it was started again meanwhile"),
    ):
        until(lambda: process.poll() is not None)


def test_a_survey_finds_a_worker_of_each_host_and_says_why_others_cannot_work(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, busy, unfit = survey(client, {"GPU": 1})
    assert ([worker.host for worker in free], busy, unfit) == ([*HOSTS], [], {})
    with worker_processes(client, [(free[0], ["-c", WAITS])], {}, {}) as [process]:
        pid_of(process)
        during = survey(client, {})
        assert [[worker.host for worker in found] for found in during[:2]] == [
            [HOSTS[1]],
            [HOSTS[0]],
        ]
        assert during.hosts == 2
    found = survey(client, {"GPU": 2})
    assert found.hosts == 0
    assert found.unfit_text() == "; ".join(f"{host} has 1 of the resource GPU" for host in HOSTS)
    monkeypatch.setattr(workers, "package_version", lambda: "later")
    assert "127.0.0.1 has another version of this package (" in survey(client, {}).unfit_text()


def test_a_shared_folder_is_found_to_be_one_and_left_as_it_was(
    client: Any, tmp_path: Path
) -> None:
    old, new = (tmp_path / f"{shared_folder._PREFIX}{name}" for name in ("killed", "at-work"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    check_shared(client, survey(client, {}).free, tmp_path, "")
    assert [*tmp_path.iterdir()] == [new]


@pytest.mark.parametrize(("error", "told"), [(TimeoutError("Timeout"), 0), (OSError("lost"), 1)])
def test_a_timer_that_nobody_waits_for_any_more_says_nothing(
    error: Exception, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()

    quiet_dask()
    asyncio.run(leave())
    assert len(caplog.records) == told
