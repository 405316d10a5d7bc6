"""How hosts agree on an attempt: in any order, anew each time, and not with what is gone."""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from trainings import train_config

from quickdraw_core.errors import ConfigError, TrainingError
from quickdraw_core.launching import launch, rendezvous
from quickdraw_core.launching.rendezvous import (
    Attempt,
    address_towards,
    gather_hosts,
    interface_of,
    join_attempt,
    release_hosts,
)
from quickdraw_core.training.config import HostsConfig
from quickdraw_core.training.run_folder import RunFolder

Met = Future[tuple[Attempt, str]]


def host(number: int, nodes: int = 2, wait_seconds: int = 60) -> HostsConfig:
    values = {"nodes": nodes, "node_rank": number, "rendezvous": "127.0.0.1:29400"}
    return HostsConfig.parse(values | {"wait_seconds": wait_seconds})


def comes(pool: ThreadPoolExecutor, run_dir: Path, number: int, nodes: int) -> Met:
    if number == 0:
        return pool.submit(gather_hosts, run_dir, host(0, nodes), "run", 7, None)
    return pool.submit(join_attempt, run_dir, host(number, nodes), None)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
def test_hosts_meet_in_any_order_and_under_another_id_each_time(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    ids = set()
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            met = []
            for number in order:
                met.append(comes(pool, tmp_path, number, 3))
                time.sleep(0.3)
            found = [one.result(60) for one in met]
        assert {address for _, address in found} == {"127.0.0.1"}
        assert all(attempt == found[0][0] for attempt, _ in found)
        assert (found[0][0].run, found[0][0].step) == ("run", 7)
        ids.add(found[0][0].id)
        assert [path.name for path in (tmp_path / "hosts").iterdir()] == ["attempt.json"]
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("endpoint", "where"),
    [
        ("127.0.0.1:29400", r"127\.0\.0\.1:29400"),
        ("127.0.0.1:0", r"127\.0\.0\.1:2\d{4}"),
        ("localhost:0", r"127\.0\.0\.1:2\d{4}"),
    ],
)
def test_a_port_that_is_not_given_is_one_that_is_free_on_host_0(
    endpoint: str, where: str, tmp_path: Path
) -> None:
    hosts = [host(number).updated({"rendezvous": endpoint}) for number in (0, 1)]
    with ThreadPoolExecutor(1) as pool:
        met = pool.submit(gather_hosts, tmp_path, hosts[0], "run", 0, None)
        attempt, _ = join_attempt(tmp_path, hosts[1], None)
    assert attempt == met.result(60)[0]
    assert re.fullmatch(where, attempt.endpoint)


def test_a_port_on_which_somebody_listens_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("", 0))
        listening.listen()
        taken = listening.getsockname()[1]
        monkeypatch.setattr(rendezvous, "_PORTS", [taken])
        with pytest.raises(TrainingError, match=f"no port from {taken} to {taken} is free"):
            rendezvous.free_port()


def test_a_host_that_was_killed_while_it_waited_is_not_counted(tmp_path: Path) -> None:
    left = tmp_path / "hosts" / "host-1.json"
    left.parent.mkdir()
    left.write_text(json.dumps({"token": "gone", "beat": 5, "address": "127.0.0.1"}))
    with pytest.raises(TrainingError, match=r"host 1 of 2 has not come to .* for 2 s"):
        gather_hosts(tmp_path, host(0, wait_seconds=2), "run", 0, None)
    with ThreadPoolExecutor(1) as pool:
        met = comes(pool, tmp_path, 0, 2)
        time.sleep(0.5)
        attempt, _ = join_attempt(tmp_path, host(1), None)
        assert attempt == met.result(60)[0]
    assert attempt.tokens["1"] != "gone"


def test_the_word_of_an_earlier_attempt_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    word = {"id": "old", "run": "run", "step": 0, "tokens": {"1": "gone"}}
    (tmp_path / "hosts" / "attempt.json").write_text(json.dumps(word))
    with pytest.raises(TrainingError, match=r"host 0 has begun no attempt in .* for 1 s"):
        join_attempt(tmp_path, host(1, wait_seconds=1), None)
    assert not (tmp_path / "hosts" / "host-1.json").exists()


def test_who_waits_goes_when_nothing_is_left_to_train(tmp_path: Path) -> None:
    release_hosts(tmp_path, host(0), "run", 9)
    assert not (tmp_path / "hosts").exists()
    with ThreadPoolExecutor(1) as pool:
        waiting = comes(pool, tmp_path, 1, 2)
        until((tmp_path / "hosts" / "host-1.json").exists)
        release_hosts(tmp_path, host(0), "run", 9)
        attempt, _ = waiting.result(60)
    assert (attempt.id, attempt.step) == ("", 9)


def test_waiting_can_be_stopped(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(KeyboardInterrupt):
        gather_hosts(tmp_path, host(0), "run", 0, stopping)
    with pytest.raises(KeyboardInterrupt):
        join_attempt(tmp_path, host(1), stopping)
    assert not list((tmp_path / "hosts").iterdir())


def test_the_address_is_that_of_the_network_in_which_the_other_host_is() -> None:
    assert address_towards("127.0.0.1:29400") == "127.0.0.1"
    assert address_towards("127.0.0.1") == "127.0.0.1"
    with pytest.raises(ConfigError, match=r"this host cannot reach nowhere\.invalid"):
        address_towards("nowhere.invalid:29400")
    assert interface_of("203.0.113.9") is None
    if sys.platform.startswith("linux"):
        assert interface_of("127.0.0.1") == "lo"


def test_the_error_of_another_host_waits_for_host_0_to_be_done_with_the_same_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = {"nodes": 2, "node_rank": 1, "rendezvous": "alpha:1"}
    config = train_config({"store": "store", "hosts": hosts, "micro_batch_size": 32})
    run, stopping = RunFolder(tmp_path, config, "fingerprint", "key"), threading.Event()

    def fails(holders: list[str | None]) -> list[str | None]:
        """Who is asked for in vain, of those that hold the folder one after the other."""
        left = iter(holders)
        monkeypatch.setattr(launch, "holder_of", lambda _: next(left))
        with pytest.raises(TrainingError), launch.host_0_first(run, stopping):
            raise TrainingError("a rank failed")
        return [*left]

    monkeypatch.setattr(launch, "_POLL_SECONDS", 0)
    assert fails(["more"]) == ["more"]  # without a launcher
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "alpha"}.items():
        monkeypatch.setenv(name, value)
    assert fails(["since 1", "since 1", "since 1", None, "more"]) == ["more"]
    assert fails(["since 1", "since 1", "since 2", "more"]) == ["more"]  # it tries again
    assert fails([None, "more"]) == ["more"]  # it was killed
    with monkeypatch.context() as patch:
        patch.setattr(launch, "has_locks", lambda _: False)
        assert fails(["more"]) == ["more"]
    stopping.set()
    assert fails(["since 1", "since 1", "more"]) == ["more"]
