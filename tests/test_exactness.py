"""Exactness: a run that is killed comes to the numbers of one that is not, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forkserver import real_python
from processes import TRAIN, launcher_process, rank_processes
from run_folder import curve_of, last_of, samples_of
from trainings import train_config

from quickdraw_core.launching.train import train
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig

pytestmark = [
    pytest.mark.services,  # long trainings
    pytest.mark.forked,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="finds processes in Linux's /proc"
    ),
]

VICTIMS = ("one rank", "all ranks", "launcher", "command")
NETWORKS: dict[str, dict[str, object]] = {
    "small_cnn": {},
    "sketch_fusion": {
        "model": {"name": "sketch_fusion", "flip_tta": True}
        | {"branch_drop_share": 0.2, "dropout": 0.5},
        "image.encoding": "order_points",
        "loss": {"name": "balanced_softmax", "tau": 0.7, "label_smoothing": 0.1},
        "optimizer.name": "muon",
        "augment": {"stroke_rotation_degrees": 6, "stroke_stretch": 0.1, "stroke_shift": 4}
        | {"warp": 8, "partial_share": 0.2},
        "validation.logit_adjustment": "log_loss_class_mean",
        "epochs": 1.2,
    },
}
"""What changes of `config_of`: as the recipes `laptop` and `laptop340` train, and all beside."""


def config_of(store: Store, run_dir: Path, **changes: object) -> TrainConfig:
    """A run of many small steps, with all that has a state of its own: dropout, augmentation,
    batch norm, momentum, running average, class balance.
    """
    values: dict[str, object] = {
        "store": store.path,
        "run_dir": run_dir,
        "tracking.uri": "none",
        "epochs": 4,
        "image.side_px": 24,
        "global_batch_size": 32,
        "micro_batch_size": 8,
        "optimizer": "adamw",
        "optimizer.learning_rate": 0.002,
        "optimizer.ema_decay": 0.95,
        "optimizer.clip_norm": 1.0,
        "augment": {"stroke_drop_share": 0.1, "point_noise": 2},
        "select": {"class_balance": 0.5},
        "tracking.log_every_steps": 1,
        "validation.every_steps": 9,
        "checkpoints.every_steps": 3,
        "tracking.record_samples": True,
        "hardware.loader_threads": 2,
    }
    return train_config(values, **changes)


def assert_same_run(one: Path, other: Path) -> None:
    assert curve_of(one) == curve_of(other)
    assert samples_of(one) == samples_of(other)
    first, second = last_of(one), last_of(other)
    assert (first.step, first.validations) == (second.step, second.validations)
    assert first.weights_sha256 == second.weights_sha256
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(value, second.weights[key]) for key, value in first.weights.items())


@pytest.fixture(scope="module")
def teacher(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `sketch_fusion` of a few steps."""
    run_dir = tmp_path_factory.mktemp("teacher")
    train(config_of(store, run_dir, **NETWORKS["sketch_fusion"] | {"epochs": 0.2}))
    return run_dir


def changes_of(network: str, request: pytest.FixtureRequest) -> dict[str, object]:
    """Its row of NETWORKS; `sketch_fusion` learns from a teacher as well."""
    if network != "sketch_fusion":
        return NETWORKS[network]
    return NETWORKS[network] | {"distill.teachers": [request.getfixturevalue("teacher")]}


@pytest.fixture(scope="module", params=NETWORKS)
def whole(
    request: pytest.FixtureRequest, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    """A run that nothing disturbs, and what its network changes of `config_of`."""
    run_dir = tmp_path_factory.mktemp("whole")
    changes = changes_of(request.param, request)
    train(config_of(store, run_dir, **changes))
    return run_dir, changes


def steps_of(run_dir: Path) -> int:
    """Steps that a run has written down so far."""
    path = run_dir / "journal.jsonl"
    return path.read_bytes().count(b'"train/loss"') if path.exists() else 0


def kill_at(
    run_dir: Path, config: TrainConfig, step: int, victim: str, python: str = sys.executable
) -> bool:
    """Starts the command, kills `victim` when `step` more steps are done; False: it was done."""
    goal = steps_of(run_dir) + step
    command = [python, "-c", TRAIN, config.model_dump_json()]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while steps_of(run_dir) < goal and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        ranks, launcher = rank_processes(run_dir), launcher_process(run_dir)
        pids = {
            "one rank": ranks[-1:],
            "all ranks": ranks,
            "launcher": [launcher] if launcher else [],
            "command": [process.pid],
        }[victim]
        for pid in pids if process.poll() is None else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        code = process.wait(300)
    deadline = time.monotonic() + 60
    while rank_processes(run_dir):  # none outlives launcher or command
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return code != 0


def test_a_run_killed_once_comes_to_the_same_bit_for_bit(
    whole: tuple[Path, dict[str, object]], store: Store, tmp_path: Path
) -> None:
    config = config_of(store, tmp_path, **whole[1])
    assert kill_at(tmp_path, config, 10, "all ranks")
    result = train(config)
    assert result.resumed_from >= 9
    assert_same_run(tmp_path, whole[0])


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_at_random_moments_comes_to_the_same_bit_for_bit(
    whole: tuple[Path, dict[str, object]], store: Store, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    config = config_of(store, tmp_path, **whole[1])
    kills = 0
    # Each attempt is killed a few steps further on than a save comes, so that the run gets on.
    while last_step(tmp_path) < last_of(whole[0]).step - 8:
        victim = VICTIMS[kills % len(VICTIMS)] if kills < 4 else rng.choice(VICTIMS)
        kills += kill_at(tmp_path, config, rng.randint(3, 7), victim, real_python())
    train(config)
    assert kills >= 2  # the shortest of them has fewer steps
    assert_same_run(tmp_path, whole[0])


def last_step(run_dir: Path) -> int:
    path = find_checkpoint(run_dir, "last")
    return load_checkpoint(path).step if path else 0


@pytest.mark.parametrize("network", NETWORKS)
def test_any_number_of_ranks_sees_the_same_samples_and_the_same_loss(
    network: str, store: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    steady = changes_of(network, request) | {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.001,
    }
    steady |= {"optimizer.ema_decay": None, "epochs": 0.7}
    for ranks in (1, 2, 4):
        train(config_of(store, tmp_path / str(ranks), hardware={"ranks": ranks}, **steady))
    alone = samples_of(tmp_path / "1")
    steps = last_of(tmp_path / "1").step
    assert set(alone) == {(step, part) for step in range(steps) for part in range(4)}
    losses = {key: v for key, v in curve_of(tmp_path / "1").items() if key[1] == "train/loss"}
    for ranks in ("2", "4"):
        assert samples_of(tmp_path / ranks) == alone
        found = curve_of(tmp_path / ranks)
        assert {key: found[key] for key in losses} == pytest.approx(losses, rel=1e-4)
