"""Real probes: what they measure, that they leave nothing, and a budget of minutes by one."""

import os
import re
import tempfile
from pathlib import Path

import pytest
from run_folder import curve_of, last_of
from trainings import train_config
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import CheckpointError
from quickdraw_core.launching import train as training
from quickdraw_core.launching.estimate import steps_within
from quickdraw_core.launching.probe import PROBE_STEPS, Probe
from quickdraw_core.launching.room import checkpoint_bytes
from quickdraw_core.launching.train import train
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.plan import Rows
from quickdraw_core.training.run_folder import RunFolder

pytestmark = [pytest.mark.services, pytest.mark.forked]
STEPS = 12


def tree(folder: Path) -> dict[str, int]:
    """All that is in a folder, the files with the time of their last change."""
    return {
        str(path): 0 if path.is_dir() else path.stat().st_mtime_ns for path in folder.rglob("*")
    }


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and beside it that of temporary files."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in [name for name in os.environ if name.startswith("MLFLOW_TRACKING")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def config_of(store: Store, run_dir: Path, **changes: object) -> TrainConfig:
    values = {"store": store.path, "run_dir": run_dir, "tracking.uri": "none", "model": "net"}
    values |= {"image.side_px": 24, "image.encoding": "gray", "tracking.log_every_steps": 1}
    values |= {"global_batch_size": 64, "micro_batch_size": 32, "checkpoints.every_steps": 4}
    return train_config(values | {"hardware.ranks": 1, "validation.every_steps": 5}, **changes)


def test_a_plan_measures_says_all_and_leaves_nothing(store: Store, elsewhere: Path) -> None:
    before = tree(elsewhere) | tree(store.path)
    words = f"train --plan --store {store.path} --set model=net --set image.side_px=24 --nproc 2"
    words += " --set global_batch_size=64 --set micro_batch_size=32"
    done = CliRunner().invoke(app, words.split())
    assert done.exception is None, done.output
    assert tree(elsewhere) | tree(store.path) == before
    facts = dict(re.findall(r"^(\w+) +(\S.*)$", done.stdout, re.MULTILINE))
    told = {"run", "steps", "drawings", "validations", "checkpoints", "memory", "speed", "time"}
    assert told | {"disk"} <= {*facts}
    assert re.match(r"[\d,]+ images/s by 20 steps of \d+ ms", facts["speed"])
    assert re.match(r"[\d,.]+ MB a rank at most, 2 ranks on cpu", facts["memory"])


def test_a_plan_is_refused_where_another_run_is_in_the_way(store: Store, elsewhere: Path) -> None:
    train(config_of(store, Path("run"), max_steps=1))
    before = tree(elsewhere)
    words = f"train --plan --store {store.path} --run-dir run --nproc 1"
    done = CliRunner().invoke(app, words.split())
    assert isinstance(done.exception, CheckpointError)
    assert tree(elsewhere) == before


def test_the_steps_of_a_budget_of_minutes_are_fixed_when_the_run_begins(
    store: Store, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = list[Probe]()

    def twelve(config: TrainConfig, rows: Rows, probe: Probe, spent: float) -> int:
        assert spent > probe.seconds
        assert steps_within(config, rows, probe, spent) > STEPS
        probes.append(probe)
        return STEPS

    monkeypatch.setattr(training, "steps_within", twelve)
    run, same = elsewhere / "run", elsewhere / "same"
    config = config_of(store, run, max_minutes=60)
    assert train(config).steps == STEPS
    assert RunFolder.read(run).steps == STEPS
    train(config_of(store, same, max_steps=STEPS))
    assert curve_of(run) == curve_of(same)
    assert last_of(run).weights_sha256 == last_of(same).weights_sha256
    (probe,) = probes
    assert len(probe.step_seconds) == PROBE_STEPS
    least = checkpoint_bytes(config, len(store.label_map))
    assert least < probe.checkpoint_bytes < 1.1 * least + 50_000

    # What goes on has the recorded number, and asks for no other probe.
    last = find_checkpoint(run, "last")
    assert last is not None
    last.unlink()
    result = train(config)
    assert (result.resumed_from, result.steps, len(probes)) == (10, STEPS, 1)
    assert curve_of(run) == curve_of(same)
    assert last_of(run).weights_sha256 == last_of(same).weights_sha256
