"""Training on two hosts, gloo over the cable between them, with a run folder that both see."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hosts import Host, Hosts, two_hosts
from processes import TRAIN, rank_processes
from run_folder import curve_of, last_of, samples_of
from trainings import train_config

from quickdraw_core.launching.train import train
from quickdraw_core.store.store import Store
from quickdraw_core.training.config import TrainConfig

TIMEOUT_S = 20
MARGIN_S = 20
"""That ranks may take to end after the time-out, on a machine that has other work."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


def config_of(store: Store, run_dir: Path, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "store": store.path,
        "run_dir": run_dir,
        "tracking.uri": "none",
        "epochs": 3,
        "image.side_px": 24,
        "global_batch_size": 32,
        "micro_batch_size": 16,
        "tracking.log_every_steps": 1,
        "validation.every_steps": 20,
        "checkpoints.every_steps": 4,
        "tracking.record_samples": True,
    }
    return train_config(values, **changes)


@pytest.fixture(scope="module")
def one_host(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks on one host, which nothing disturbs."""
    run_dir = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # more round otherwise
        train(config_of(store, run_dir))
    return run_dir


class Training:
    """The command on both hosts: started, watched, and ended by process id."""

    def __init__(self, hosts: Hosts, config: TrainConfig) -> None:
        self.hosts, self.config = hosts, config
        assert config.run_dir is not None
        self.run_dir = config.run_dir
        self.running: dict[int, subprocess.Popen[str]] = {}

    def start(self, *numbers: int) -> None:
        for number in numbers:
            host: Host = (self.hosts.first, self.hosts.second)[number]
            endpoint = f"{self.hosts.first.address}:29400"
            place = {"nodes": 2, "node_rank": number, "rendezvous": endpoint}
            config = self.config.updated({"hardware": {"ranks": 1}, "hosts": place})
            self.running[number] = subprocess.Popen(
                host.command(sys.executable, "-c", TRAIN, config.model_dump_json()),
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while not condition():
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in self.running.values())
            time.sleep(0.005)

    def end(self, number: int, seconds: float = 200) -> tuple[int, str]:
        """Exit code and last line of a host's command."""
        process = self.running.pop(number)
        try:
            _, words = process.communicate(timeout=seconds)
        finally:
            process.kill()
        return process.returncode, (words.strip().splitlines() or [""])[-1]

    def attempt(self) -> str:
        return str(json.loads((self.run_dir / "hosts" / "attempt.json").read_text())["id"])

    def steps(self) -> int:
        path = self.run_dir / "journal.jsonl"
        return path.read_bytes().count(b'"train/loss"') if path.exists() else 0

    def stop(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def training(hosts: Hosts, store: Store, tmp_path: Path) -> Iterator[Training]:
    started = Training(
        hosts, config_of(store, tmp_path / "run", hardware={"timeout_seconds": TIMEOUT_S})
    )
    yield started
    started.stop()


def assert_same_run(run_dir: Path, one_host: Path) -> None:
    """Losses, validations and samples of each step, once each, and the weights."""
    assert curve_of(run_dir) == curve_of(one_host)
    assert samples_of(run_dir) == samples_of(one_host)
    assert last_of(run_dir).metrics == last_of(one_host).metrics
    assert last_of(run_dir).weights_sha256 == last_of(one_host).weights_sha256


def ended_within(training: Training, numbers: Sequence[int], seconds: float) -> list[str]:
    """The last words of the commands, all of which fail in time and leave no rank behind."""
    deadline = time.monotonic() + seconds
    words = []
    for number in numbers:
        code, last = training.end(number, max(1.0, deadline - time.monotonic()))
        assert code != 0
        words.append(last)
    assert not rank_processes(training.run_dir)
    return words


def test_a_host_cut_off_ends_both_in_time_and_both_go_on_when_started_again(
    training: Training, hosts: Hosts, one_host: Path
) -> None:
    training.start(1, 0)  # in any order
    training.until(lambda: training.steps() >= 6)
    first = training.attempt()
    hosts.cut()
    try:
        words = ended_within(training, (0, 1), TIMEOUT_S + MARGIN_S)
    finally:
        hosts.mend()
    for last in words:
        assert "another host did not answer for 20 s" in last
    assert training.steps() < len(samples_of(one_host)) / 2
    training.start(0, 1)
    assert training.end(0)[0] == 0
    assert training.end(1)[0] == 0
    assert training.attempt() != first
    assert_same_run(training.run_dir, one_host)


@pytest.mark.soak
def test_a_cut_shorter_than_the_time_out_costs_time_alone(
    training: Training, hosts: Hosts, one_host: Path
) -> None:
    training.start(0, 1)
    training.until(lambda: training.steps() >= 6)
    hosts.cut()
    time.sleep(5)
    hosts.mend()
    assert training.end(0)[0] == 0
    assert training.end(1)[0] == 0
    assert_same_run(training.run_dir, one_host)


@pytest.mark.soak
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_crashed_alone_waits_for_the_others_next_attempt(
    training: Training, hosts: Hosts, one_host: Path, victim: int
) -> None:
    """The cable is out when it crashes, so that the other learns nothing of it."""
    other = 1 - victim
    training.start(0, 1)
    training.until(lambda: training.steps() >= 6)
    first = training.attempt()
    hosts.cut()
    training.running[victim].kill()
    assert training.end(victim)[0] != 0
    hosts.mend()  # the machine is there again, and its command is started
    training.start(victim)
    assert training.end(other, TIMEOUT_S + MARGIN_S)[0] != 0
    assert training.running[victim].poll() is None  # it has not come into the old attempt
    assert training.attempt() == first
    training.start(other)
    assert training.end(0)[0] == 0
    assert training.end(1)[0] == 0
    assert training.attempt() != first
    assert_same_run(training.run_dir, one_host)


@pytest.mark.soak
def test_what_an_attempt_left_behind_deceives_nobody(
    training: Training, hosts: Hosts, one_host: Path
) -> None:
    """A host killed while it waits, and a word of host 0 to one that is gone."""
    training.start(1)
    waiting = training.run_dir / "hosts" / "host-1.json"
    training.until(waiting.exists)
    training.running[1].kill()
    training.end(1)
    left = waiting.read_text()
    training.start(0)
    training.until((training.run_dir / "run.json").exists)
    time.sleep(5)
    assert waiting.read_text() == left
    assert not (training.run_dir / "hosts" / "attempt.json").exists()
    training.start(1)
    assert training.end(0)[0] == 0
    assert training.end(1)[0] == 0
    assert_same_run(training.run_dir, one_host)
    training.start(1)  # where all is done, nobody waits
    assert training.end(1)[0] == 0
