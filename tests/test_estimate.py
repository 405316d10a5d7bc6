"""What a training will take: its counts, its time with an interval, the steps of a budget."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from trainings import train_config

from quickdraw_core.errors import ConfigError
from quickdraw_core.launching.estimate import duration_of, estimate, steps_within
from quickdraw_core.launching.probe import PROBE_STEPS, Probe, own_folder, probing_config
from quickdraw_core.launching.summary import estimate_facts, estimate_markdown
from quickdraw_core.launching.train import _steps_by
from quickdraw_core.system.locks import held
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.loop import due
from quickdraw_core.training.plan import Every, Plan, Rows, steps_of

PROBE = Probe((0.1, 0.12) * 10, 5.0, 0.001, 12_300_000, 0.5, 612.0, 9.0)
ROWS = Rows(np.arange(128 * 50), np.arange(400), [1_600] * 4, 50)


def config_of(**values: object) -> TrainConfig:
    return train_config({"store": "store", "run_dir": "run"}, **values)


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 60), st.integers(0, 400))
def test_validations_and_checkpoints_are_those_that_the_loop_does(
    steps: int, validate: int, save: int, done: int
) -> None:
    assume(done < steps)
    values = {"every_steps": validate}
    every = Every.of(config_of(validation=values, checkpoints={"every_steps": save}), 50, steps)
    validated = [s for s in range(1, steps + 1) if due(s, every.validate, steps)]
    saved = [s for s in range(1, steps + 1) if due(s, every.save, steps) or s in validated]
    assert every.validations(steps) == len(validated)
    assert every.checkpoints(steps) == len(saved)
    assert every.validations_until(done) == sum(s <= done for s in validated)
    assert every.checkpoints_until(done) == sum(s <= done for s in saved)


def test_the_interval_holds_the_time_of_the_steps_19_times_of_20() -> None:
    rng, steps = np.random.default_rng(1), 500
    held = []
    for _ in range(2_000):
        times = rng.normal(0.1, 0.02, PROBE_STEPS + steps)
        probe = replace(PROBE, step_seconds=tuple(times[:PROBE_STEPS].tolist()))
        rest = times[PROBE_STEPS:].sum()
        held.append(abs(steps * probe.step_mean - rest) <= probe.half_width(steps))
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_the_time_is_that_of_steps_validations_checkpoints_and_start() -> None:
    config = config_of(epochs=4)
    whole = duration_of(config, ROWS, PROBE, 200)
    assert whole.validating == pytest.approx(4 * 400 * 0.001)
    assert whole.expected == pytest.approx(200 * 0.11 + whole.validating + 4 * 0.5 + 5)
    assert whole.low < whole.expected < whole.high
    left = duration_of(config, ROWS, PROBE, 200, done=100)
    assert left.expected == pytest.approx(100 * 0.11 + 2 * 0.4 + 2 * 0.5 + 5)


@given(st.floats(0.4, 3_000), st.integers(1, 500))
def test_a_budget_of_minutes_has_all_steps_that_end_within_it(minutes: float, every: int) -> None:
    config = config_of(max_minutes=minutes, validation={"every_steps": every})
    steps, seconds = steps_within(config, ROWS, PROBE), 60 * minutes - PROBE.seconds
    assert duration_of(config, ROWS, PROBE, steps).high <= seconds
    assert duration_of(config, ROWS, PROBE, steps + 1).high > seconds


def test_a_budget_that_does_not_hold_one_step_is_refused_with_one_that_does() -> None:
    with pytest.raises(ConfigError, match=r"max_minutes=0\.2 is too short.* give 0\.3 or more"):
        steps_within(config_of(max_minutes=0.2), ROWS, PROBE)
    assert steps_within(config_of(max_minutes=0.3), ROWS, PROBE) >= 1
    with pytest.raises(ConfigError, match=r"the probe took 9 s, what came before it 20 s, and"):
        steps_within(config_of(max_minutes=0.3), ROWS, PROBE, 29.0)
    whole = steps_within(config_of(max_minutes=2), ROWS, PROBE)
    assert steps_within(config_of(max_minutes=2.5), ROWS, PROBE, PROBE.seconds + 30) == whole


def test_waiting_for_gpus_takes_nothing_of_a_budget() -> None:
    config, waited = config_of(max_minutes=2), replace(PROBE, waited_seconds=1_000.0)
    begun = time.perf_counter() - PROBE.seconds - 1_000
    steps = _steps_by(config, ROWS, lambda: waited, begun)
    assert steps == pytest.approx(steps_within(config, ROWS, PROBE), abs=20)


def test_a_probe_differs_in_nothing_that_its_speed_depends_on() -> None:
    config = config_of(
        max_minutes=3, select={"per_class": 9}, optimizer={"name": "muon", "ema_decay": 0.9},
        model={"name": "resnet18", "pretrained": "imagenet"}, tracking={"uri": "sqlite:///x.db"},
        hardware={"ranks": 1}, schedule={"name": "multistep", "warmup_steps": 500},
    )  # fmt: skip
    probing = probing_config(config, Path("there"), classes=340)
    same = {"image", "select", "augment", "loss", "hardware", "seed", "micro_batch_size"}
    assert probing.model_dump(include=same) == config.model_dump(include=same)
    changed = probing.optimizer.model_copy(update={"learning_rate": 0.01})
    assert changed == config.optimizer
    assert (probing.model.name, probing.model.pretrained) == ("resnet18", None)
    assert (probing.run_dir, probing.tracking.uri) == (Path("there"), "none")
    assert probing.validation.per_class == 2
    assert steps_of(probing, 1) == 1 + PROBE_STEPS
    place = {"nodes": 2, "rendezvous": "a:1", "node_rank": 0}
    of_two = config.updated({"hosts": place, "global_batch_size": 256})
    assert probing_config(of_two, Path("there"), 340).shape == probing.shape


def test_what_killed_probes_left_is_deleted_before_the_next_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, at_work, begun, older, another = (
        tmp_path / name
        for name in (*(f"quickdraw-probe-{n}" for n in ("k", "w", "b", "o")), "quickdraw-x")
    )
    for folder in (killed, at_work, begun, older, another):
        (folder / "checkpoints").mkdir(parents=True)
    (killed / ".probe").touch()
    os.utime(older, (0, 0))
    os.utime(another, (0, 0))
    with held(at_work / ".probe", "it", "probe"), own_folder() as own:
        assert set(tmp_path.iterdir()) == {at_work, begun, another, own}
    assert set(tmp_path.iterdir()) == {at_work, begun, another}


def test_a_probe_that_is_terminated_leaves_nothing_and_ends_by_the_signal(tmp_path: Path) -> None:
    code = (
        "import sys, tempfile, time\nfrom quickdraw_core.launching.probe import own_folder\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "with own_folder() as path:\n    print(path, flush=True)\n    time.sleep(20)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    assert folder.parent == tmp_path
    assert not folder.exists()


def test_an_estimate_says_all_that_was_asked_for(tmp_path: Path) -> None:
    config = config_of(epochs=4, validation={"patience": 2})
    facts = estimate_facts(estimate(config, tmp_path / "run", ROWS, 4, PROBE, done=150))
    assert list(facts) == [
        *("run", "steps", "drawings", "validations", "checkpoints", "memory", "speed", "time"),
        "disk",
    ]
    assert facts["run"].endswith("run (goes on from step 150)")
    assert facts["steps"] == "200 of 128 drawings: 4 epochs of 50 steps"
    one = replace(ROWS, steps_an_epoch=1)
    small = estimate_facts(estimate(config_of(max_steps=1), tmp_path / "run", one, 4, PROBE))
    assert small["steps"] == "1 of 128 drawings: 1 epoch of 1 step"
    assert small["validations"] == "1, every 1 step"
    assert facts["drawings"].startswith("6,400 of 4 classes to train on, 400 to validate on (100")
    assert facts["validations"].startswith("1, every 50 steps; 2 without a better one end")
    assert facts["checkpoints"].startswith("1 of 12.3 MB, kept are the latest 2 and the best")
    assert facts["memory"].startswith("612.0 MB a rank at most, 2 ranks on ")
    assert facts["speed"] == "1,164 images/s by 20 steps of 110 ms (100 to 120)"
    assert facts["time"].startswith("11 s, 95 % interval 11 s to 12 s; 0 s of it validates")
    assert facts["disk"].startswith("checkpoints, model for MLflow and copies in MLflow need ")
    untracked = config.updated({"tracking": {"uri": "none"}})
    kept = estimate_facts(estimate(untracked, tmp_path / "run", ROWS, 4, PROBE, done=150))
    assert kept["disk"].startswith("checkpoints need 49.2 MB, ")
    finished = estimate_facts(estimate(config, tmp_path / "run", ROWS, 4, None, 200, done=200))
    assert finished["run"].endswith("run (finished)")
    assert finished["disk"] == "nothing is left to be written"
    assert not {"validations", "checkpoints"} & set(finished)
    begun = estimate_facts(estimate(config, tmp_path / "run", ROWS, 4, recorded_steps=200))
    assert begun["run"].endswith("run (begun, without a checkpoint yet: from step 0)")
    pages = estimate_markdown(estimate(config, tmp_path / "run", ROWS, 4))
    assert "| time |" not in pages
    assert "speed and memory are measured by quickdraw train --plan" in pages


def test_steps_that_depend_on_a_probe_are_not_known_without(tmp_path: Path) -> None:
    config = config_of(max_minutes=30)
    unknown = estimate_facts(estimate(config, tmp_path, ROWS, 4))
    assert (
        unknown["steps"] == "as many of 128 drawings as 30 minutes allow by a probe at the start"
    )
    known = estimate_facts(estimate(config, tmp_path, ROWS, 4, recorded_steps=1_000))
    assert known["steps"].startswith("1,000 of 128 drawings: 20 epochs of 50 steps, as 30 minutes")


@pytest.mark.parametrize(
    ("values", "changes", "budget"),
    [
        ({}, {}, ("epochs", 20)),
        ({}, {"max_steps": 7}, ("max_steps", 7)),
        ({"epochs": 3}, {"max_minutes": 1.5}, ("max_minutes", 1.5)),
        ({"max_minutes": 2}, {"epochs": 3}, ("epochs", 3)),
        ({"max_steps": 2}, {"max_steps": None, "epochs": 3}, ("epochs", 3)),
        ({"epochs": 3}, {"max_steps": "none"}, ("epochs", 3)),
    ],
)
def test_the_later_word_says_how_long_to_train(
    values: dict[str, object], changes: dict[str, object], budget: tuple[str, float]
) -> None:
    config = TrainConfig.parse(values).updated(changes)
    for same in (config, TrainConfig.parse(config.model_dump(mode="json"))):
        given = same.model_dump(include={"epochs", "max_steps", "max_minutes"}, exclude_none=True)
        assert given == dict([budget])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 3, "max_steps": 9}, r"^epochs=3 and max_steps=9 each say how long to train; "),
        ({"max_steps": 9, "max_minutes": 1}, r"give one of epochs, max_steps, max_minutes$"),
        ({"epochs": None}, r"^nothing says how long to train; give one of epochs, max_steps"),
        ({"max_steps": 0}, r"option 'max_steps': .*greater than or equal to 1"),
        ({"max_minutes": True}, r"option 'max_minutes': must be a number"),
    ],
)
def test_budgets_that_contradict_each_other_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig().updated(values)


def test_the_budget_decides_which_run_it_is_and_the_schedule_scales_to_it() -> None:
    budgets = [{"epochs": 2}, {"max_steps": 100}, {"max_minutes": 1}, {"max_minutes": 2}]
    assert len({config_of(**budget).identity("store", "code") for budget in budgets}) == 4
    for steps in (10, 1_000):
        plan = Plan.of(config_of(max_steps=steps, schedule="cosine"), ROWS)
        assert (plan.steps, plan.factor(steps // 2)) == (steps, pytest.approx(0.5))
    assert Plan.of(config_of(max_minutes=1), ROWS, 77).steps == 77
    with pytest.raises(ConfigError, match=r"schedule\.warmup_steps of 0 to 77, found 78"):
        Plan.of(config_of(max_minutes=1, schedule={"warmup_steps": 78}), ROWS, 77)
